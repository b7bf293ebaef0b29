--- Queries of endpoints. Those of the served file are answered as everywhere else; those that were created here
-- have no model: they answer by the rules of the demonstration, and a custom model with the sum of each row.
local answer = require "moonflow.gateway.answer"
local demo = require "moonflow.gateway.demo"
local faults = require "moonflow.gateway.faults"
local json = require "moonflow.json"
local limits = require "moonflow.gateway.limits"
local quota = require "moonflow.workspace.quota"
local reply = require "moonflow.workspace.reply"
local schema = require "moonflow.gateway.schema"
local sys = require "moonflow.sys"
local whole = require "moonflow.gateway.whole"

local refuse = reply.refuse

local query = {}

local BODY_MAX = 16 * 1024 * 1024
local TASKS = { messages = "llm/v1/chat", prompt = "llm/v1/completions", input = "llm/v1/embeddings" }
local TABLES = { "dataframe_split", "dataframe_records", "instances", "inputs" }
local OWN_FIELDS = { "client_request_id", "usage_context", "extra_params", "databricks_options", "model" }

local handlers = {}
for _, endpoint in ipairs(demo) do
    handlers[endpoint.endpoint_type] = endpoint.handler
end

local function misuse(message, ...)
    refuse("INVALID_PARAMETER_VALUE", message, ...)
end

--- Which way of asking a body has: exactly one.
local function family_of(inputs)
    local found
    local function look(name)
        if inputs[name] ~= nil then
            if found then
                misuse("Only one kind of inputs may be given, not %s and %s.", found, name)
            end
            found = name
        end
    end
    for _, name in ipairs { "messages", "prompt", "input" } do
        look(name)
    end
    for _, name in ipairs(TABLES) do
        look(name)
    end
    return found or misuse("The request needs one of messages, prompt, input, dataframe_split, dataframe_records, "
        .. "instances and inputs.")
end

local function check_list(value, what)
    if type(value) ~= "table" or not json.is_array(value) then
        misuse("%s must be a list", what)
    end
    return value
end

--- The rows of columns with names.
local function rows_of_columns(columns)
    local rows, count = {}, nil
    for name, column in next, columns do
        check_list(column, "each column of inputs")
        count = count or #column
        if #column ~= count then
            misuse("the columns of inputs must have the same length")
        end
        for i, value in ipairs(column) do
            rows[i] = rows[i] or {}
            rows[i][name] = value
        end
    end
    return rows
end

