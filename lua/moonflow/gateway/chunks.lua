--- Streamed answers: pieces that a handler or a target gives, made chunks of the protocol. Chunks pass as they
-- came; a text or a part of a message becomes one; what ends the answer is added where it is missing.
local check = require "moonflow.check"
local json = require "moonflow.json"
local whole = require "moonflow.gateway.whole"

local has, null = whole.has, json.null
local raise = _G.error

local chunks = {}

---@class moonflow.Chunks
---@field endpoint table
---@field inputs table
---@field kind moonflow.AnswerKind
---@field send fun(chunk: table) what gets every chunk
---@field wants_usage boolean whether a last chunk has the usage
---@field null_usage? any what the others have as usage
---@field sent integer chunks so far
local Chunks = {}
Chunks.__index = Chunks

--- The chunks of one answer.
---@param endpoint table
---@param inputs table
---@param options {usage: boolean, null_usage: boolean} whether a last chunk has the usage, and whether all others
--- have `usage: null`
---@param send fun(chunk: table) may wait
---@return moonflow.Chunks
function chunks.new(endpoint, inputs, options, send)
    local kind = whole.kinds[endpoint.endpoint_type]
    return setmetatable({
        endpoint = endpoint,
        inputs = inputs,
        kind = kind,
        send = send,
        wants_usage = options.usage,
        null_usage = options.null_usage and null or nil,
        id = whole.new_id(kind),
        created = os.time(),
        model = endpoint.model.name,
        sent = 0,
        words = 0,
        open = {},  -- choices that have begun and not ended, by their indices
        calls = {}, -- those that call tools
    }, Chunks)
end

--- Sends a chunk of our own.
local function send_own(self, choices, usage)
    self.sent = self.sent + 1
    self.send {
        id = self.id, object = self.kind.chunk, created = self.created, model = self.model,
        choices = choices, usage = usage == nil and self.null_usage or usage,
    }
end

local function send_choice(self, choice)
    send_own(self, json.array { choice })
end

--- Counts the words of a text that comes in pieces.
local function count(self, text)
    if self.wants_usage and type(text) == "string" and text ~= "" then
        self.words = self.words + whole.words(text, self.in_word)
        self.in_word = text:find("%S$", -1) ~= nil
    end
end

local function finish_choice(self, index, reason)
    if not has(reason) then
        reason = self.calls[index] and "tool_calls" or "stop"
    end
    self.open[index] = nil
    local choice = { index = index, finish_reason = reason }
    if self.kind.part == "text" then
        choice.text = ""
    else
        choice.delta = {}
    end
    send_choice(self, choice)
end

--- The calls of a delta, each with the index that tells it from the others.
local function indexed(calls)
    local list = json.array {}
    for i = 1, #calls do
        local call = {}
        for name, value in next, calls[i] do
            call[name] = value
        end
        call.index = call.index or i - 1
        list[i] = call
    end
    return list
end

--- Sends a part of a message; the first one of a choice says whose it is.
local function send_delta(self, index, delta)
    local calls = delta.tool_calls
    if type(calls) == "table" then
        delta.tool_calls = indexed(calls)
        self.calls[index] = true
    end
    if not self.open[index] then
        delta.role = delta.role or "assistant"
        self.open[index] = true
    end
    count(self, delta.content)
    send_choice(self, { index = index, delta = delta, finish_reason = null })
end

local function send_text(self, index, text)
    self.open[index] = true
    count(self, text)
    send_choice(self, { index = index, text = text, finish_reason = null })
end

local function add_text(self, text)
    if self.kind.part == "text" then
        return send_text(self, 0, text)
    end
    return send_delta(self, 0, { content = text })
end

--- Adds a table without choices: a part of a message, why the answer ended, or what it cost.
local function add_part(self, piece)
    local delta, choice, rest = whole.split(piece)
    local index = has(choice.index) and choice.index or 0
    local text = self.kind.part == "text" and type(rest.text) == "string" and rest.text
    if type(rest.usage) == "table" then
        self.usage = rest.usage
    elseif not (text or delta or has(choice.finish_reason)) then
        raise("a part of a stream must be a string, or a table with content, choices, finish_reason or usage", 0)
    end
    if text then
        send_text(self, index, text)
    elseif delta then
        send_delta(self, index, delta)
    end
    if has(choice.finish_reason) then
        finish_choice(self, index, choice.finish_reason)
    end
