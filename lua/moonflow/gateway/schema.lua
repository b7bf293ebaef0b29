--- Checks the inputs of a query as MLflow's gateway does, and says what is wrong in the form of pydantic:
-- a list of {type, loc, msg, input}.
local json = require "moonflow.json"

local schema = {}

local ARRAY = getmetatable(json.array {})

local function is_list(value)
    return type(value) == "table" and (getmetatable(value) == ARRAY or #value > 0)
end

local function add(faults, kind, loc, message, input, context)
    faults[#faults + 1] = {
        type = kind, loc = json.array { "body", table.unpack(loc) }, msg = message, input = input, ctx = context,
    }
end

local checks = {}

function checks.text(faults, loc, value)
    if type(value) ~= "string" then
        add(faults, "string_type", loc, "Input should be a valid string", value)
    end
end

function checks.boolean(faults, loc, value)
    if type(value) ~= "boolean" then
        add(faults, "bool_type", loc, "Input should be a valid boolean", value)
    end
end

local function check_least(faults, loc, value, least)
    if value < least then
        add(faults, "greater_than_equal", loc, ("Input should be greater than or equal to %d"):format(least), value,
            { ge = least })
    end
end

function checks.count(faults, loc, value)
    if type(value) ~= "number" or not math.tointeger(value) then
        add(faults, "int_type", loc, "Input should be a valid integer", value)
    else
        check_least(faults, loc, value, 1)
    end
end

function checks.temperature(faults, loc, value)
    if type(value) ~= "number" then
        add(faults, "float_type", loc, "Input should be a valid number", value)
    elseif value > 2 then
        add(faults, "less_than_equal", loc, "Input should be less than or equal to 2", value, { le = 2.0 })
    else
        check_least(faults, loc, value, 0)
    end
end

local function check_list(faults, loc, value)
    if not is_list(value) then
        add(faults, "list_type", loc, "Input should be a valid list", value)
        return false
    elseif #value == 0 then
        add(faults, "too_short", loc, "List should have at least 1 item after validation, not 0", value,
            { field_type = "List", min_length = 1, actual_length = 0 })
        return false
    end
    return true
end

function checks.texts(faults, loc, value)
    if check_list(faults, loc, value) then
        for i, one in ipairs(value) do
            checks.text(faults, { loc[1], i - 1 }, one)
        end
    end
end

function checks.messages(faults, loc, value)
    if not check_list(faults, loc, value) then
        return
    end
    for i, message in ipairs(value) do
        if type(message) ~= "table" or is_list(message) then
            add(faults, "model_attributes_type", { loc[1], i - 1 },
                "Input should be a valid dictionary or object to extract fields from", message)
        elseif message.role == nil then
            add(faults, "missing", { loc[1], i - 1, "role" }, "Field required", message)
        else
            checks.text(faults, { loc[1], i - 1, "role" }, message.role)
        end
    end
end

function checks.input(faults, loc, value)
    if type(value) ~= "string" and not is_list(value) then
        add(faults, "string_type", { loc[1], "str" }, "Input should be a valid string", value)
    end
end

local COMMON = {
    { "temperature", "temperature" }, { "n", "count" }, { "stop", "texts" }, { "max_tokens", "count" },
    { "stream", "boolean" },
}

local KINDS = {
    ["llm/v1/chat"] = { "messages", "messages", COMMON },
    ["llm/v1/completions"] = { "prompt", "text", COMMON },
    ["llm/v1/embeddings"] = { "input", "input", {} },
}

--- What is wrong with the inputs for an endpoint of this type; nil where nothing is.
-- @tparam string endpoint_type
-- @param inputs a decoded body
-- @treturn table|nil
function schema.faults(endpoint_type, inputs)
    local faults = json.array {}
    local required, check, common = table.unpack(KINDS[endpoint_type])
    if type(inputs) ~= "table" or is_list(inputs) then
        add(faults, "model_attributes_type", {},
            "Input should be a valid dictionary or object to extract fields from", inputs)
        return faults
    end
    for _, row in ipairs(common) do
        local value = inputs[row[1]]
        if value ~= nil and value ~= json.null then
            checks[row[2]](faults, { row[1] }, value)
        end
    end
    if inputs[required] == nil then
        add(faults, "missing", { required }, "Field required", inputs)
    else
        checks[check](faults, { required }, inputs[required])
    end
    return faults[1] and faults or nil
end

--- The fault of a body that is not there, or is no JSON.
-- @tparam string body
-- @treturn table
function schema.unreadable(body)
    if body == "" then
        local missing = { type = "missing", loc = json.array { "body" }, msg = "Field required", input = json.null }
        return json.array { missing }
    end
    return json.array { {
        type = "json_invalid", loc = json.array { "body", 0 }, msg = "JSON decode error", input = {},
        ctx = { error = "the body is no JSON" },
    } }
end

return schema
