--- Endpoints that are Lua functions, for tests/conformance/serve_handlers.py: each form that an answer may have.

local error = require "moonflow.error"
local json = require "moonflow.json"
local task = require "moonflow.task"

local fail = _G.error
local CALL = { id = "call_1", type = "function", ["function"] = { name = "weather", arguments = '{"city":"Oslo"}' } }
local PIECES = { "One ", "two, ", "thr", "ee." }

local function last_text(inputs)
    return inputs.messages[#inputs.messages].content
end

--- Calls `stream` with each piece where there is one, else returns the whole.
local function in_pieces(_, stream)
    if not stream then
        return table.concat(PIECES)
    end
    for _, piece in ipairs(PIECES) do
        stream(piece)
    end
end

local chats = {}

function chats.text(inputs)
    return "You said: " .. last_text(inputs)
end

function chats.partial(inputs)
    return {
        choices = { { message = { content = last_text(inputs):upper() }, finish_reason = "length" } },
        usage = { prompt_tokens = 3, completion_tokens = 4, total_tokens = 7 },
    }
end

function chats.message()
    return { role = "assistant", content = json.null, tool_calls = { CALL } }
end

function chats.whole()
    return {
        id = "chatcmpl-mine", object = "chat.completion", created = 1700000000, model = "mine",
        choices = { { index = 0, message = { role = "assistant", content = "Whole." }, finish_reason = "stop" } },
        usage = { prompt_tokens = 1, completion_tokens = 1, total_tokens = 2 },
    }
end

chats.pieces = in_pieces

function chats.empty()
    return ""
end

function chats.unicode()
    return 'M\u{F6}\u{F6}n \u{1F319} "quoted" \\ \n\r\t \u{2028} data: [DONE]\n\n'
end

function chats.given(inputs, stream)
    local names = {}
    for name in pairs(inputs) do
        names[#names + 1] = name
    end
    table.sort(names)
    return ("%s; temperature %s, n %s; stream %s"):format(
        table.concat(names, " "), inputs.temperature, inputs.n, type(stream))
end

function chats.slow(inputs, stream)
    for i = 1, 4 do
        if stream then
            stream("piece " .. i)
        end
        task.sleep(0.25)
    end
    return not stream and last_text(inputs) or nil
end

function chats.raises()
    fail("a secret of the server")
end

chats["raises-status"] = function()
    error.raise { kind = "http", http_status = 418, message = "I am a teapot." }
end

chats["returns-number"] = function()
    return 7
end

chats["returns-nothing"] = function() end

chats["returns-nonsense"] = function()
    return { nonsense = true }
end

function chats.breaks(_, stream)
    stream("One ")
    stream("two")
    fail("a secret of the server")
end

chats.limited = chats.text

--- A vector by a simple rule: how long the text is, and how it begins.
local function vector(input)
    local text = type(input) == "table" and table.concat(input, " ") or tostring(input)
    return { #text + 0.0, (text:byte() or 0) / 256, -0.5 }
end

local function embed(inputs)
    local input = inputs.input
    if type(input) == "string" or math.type(input[1]) == "integer" then
        return vector(input)
    end
    local vectors = {}
    for i, one in ipairs(input) do
        vectors[i] = vector(one)
    end
    return vectors
end

local endpoints = {
    { name = "completion", endpoint_type = "llm/v1/completions", handler = in_pieces },
    { name = "embedding", endpoint_type = "llm/v1/embeddings", handler = embed },
}
for name, handler in pairs(chats) do
    endpoints[#endpoints + 1] = {
        name = name, endpoint_type = "llm/v1/chat", handler = handler,
        limit = name == "limited" and { calls = 2, renewal_period = "minute" } or nil,
    }
end
table.sort(endpoints, function(a, b)
    return a.name < b.name
end)
return endpoints