end

--- Sends a whole answer as chunks: for each choice its content, then why it ended.
local function add_whole(self, answer)
    if self.sent == 0 then
        self.id, self.created, self.model = answer.id, answer.created, answer.model
    end
    self.usage = answer.usage
    for i = 1, #answer.choices do
        local choice = answer.choices[i]
        if self.kind.part == "text" then
            send_text(self, choice.index, choice.text)
        else
            send_delta(self, choice.index, choice.message)
        end
        finish_choice(self, choice.index, choice.finish_reason)
    end
end

--- A chunk that came without some of what chunks have.
local function filled(self, piece)
    local chunk = { id = self.id, object = self.kind.chunk, created = self.created, model = self.model }
    for name, value in next, piece do
        if has(value) then
            chunk[name] = value
        end
    end
    chunk.choices = json.array {}
    for i = 1, #piece.choices do
        local choice = {}
        for name, value in next, piece.choices[i] do
            choice[name] = value
        end
        choice.index = choice.index or i - 1
        chunk.choices[i] = choice
    end
    return chunk
end

local function is_complete(piece)
    local first = piece.choices[1]
    return piece.id and piece.object and piece.created and piece.model and piece.id ~= null and piece.object ~= null
        and piece.created ~= null and piece.model ~= null and (not first or first.index)
end

--- Passes a chunk on.
local function add_chunk(self, piece)
    local chunk = is_complete(piece) and piece or filled(self, piece)
    local choices, open = chunk.choices, self.open
    for i = 1, #choices do
        local choice = choices[i]
        local reason = choice.finish_reason
        open[choice.index] = (reason == nil or reason == null) or nil
    end
    if has(chunk.usage) then
        self.has_usage = true
    end
    self.passes_on = true
    self.id, self.created, self.model = chunk.id, chunk.created, chunk.model
    self.sent = self.sent + 1
    self.send(chunk)
end

--- Whether a table has the choices of a whole answer.
local function is_whole(piece)
    local first = piece.choices[1]
    return type(first) == "table" and type(first.message) == "table" and first.delta == nil
end

--- Adds a piece: a text, a part of a message, a chunk, or a whole answer.
---@async
---@param piece any
function Chunks:add(piece)
    if type(piece) == "string" then
        add_text(self, piece)
    elseif type(piece) ~= "table" then
        raise("a part of a stream must be a string or a table, got " .. check.show(piece), 0)
    elseif type(piece.choices) ~= "table" then
        add_part(self, piece)
    elseif is_whole(piece) then
        add_whole(self, whole.complete(self.endpoint, piece, self.inputs))
    else
        add_chunk(self, piece)
    end
end

--- Takes what a handler says of its answer when all of its pieces are out; their text is not sent again.
local function take_rest(self, value)
    if type(value) ~= "table" then
        return nil
    end
    self.usage = type(value.usage) == "table" and value.usage or self.usage
    local first = type(value.choices) == "table" and value.choices[1]
    return type(first) == "table" and first.finish_reason or value.finish_reason
end

local function send_usage(self)
    local usage = self.usage
    if not usage and not self.passes_on then
        usage = whole.usage(whole.words_asked(self.inputs), self.words)
    end
    if usage then
        send_own(self, json.array {}, usage)
    end
end

--- Ends the answer.
---@async
---@param value any what the handler returned: the whole answer where no piece came before
function Chunks:finish(value)
    local reason
    if self.sent == 0 then
        add_whole(self, whole.complete(self.endpoint, value, self.inputs))
    else
        reason = take_rest(self, value)
    end
    for _, index in ipairs(check.sorted_keys(self.open)) do
        finish_choice(self, index, reason)
    end
    if self.wants_usage and not self.has_usage then
        send_usage(self)
    end
end

return chunks
