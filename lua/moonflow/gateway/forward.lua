--- Endpoints that are passed on: to any target that moonflow speaks to, one of several by weight, and to others
-- where it fails.
--
-- A request is sent once, unless the target's options say otherwise: the client that waits repeats its requests
-- itself, and two that repeat multiply. What the client sent as its own credential stays here.
local deployments = require "moonflow.deployments"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local target = require "moonflow.target"
local text = require "moonflow.text"

local null = require("moonflow.json").null
local raise = _G.error

local forward = {}

local MESSAGE_MAX = 300 -- bytes of a failure in the log

-- The client's own mistakes: another target would refuse them too.
local MISTAKES = { [400] = true, [405] = true, [413] = true, [415] = true, [422] = true }
local NOT_THE_TARGETS = { usage = true, cancelled = true }

local FAILED = {
    network = "the target can not be reached",
    timeout = "the target did not answer in time",
    auth = "the target's credential can not be had",
    decode = "the target's answer can not be read",
    config = "the target is not set up",
}

--- What an answer must have.
local CONTENT = {
    ["llm/v1/chat"] = "choices", ["llm/v1/completions"] = "choices", ["llm/v1/embeddings"] = "data",
}

local function client_options(given)
    local options = { max_retries = 0 }
    for name, value in next, given or {} do
        options[name] = value
    end
    return options
end

--- A target with its client.
local function open_route(endpoint, given)
    local ok, client = pcall(deployments.get_deploy_client, given.target, client_options(given.options))
    if not ok then
        if error.is(client) then
            client.kind, client.message = "config", ("endpoint %s: %s"):format(endpoint.name, client.message)
        end
        raise(client, 0)
    end
    local parts = target.parse(given.target)
    local params = client.signatures.predict.params
    return {
        client = client,
        endpoint = given.endpoint,
        weight = given.weight or 1,
        shown = ("%s at %s"):format(given.endpoint, text.one_line(tostring(client), MESSAGE_MAX)),
        task = params.task and endpoint.endpoint_type, -- else the client has to guess it from the inputs
        -- such a client asks for base64 and makes numbers of it that decimals would not have been
        wants_floats = parts.name == "openai" and endpoint.endpoint_type == "llm/v1/embeddings",
    }
end

--- The targets to try, in order: one by its weight, then those that stand in.
local function choose(routes)
    local order, point = {}, math.random() * routes.weight
    for _, route in ipairs(routes) do
        point = point - route.weight
        if point < 0 then
            order[1] = route
            break
        end
    end
    order[1] = order[1] or routes[#routes]
    return table.move(routes.fallbacks, 1, #routes.fallbacks, 2, order)
end

--- What is sent on. The target's endpoint is the model, and its client asks for a stream in its own way.
local function inputs_for(route, inputs)
    local sent = {}
    for name, value in next, inputs do
        sent[name] = value
    end
    sent.model, sent.stream = nil, nil
    if route.wants_floats and (sent.encoding_format == nil or sent.encoding_format == null) then
        sent.encoding_format = "float"
    end
    return sent
end

local function refuse_answer(route, what)
    error.raise { kind = "decode", message = ("%s sent %s"):format(route.shown, what) }
end

local function ask(route, endpoint, inputs)
    local answer = route.client:predict { endpoint = route.endpoint, inputs = inputs_for(route, inputs),
        task = route.task }
    local content = CONTENT[endpoint.endpoint_type]
    if type(answer) ~= "table" or type(answer[content]) ~= "table" then
        refuse_answer(route, ("an answer without %q"):format(content))
    end
    return answer
end

--- Passes the chunks on, as they come. The loop closes the stream, however it ends.
local function ask_stream(route, inputs, emit)
    local client = route.client
    for chunk in client:predict_stream { endpoint = route.endpoint, inputs = inputs_for(route, inputs),
        task = route.task } do
        if type(chunk) ~= "table" or type(chunk.choices) ~= "table" then
            refuse_answer(route, "a chunk without choices")
        end
        emit(chunk)
    end
end

--- What a provider says of its failure, or nil.
local function words_of(body)
    if type(body) ~= "table" then
        return nil
    end
    local fault = type(body.error) == "table" and body.error or body
    for _, said in ipairs { fault.message or false, body.error or false, body.detail or false } do
        if type(said) == "string" and said ~= "" then
            return said
        end
    end
    return nil
end

--- How long the provider wants to be left alone: a number of seconds as it came, or nil.
local function retry_after(client)
    local response = client:last_response()
    local wanted = response and response.headers["retry-after"]
    return wanted and #wanted < 10 and wanted:match("^%d+$")
end

--- A failure as the client may hear of it: with the provider's own words. Addresses and settings of the target
-- are told in the log alone.
local function told(endpoint, route, failure)
    if not error.is(failure) or not (failure.http_status or FAILED[failure.kind]) then
        return failure
    end
    local words = failure.http_status and words_of(failure.body)
    if not words then
        notice.say(("endpoint %s: %s failed: %s"):format(endpoint.name, route.shown,
            text.one_line(failure.message, MESSAGE_MAX)))
        words = failure.http_status and ("the target answered %d"):format(failure.http_status) or FAILED[failure.kind]
    end
    return error.new {
        kind = failure.kind,
        error_code = failure.error_code,
        http_status = failure.http_status,
        message = words,
        retry_after = failure.http_status and retry_after(route.client) or nil,
        cause = failure,
    }
end

--- Whether another target may not fail in this way.
local function is_the_targets(failure)
    return error.is(failure) and not NOT_THE_TARGETS[failure.kind] and not MISTAKES[failure.http_status]
end

--- Makes the function that passes requests for an endpoint on. A failure that another target may not have goes
-- on to the targets marked as fallbacks, one after the other; that of a stream only before its first chunk.
---@param endpoint table name, endpoint_type, targets: a list of {target, endpoint, options?, weight?, fallback?}
---@return fun(inputs: table, emit?: fun(piece: table)): table? produce
function forward.produce(endpoint)
    local routes = { weight = 0, fallbacks = {} }
    for _, given in ipairs(endpoint.targets) do
        local route = open_route(endpoint, given)
        if given.fallback then
            table.insert(routes.fallbacks, route)
        else
            routes[#routes + 1] = route
            routes.weight = routes.weight + route.weight
        end
    end

    return function(inputs, emit)
        local order, sent = choose(routes), 0
        local function count(chunk)
            sent = sent + 1
            emit(chunk)
        end
        for i, route in ipairs(order) do
            local ok, result
            if emit then
                ok, result = pcall(ask_stream, route, inputs, count)
                if ok and sent == 0 then
                    ok, result = pcall(refuse_answer, route, "a stream without chunks")
                end
            else
                ok, result = pcall(ask, route, endpoint, inputs)
            end
            if ok then
                return result
            elseif sent > 0 or not order[i + 1] or not is_the_targets(result) then
                raise(told(endpoint, route, result), 0)
            end
            notice.say(("endpoint %s: %s failed, %s is next: %s"):format(endpoint.name, route.shown,
                order[i + 1].shown, text.one_line(result.message, MESSAGE_MAX)))
        end
    end
end

return forward