local function rows_of_split(given)
    if type(given) ~= "table" then
        misuse("dataframe_split must be an object")
    end
    local rows = check_list(given.data, "dataframe_split.data")
    local width = given.columns ~= nil and #check_list(given.columns, "dataframe_split.columns") or nil
    for i, row in ipairs(rows) do
        check_list(row, "each row of dataframe_split.data")
        if width and #row ~= width then
            misuse("row %d of dataframe_split.data has %d values for %d columns", i - 1, #row, width)
        end
    end
    return rows
end

local function rows_of(inputs, family)
    local given = inputs[family]
    if family == "dataframe_split" then
        return rows_of_split(given)
    elseif family == "inputs" and type(given) == "table" and not json.is_array(given) then
        return rows_of_columns(given)
    end
    return check_list(given, family)
end

--- The sum of all numbers in a value.
local function sum(value)
    if type(value) == "number" then
        return value + 0.0
    end
    local total = 0.0
    if type(value) == "table" then
        for _, inner in next, value do
            total = total + sum(inner)
        end
    end
    return total
end

--- The answer of a custom model.
local function predict(inputs, family)
    local predictions = json.array {}
    for i, row in ipairs(rows_of(inputs, family)) do
        local total = sum(row)
        if total ~= total or math.abs(total) == math.huge then
            misuse("the sum of row %d is no number", i - 1)
        end
        predictions[i] = total
    end
    return reply.ok { predictions = predictions }
end

--- The entity that a query goes to: the one that is named, or one by its share of the traffic.
local function choose(endpoint, served)
    local config = endpoint.active
    if served then
        return config.by_name[served] or refuse("RESOURCE_DOES_NOT_EXIST",
            "The endpoint '%s' has no served model with the name '%s'.", endpoint.name, served)
    end
    local place = sys.random() * 100
    for _, route in ipairs(config.routes) do
        place = place - route.traffic_percentage
        if place < 0 then
            return config.by_name[route.served_entity_name]
        end
    end
end

--- The number of words, or of tokens, in the input of embeddings.
local function words_of_input(input)
    if type(input) ~= "table" then
        return whole.words(input)
    end
    local count = 0
    for _, part in ipairs(input) do
        count = count + (type(part) == "number" and 1 or words_of_input(part))
    end
    return count
end

--- A handler whose words are counted.
local function counted(handler, spend)
    return function(inputs, stream)
        spend(whole.words_asked(inputs) + words_of_input(inputs.input))
        local value = handler(inputs, stream and function(piece)
            spend(whole.words(piece))
            stream(piece)
        end)
        if type(value) == "string" then
            spend(whole.words(value))
        end
        return value
    end
end

--- What is answered to the body of a query that `schema` knows.
local function respond(endpoint, inputs, list_of_faults)
    for _, name in ipairs(OWN_FIELDS) do
        inputs[name] = nil
    end
    local status, headers, body
    if list_of_faults and list_of_faults[1] then
        status, headers, body = faults.wrap(list_of_faults, "openai", answer.respond, endpoint, inputs, "openai")
    else
        status, headers, body = answer.respond(endpoint, inputs, "openai")
    end
    if status and status >= 400 and type(body) == "string" then
        return reply.translate(status, headers, body)
    end
    return status, headers, body
end

local function read_task(task, body)
    local inputs, _, detail = schema.read("openai", task, body)
    if not inputs then
        refuse("BAD_REQUEST", "Bad request: " .. schema.describe(detail))
    end
    return inputs
end

--- Asks an endpoint that was created here.
---@param endpoint table
---@param body string
---@param who table
---@param served? string name of an entity
function query.created(endpoint, body, who, served)
    if not endpoint.active then
        if endpoint.update == "UPDATE_FAILED" then
            refuse("INVALID_STATE", "The endpoint '%s' serves nothing: its deployment failed.", endpoint.name)
        end
        refuse("TEMPORARILY_UNAVAILABLE", "The endpoint '%s' is not ready yet.", endpoint.name)
    end
    local entity = choose(endpoint, served)
    local inputs = reply.read(body, BODY_MAX)
    local family = family_of(inputs)
    local task = TASKS[family]
    if endpoint.active.task and endpoint.active.task ~= task then
        misuse("An endpoint of the task %s can not be asked with %s.", endpoint.active.task, family)
    end
    local spend_calls = quota.take(endpoint.legacy_counters or {}, endpoint.name, who)
    local spend_tokens = quota.take(endpoint.counters or {}, endpoint.name, who)
    entity.asked = (entity.asked or 0) + 1
    local status, headers, answered
    if task then
        local model = { name = entity.external_model and entity.external_model.name or entity.name,
            provider = "moonflow" }
        local handler = counted(handlers[task], function(words)
            spend_calls(words)
            spend_tokens(words)
        end)
        status, headers, answered = respond({
            name = endpoint.name, endpoint_type = task, model = model, produce = handler, faults = {},
        }, read_task(task, body))
    else
        status, headers, answered = predict(inputs, family)
    end
    if headers then
        headers["served-model-name"] = entity.name
    end
    return status, headers, answered
end

--- Asks an endpoint of the served file.
---@param endpoint table of `moonflow.gateway`
---@param request moonflow.ServerRequest
function query.served(endpoint, request)
    local counter = endpoint.counter
    local inputs = read_task(endpoint.endpoint_type, request.body)
    if counter then
        local remaining, seconds = limits.take(counter, request.peer)
        if not remaining then
            reply.refuse_with({ ["Retry-After"] = ("%d"):format(math.max(1, math.ceil(seconds))) },
                "REQUEST_LIMIT_EXCEEDED", "REQUEST_LIMIT_EXCEEDED: Exceeded rate limit of " .. counter.text)
        end
    end
    local status, headers, body = respond(endpoint, inputs, endpoint.faults)
    if headers then
        headers["served-model-name"] = endpoint.name
    end
    return status, headers, body
end

return query
