--- Checks of what people hand over: named values against a list of parameters, with messages that
-- name the value, what was expected and the nearest name there is.
local auth = require "moonflow.auth"
local error = require "moonflow.error"

local check = {}

--- A parameter, as signatures, client options and plugin fields declare them.
---@class moonflow.Param
---@field name string
---@field type string key of `check.types`
---@field required? boolean
---@field doc string

--- What each type accepts, and how a message names it.
check.types = {
    any = {
        doc = "any value",
        test = function(value)
            return value ~= nil
        end,
    },
    boolean = {
        doc = "true or false",
        test = function(value)
            return type(value) == "boolean"
        end,
    },
    count = {
        doc = "an integer of at least 0",
        test = function(value)
            return math.type(value) == "integer" and value >= 0
        end,
    },
    headers = {
        doc = "a table from header names to strings or secrets",
        test = function(value)
            if type(value) ~= "table" then
                return false
            end
            for name, content in pairs(value) do
                local plain = type(content) == "string" or type(content) == "table" or auth.is_secret(content)
                if type(name) ~= "string" or not plain then
                    return false
                end
            end
            return true
        end,
    },
    secret = {
        doc = "a string or a secret",
        test = function(value)
            return type(value) == "string" or auth.is_secret(value)
        end,
    },
    seconds = {
        doc = "a number of seconds above 0",
        test = function(value)
            return type(value) == "number" and value > 0 and value < math.huge
        end,
    },
    string = {
        doc = "a string",
        test = function(value)
            return type(value) == "string"
        end,
    },
    table = {
        doc = "a table",
        test = function(value)
            return type(value) == "table"
        end,
    },
    ["function"] = {
        doc = "a function",
        test = function(value)
            return type(value) == "function"
        end,
    },
    ["string or function"] = {
        doc = "a string or a function",
        test = function(value)
            return type(value) == "string" or type(value) == "function"
        end,
    },
}

local MAX_DISTANCE = 2

--- Edit distance of two words, a swap of neighbours counted as one; gives up beyond MAX_DISTANCE.
local function distance(a, b)
    if math.abs(#a - #b) > MAX_DISTANCE then
        return MAX_DISTANCE + 1
    end
    local before, previous = {}, {}
    for j = 0, #b do
        previous[j] = j
    end
    for i = 1, #a do
        local row = { [0] = i }
        for j = 1, #b do
            local same = a:byte(i) == b:byte(j)
            row[j] = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
            if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
        before, previous = previous, row
    end
    return previous[#b]
end

--- The one of `names` that is most like `word`, or nil where none is within two edits.
---@param word string
---@param names string[]
---@return string?
function check.nearest(word, names)
    local best, best_distance = nil, math.min(MAX_DISTANCE + 1, #word)
    for _, name in ipairs(names) do
        local d = distance(word:lower(), name:lower())
        if d < best_distance then
            best, best_distance = name, d
        end
    end
    return best
end

--- A value for a message: short, on one line.
---@param value any
---@return string
function check.show(value)
    if type(value) == "string" then
        local text = auth.redact(value)
        return ("%q"):format(#text > 40 and text:sub(1, 37) .. "..." or text):gsub("[%c\\]+", " ")
    elseif type(value) == "number" or type(value) == "boolean" or value == nil then
        return tostring(value)
    end
    return "a " .. type(value)
end

--- The names of a list of parameters.
---@param params moonflow.Param[]
---@return string[]
function check.names_of(params)
    local names = {}
    for i, param in ipairs(params) do
        names[i] = param.name
    end
    return names
end

--- The keys of a table, in order, for messages.
---@param set table
---@return string[]
function check.sorted_keys(set)
    local names = {}
    for name in next, set do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

--- The hint for an unknown name.
---@param word any
---@param names string[]
---@return string
function check.hint(word, names)
    local near = type(word) == "string" and check.nearest(word, names)
    if near then
        return ("did you mean %q?"):format(near)
    elseif #names == 0 then
        return "there are none"
    end
    return "known: " .. table.concat(names, ", ")
end

--- Raises the usage error for a name that is no parameter.
---@param word any
---@param params moonflow.Param[]
---@param what string for the message: "an argument of predict"
---@param kind? string default "usage"
function check.unknown(word, params, what, kind)
    error.raise {
        kind = kind or "usage",
        message = ("%s is not %s"):format(check.show(word), what),
        hint = check.hint(word, check.names_of(params)),
    }
end

--- Raises where a value is not of its parameter's type.
---@param param moonflow.Param
---@param value any
---@param what string for the message: "argument"
---@param kind? string default "usage"
function check.value(param, value, what, kind)
    if not check.types[param.type].test(value) then
        error.raise {
            kind = kind or "usage",
            message = ("%s %q must be %s, got %s"):format(what, param.name, check.types[param.type].doc,
                check.show(value)),
        }
    end
end

--- Puts an index from names to parameters beside a list of parameters, and the test of its type into
--- each as `accepts`. Checks the list itself.
---@param params moonflow.Param[]
---@return moonflow.Param[] params the same list
function check.index(params)
    for _, param in ipairs(params) do
        if type(param) ~= "table" or type(param.name) ~= "string" or not check.types[param.type] then
            error.raise { kind = "usage", message = "a parameter needs a name and one of the types of moonflow.check" }
        end
        params[param.name] = param
        param.accepts = check.types[param.type].test
    end
    return params
end

return check
