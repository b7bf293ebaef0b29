--- The chunks of a streamed answer: the text that one adds, and the whole answer that they add up to.
--
--     for chunk in client:predict_stream { endpoint = "gpt-4", inputs = inputs } do
--         io.write(chat.text(chunk))
--     end
--
-- Takes the chunks of chat completions, of completions and of the Responses API, and what servers
-- make of them: tool calls without an index, ids repeated in every chunk, usage in every chunk.
local check = require "moonflow.check"
local collector = require "moonflow.collector"
local error = require "moonflow.error"
local json = require "moonflow.json"

local null = json.null
local next, type = next, type
local ordinary_text = require("moonflow._chat").text

local chat = {}

local function text_of_choice(choice)
    local message = type(choice.delta) == "table" and choice.delta or choice.message
    if type(message) == "table" then
        return collector.text_of(message.content)
    end
    return type(choice.text) == "string" and choice.text or ""
end

--- The text of a whole answer of the Responses API.
local function text_of_response(response)
    local pieces = {}
    local output = type(response.output) == "table" and response.output or {}
    for i = 1, #output do
        local content = type(output[i]) == "table" and output[i].content
        for j = 1, type(content) == "table" and #content or 0 do
            local part = content[j]
            if type(part) == "table" and part.type == "output_text" and type(part.text) == "string" then
                pieces[#pieces + 1] = part.text
            end
        end
    end
    return table.concat(pieces)
end

--- The text that a chunk adds to an answer. Of several choices only the one with index 0 counts.
-- A whole answer gives its text.
---@param chunk any
---@return string text "" where there is none, whatever the chunk is
function chat.text(chunk)
    local text = ordinary_text(chunk)
    if text then
        return text
    elseif type(chunk) ~= "table" then
        return ""
    end
    local choices = chunk.choices
    if type(choices) == "table" then
        for i = 1, #choices do
            local choice = choices[i]
            if type(choice) == "table" then
                local index = choice.index
                if index == 0 or i == 1 and (index == nil or index == null) then
                    return text_of_choice(choice)
                end
            end
        end
        return ""
    elseif chunk.type == "response.output_text.delta" then
        return type(chunk.delta) == "string" and chunk.delta or ""
    end
    return chunk.object == "response" and text_of_response(chunk) or ""
end

--- A new collector: `add` it every chunk, ask for the `result` at any time.
---@return moonflow.Collector
chat.collector = collector.new

local function refuse(stream)
    error.raise {
        kind = "usage",
        message = ("chat.collect takes a stream, an iterator or a list of chunks, got %s"):format(check.show(stream)),
    }
end

--- Reads a stream to its end and returns the whole answer. What the stream raises passes through.
---@async
---@param stream function|table what `predict_stream` returns, an iterator, or a list of chunks
---@param state? any as the `for` loop takes them behind an iterator, and so are the next two
---@param control? any
---@param closing? any
---@return table? answer see `Collector:result`; nil where there was no chunk
function chat.collect(stream, state, control, closing)
    local metatable = type(stream) == "table" and getmetatable(stream)
    metatable = type(metatable) == "table" and metatable or {}
    local is_iterator = type(stream) == "function" or metatable.__call ~= nil
    if not is_iterator and (type(stream) ~= "table" or stream[1] == nil and next(stream) ~= nil) then
        refuse(stream)
    end
    local collected = collector.new()
    if not is_iterator then
        for i = 1, #stream do
            collected:add(stream[i])
        end
        return collected:result()
    end
    -- A stream collects its chunks itself.
    local own = type(stream) == "table" and type(stream.collected) == "function"
    closing = closing or metatable.__close and stream or nil
    for chunk in stream, state, control, closing do
        if not own then
            collected:add(chunk)
        end
    end
    return (own and stream:collected() or collected):result()
end

return chat
