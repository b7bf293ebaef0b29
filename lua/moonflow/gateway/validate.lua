--- Checks of decoded JSON with the results of pydantic, on which MLflow's gateway rests: the same values are
-- taken or made fit, and the same faults are named. The types here are functions `type(value, report)` that
-- return the value as it is to be used.
local json = require "moonflow.json"
local scalar = require "moonflow.gateway.scalar"
local text = require "moonflow.text"

local math_type = math.type
local null = json.null
local is_array = json.is_array

local validate = {}

local FAULTS_MAX = 100   -- of one request
local SHOWN_MAX = 4096   -- bytes of an input that a fault shows
local WORD_MAX = 200     -- bytes of a name in a message

---@class moonflow.Report
---@field count integer faults found; the list may be shorter
---@field [integer] table {type, loc, msg, input, ctx}
---@field path any[] where in the body the value stands, up to `depth`
---@field depth integer
---@field edits table[] {table, key, value} to be made where the body is right
---@field quiet boolean whether faults are counted only

local Report = {}
Report.__index = Report

function Report:fault(kind, message, input, context)
    self.count = self.count + 1
    if not self.quiet and #self < FAULTS_MAX then
        local loc = json.array { "body" }
        table.move(self.path, 1, self.depth, 2, loc)
        self[#self + 1] = { type = kind, loc = loc, msg = message, input = input, ctx = context }
    end
end

--- Checks the value under a key of a table, one level below `depth`, where its place is set already.
function Report:check(check, owner, key)
    local value = owner[key]
    local used = check(value, self)
    if used ~= value or math_type(used) ~= math_type(value) then
        self.edits[#self.edits + 1] = { owner, key, used }
    end
end

--- Goes one level down. What is there then has its place in `path`.
function Report:enter(step)
    local depth = self.depth + 1
    self.depth = depth
    self.path[depth] = step
    return depth
end

function Report:leave()
    self.depth = self.depth - 1
end

--- Checks a value that has no place of its own, under a label.
function Report:check_labelled(check, value, label)
    self:enter(label)
    local used = check(value, self)
    self:leave()
    return used
end

--- Whether a value is right, and as what it is to be used; without a record of its faults.
local function passes(report, check, value)
    local count, edits, quiet = report.count, #report.edits, report.quiet
    report.quiet = true
    local used = check(value, report)
    report.quiet = quiet
    if report.count == count then
        return true, used
    end
    report.count = count
    for i = #report.edits, edits + 1, -1 do
        report.edits[i] = nil
    end
    return false
end

--- Whether no further fault would be told.
local function is_full(report)
    return report.quiet or #report >= FAULTS_MAX
end

local function is_object(value)
    return type(value) == "table" and not is_array(value)
end

--- An integer beyond those of Lua.
local function is_big(value)
    return type(value) == "userdata" and value ~= null
end

function validate.any(value)
    return value
end

function validate.string(value, report)
    if type(value) ~= "string" then
        report:fault("string_type", "Input should be a valid string", value)
    end
    return value
end

function validate.dict(value, report)
    if not is_object(value) then
        report:fault("dict_type", "Input should be a valid dictionary", value)
    end
    return value
end

function validate.boolean(value, report)
    if type(value) == "boolean" then
        return value
    end
    local read = scalar.boolean(value)
    if type(read) == "boolean" then
        return read
    elseif type(value) == "string" or type(value) == "number" and math.tointeger(value) then
        report:fault("bool_parsing", "Input should be a valid boolean, unable to interpret input", value)
    else
        report:fault("bool_type", "Input should be a valid boolean", value)
    end
    return value
end

--- The value as an integer; nil after its fault was named.
local function to_integer(value, report)
    if math.type(value) == "integer" or is_big(value) then
        return value
    elseif type(value) == "boolean" then
        return value and 1 or 0
    elseif type(value) == "number" then
        local whole = math.tointeger(value)
        if not whole and value == math.floor(value) then
            report:fault("int_parsing_size",
                "Unable to parse input string as an integer, exceeded maximum size", value)
        elseif not whole then
            report:fault("int_from_float",
                "Input should be a valid integer, got a number with a fractional part", value)
        end
        return whole
    elseif type(value) ~= "string" then
        report:fault("int_type", "Input should be a valid integer", value)
        return nil
    elseif #value > scalar.LENGTH_MAX then
        report:fault("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size", value)
        return nil
    end
    local read = scalar.integer(value)
    if not read then
        report:fault("int_parsing", "Input should be a valid integer, unable to parse string as an integer", value)
    end
    return read
end

local function to_number(value, report)
    if type(value) == "number" then
        return value
    elseif type(value) == "boolean" then
        return value and 1.0 or 0.0
    elseif is_big(value) then
        return tonumber(tostring(value))
    elseif type(value) ~= "string" then
        report:fault("float_type", "Input should be a valid number", value)
        return nil
    end
    local read = scalar.number(value)
    if not read then
        report:fault("float_parsing", "Input should be a valid number, unable to parse string as a number", value)
    end
    return read
end

--- An integer; one of at least `least` where that is given.
---@param least? integer
function validate.integer(least)
    local message = least and ("Input should be greater than or equal to %d"):format(least)
    return function(value, report)
        local read = to_integer(value, report)
        if read == nil then
            return value
        elseif least then
            local sized = is_big(read) and tonumber(tostring(read)) or read
            if sized < least then
                report:fault("greater_than_equal", message, value, { ge = least })
            end
        end
        return read
    end
end

--- A number; one within limits where these are given.
---@param least? integer
---@param most? integer
function validate.number(least, most)
    local too_small = least and ("Input should be greater than or equal to %d"):format(least)
    local too_large = most and ("Input should be less than or equal to %d"):format(most)
    return function(value, report)
        local read = to_number(value, report)
        if read == nil then
            return value
        elseif most and read > most then
            report:fault("less_than_equal", too_large, value, { le = most + 0.0 })
        elseif least and read < least then
            report:fault("greater_than_equal", too_small, value, { ge = least + 0.0 })
        end
        return read
    end
end

--- "'a', 'b' or 'c'"
local function in_words(names)
    local quoted = {}
    for i, name in ipairs(names) do
        quoted[i] = "'" .. name .. "'"
    end
    local last = table.remove(quoted)
    return #quoted > 0 and table.concat(quoted, ", ") .. " or " .. last or last
end

--- One of some words.
---@param names string[]
function validate.literal(names)
    local expected, known = in_words(names), {}
    for _, name in ipairs(names) do
        known[name] = true
    end
    return function(value, report)
        if type(value) ~= "string" or not known[value] then
            report:fault("literal_error", "Input should be " .. expected, value, { expected = expected })
        end
        return value
    end
end

--- A list of values of one type.
---@param item function
---@param has_some? boolean whether it may not be empty
function validate.list(item, has_some)
    return function(value, report)
        if not is_array(value) then
            report:fault("list_type", "Input should be a valid list", value)
            return value
        elseif has_some and #value == 0 then
            report:fault("too_short", "List should have at least 1 item after validation, not 0", value,
                { field_type = "List", min_length = 1, actual_length = 0 })
        end
        local count, path = report.count, report.path
        local depth = report:enter(0)
        for i = 1, #value do
            path[depth] = i - 1
            report:check(item, value, i)
            if report.count > count and is_full(report) then
                break
            end
        end
        report:leave()
        return value
    end
end

--- An object whose values are of one type.
---@param item function
function validate.map(item)
    return function(value, report)
        if not is_object(value) then
            report:fault("dict_type", "Input should be a valid dictionary", value)
            return value
        end
        local count = report.count
        for key in next, value do
            report:enter(text.one_line(key, WORD_MAX))
            report:check(item, value, key)
            report:leave()
            if report.count > count and is_full(report) then
                break
            end
        end
        return value
    end
end

--- A value that may be null, which counts as not given.
---@param check function
function validate.optional(check)
    return function(value, report)
        if value == null then
            return nil
        end
        return check(value, report)
    end
end

---@class moonflow.Field
---@field [1] string name
---@field [2] function type
---@field required? boolean

--- An object with some fields, which stand in the order in which their faults are named. What it has
--- besides stays as it is.
---@param fields moonflow.Field[]
function validate.model(fields)
    local names, checks, needed = {}, {}, {}
    for i, field in ipairs(fields) do
        names[i], checks[i], needed[i] = field[1], field[2], field.required
    end
    return function(value, report)
        if not is_object(value) then
            report:fault("model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from", value)
            return value
        end
        local path = report.path
        local depth = report:enter(nil)
        for i = 1, #names do
            local name = names[i]
            if value[name] ~= nil then
                path[depth] = name
                report:check(checks[i], value, name)
            elseif needed[i] then
                path[depth] = name
                report:fault("missing", "Field required", value)
            end
        end
        report:leave()
        return value
    end
end

-- The labels of all unions: they are no places in a body.
local labels = {}

--- A value of one of some types.
---@param members {[1]: string, [2]: function}[] a label for the place of a fault, and the type
---@param as_given? boolean whether a value stays as it is
function validate.union(members, as_given)
    for _, member in ipairs(members) do
        labels[member[1]] = true
    end
    return function(value, report)
        for i = 1, #members do
            local fits, used = passes(report, members[i][2], value)
            if fits then
                return as_given and value or used
            end
        end
        if report.quiet then
            report.count = report.count + 1
            return value
        end
        for i = 1, #members do
            report:check_labelled(members[i][2], value, members[i][1])
        end
        return value
    end
end

--- A value as Python's str() shows it, more or less: for the tag that a fault names.
local function tag_text(value)
    if value == null then
        return "None"
    elseif type(value) == "boolean" then
        return value and "True" or "False"
    end
    return text.one_line(type(value) == "string" and value or json.encode(value), WORD_MAX)
end

--- An object whose field `type` says which model it is of.
---@param tags string[]
---@param models table<string, function>
function validate.tagged(tags, models)
    local expected = in_words(tags):gsub(" or ", ", ")
    return function(value, report)
        if not is_object(value) then
            report:fault("model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from", value)
            return value
        end
        local tag = value.type
        if tag == nil then
            report:fault("union_tag_not_found", "Unable to extract tag using discriminator 'type'", value,
                { discriminator = "'type'" })
        elseif type(tag) ~= "string" or not models[tag] then
            local shown = tag_text(tag)
            report:fault("union_tag_invalid",
                ("Input tag '%s' found using 'type' does not match any of the expected tags: %s")
                :format(shown, expected), value,
                { discriminator = "'type'", tag = shown, expected_tags = expected })
        else
            return report:check_labelled(models[tag], value, tag)
        end
        return value
    end
end

--- A copy of a value for a fault, cut to a number of bytes.
local function cut(value, left)
    if type(value) == "string" then
        local shown = #value > left.bytes and text.clean(value, math.max(left.bytes, 0)) or value
        left.bytes = left.bytes - #shown
        return shown
    elseif type(value) ~= "table" then
        left.bytes = left.bytes - 8
        return value
    end
    local copy = is_array(value) and json.array {} or {}
    for key, item in next, value do
        if left.bytes <= 0 then
            break
        end
        left.bytes = left.bytes - (type(key) == "string" and #key or 0) - 4
        if type(key) ~= "string" or #key <= WORD_MAX then
            copy[key] = cut(item, left)
        end
    end
    return copy
end

--- Checks a decoded body. One that is right is made fit: null is taken out where it may stand, and numbers in
-- texts become numbers.
---@param check function
---@param body any
---@return table? faults nil where it is right; else an array of {type, loc, msg, input, ctx}
function validate.check(check, body)
    local report = setmetatable({ count = 0, path = {}, depth = 0, edits = {}, quiet = false }, Report)
    check(body, report)
    if report.count == 0 then
        for _, edit in ipairs(report.edits) do
            edit[1][edit[2]] = edit[3]
        end
        return nil
    end
    local faults = json.array {}
    for i = 1, #report do
        faults[i] = report[i]
        faults[i].input = cut(report[i].input, { bytes = SHOWN_MAX })
    end
    return faults
end

--- The place of a fault as OpenAI's clients know it, "messages[0].role".
---@param fault table
---@return string
function validate.place(fault)
    local place = ""
    for i = 2, #fault.loc do
        local step = fault.loc[i]
        if type(step) == "number" then
            place = ("%s[%d]"):format(place, step)
        elseif not labels[step] then
            place = place == "" and step or place .. "." .. step
        end
    end
    return place
end

return validate
