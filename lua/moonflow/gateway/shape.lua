--- Answers as MLflow's gateway gives them: it drops what its models do not name, and writes null for what
-- is missing (mlflow/gateway/schemas).
local json = require "moonflow.json"
local whole = require "moonflow.gateway.whole"

local encode, has, null = whole.to_json, whole.has, json.null

local shape = {}

local function or_null(value)
    if value == nil then
        return null
    end
    return value
end

--- The calls of a message, or of a delta, whose calls have an index.
local function tool_calls(given, is_delta)
    if type(given) ~= "table" then
        return null
    end
    local calls = json.array {}
    for i = 1, #given do
        local call = given[i]
        local fn = type(call["function"]) == "table" and call["function"] or {}
        calls[i] = {
            index = is_delta and (call.index or i - 1) or nil,
            id = or_null(call.id),
            type = is_delta and or_null(call.type) or call.type or "function",
            ["function"] = { name = or_null(fn.name), arguments = or_null(fn.arguments) },
            thought_signature = call.thought_signature ~= null and call.thought_signature or nil,
        }
    end
    return calls
end

local function chat_choice(choice)
    local message = choice.message
    return {
        index = choice.index,
        message = {
            role = message.role,
            content = or_null(message.content),
            tool_calls = tool_calls(message.tool_calls),
            refusal = or_null(message.refusal),
        },
        finish_reason = or_null(choice.finish_reason),
    }
end

local function text_choice(choice)
    return { index = choice.index, text = or_null(choice.text), finish_reason = or_null(choice.finish_reason) }
end

local function chat_part(choice)
    local delta = type(choice.delta) == "table" and choice.delta or {}
    return {
        index = choice.index,
        finish_reason = or_null(choice.finish_reason),
        delta = {
            role = or_null(delta.role),
            content = or_null(delta.content),
            tool_calls = tool_calls(delta.tool_calls, true),
        },
    }
end

local function map(list, fn)
    local mapped = json.array {}
    for i = 1, #list do
        mapped[i] = fn(list[i])
    end
    return mapped
end

local function chat_usage(usage)
    if type(usage) ~= "table" then
        return null
    end
    local shown = {}
    for name, value in next, usage do -- this one model allows more fields
        shown[name] = value
    end
    for _, name in ipairs { "prompt_tokens", "completion_tokens", "total_tokens" } do
        shown[name] = or_null(shown[name])
    end
    if shown.prompt_tokens_details == null then
        shown.prompt_tokens_details = nil
    end
    return shown
end

local function text_usage(usage)
    return type(usage) == "table" and {
        prompt_tokens = or_null(usage.prompt_tokens),
        completion_tokens = or_null(usage.completion_tokens),
        total_tokens = or_null(usage.total_tokens),
    } or null
end

local function item(given)
    return { object = "embedding", embedding = given.embedding, index = given.index }
end

--- The form of a chat's answers, whole or in parts, of which only the choices differ.
local function chat_form(choice)
    return function(answer, provider)
        return {
            id = or_null(answer.id), object = answer.object, created = answer.created, model = answer.model,
            choices = map(answer.choices, choice), usage = chat_usage(answer.usage), provider = provider,
        }
    end
end

--- The form of completions, whole or in parts, of which only the object differs.
local function text_form(object)
    return function(answer)
        return {
            id = or_null(answer.id), object = object, created = answer.created, model = answer.model,
            choices = map(answer.choices, text_choice), usage = text_usage(answer.usage),
        }
    end
end

local function embeddings_form(answer)
    local usage = answer.usage
    return {
        object = "list", data = map(answer.data, item), model = answer.model,
        usage = { prompt_tokens = or_null(usage.prompt_tokens), total_tokens = or_null(usage.total_tokens) },
    }
end

local wholes = {
    ["llm/v1/chat"] = chat_form(chat_choice),
    ["llm/v1/completions"] = text_form("text_completion"),
    ["llm/v1/embeddings"] = embeddings_form,
}

local parts = {
    ["llm/v1/chat"] = chat_form(chat_part),
    ["llm/v1/completions"] = text_form("text_completion_chunk"),
}

--- A whole answer, complete, in MLflow's form.
---@param endpoint table
---@param answer table
---@return table
function shape.whole(endpoint, answer)
    return wholes[endpoint.endpoint_type](answer, endpoint.model.provider)
end

--- The text of a chunk that is ordinary: a piece of text for one choice of a chat; else nil.
local function ordinary_text(chunk)
    local choices = chunk.choices
    local choice = choices[1]
    local delta = choice and choices[2] == nil and choice.delta
    if type(delta) ~= "table" or type(delta.content) ~= "string" or has(choice.finish_reason)
        or has(delta.tool_calls) or has(chunk.usage) then
        return nil
    end
    return delta.content, choice.index, delta.role
end

--- An event up to the text of its chunk, in the order of MLflow's fields.
local function event_front(chunk, index, role)
    return ('data: {"id":%s,"object":%s,"created":%s,"model":%s,"choices":[{"index":%s,"finish_reason":null,'
        .. '"delta":{"role":%s,"content":'):format(encode(or_null(chunk.id)), encode(chunk.object),
        encode(chunk.created), encode(chunk.model), encode(index), encode(or_null(role)))
end

--- Makes a function that writes the chunks of one stream as events in MLflow's form. Most of them differ from the
-- one before in their text alone: the rest is written once.
---@param endpoint table
---@return fun(chunk: table): string
function shape.writer(endpoint)
    local provider, part = endpoint.model.provider, parts[endpoint.endpoint_type]
    local is_chat = endpoint.endpoint_type == "llm/v1/chat"
    local back = ',"tool_calls":null}}],"usage":null,"provider":' .. encode(provider) .. "}\n\n"
    local front, id, object, created, model, index, role
    return function(chunk)
        local text, of, by
        if is_chat then
            text, of, by = ordinary_text(chunk)
        end
        if not text then
            return "data: " .. encode(part(chunk, provider)) .. "\n\n"
        elseif of ~= index or by ~= role or chunk.id ~= id or chunk.model ~= model or chunk.created ~= created
            or chunk.object ~= object or not front then
            front = event_front(chunk, of, by)
            id, object, created, model, index, role = chunk.id, chunk.object, chunk.created, chunk.model, of, by
        end
        return front .. encode(text) .. back
    end
end

return shape
