--- Adds up the chunks of a stream to the answer that it would have been without streaming.
local delta = require "moonflow.delta"
local json = require "moonflow.json"
local responses_api = require "moonflow.responses_api"

local null = json.null
local build, filled, in_order, insert, is_list = delta.build, delta.filled, delta.in_order, delta.insert, delta.is_list
local joined, merge = delta.joined, delta.merge
local next, type = next, type
local add_ordinary = require("moonflow._chat").add

local collector = {}

local INDEX_MAX = 1000 -- choices from here on are sorted behind the others

--- The text of a message's content: a string, or a list of parts.
---@param content any
---@return string
function collector.text_of(content)
    if type(content) == "string" then
        return content
    elseif type(content) ~= "table" then
        return ""
    end
    local pieces = {}
    for i = 1, #content do
        local part = content[i]
        if type(part) == "table" and part.type == "text" and type(part.text) == "string" then
            pieces[#pieces + 1] = part.text
        end
    end
    return table.concat(pieces)
end

--- The content of a message: one string unless it has parts that are more than text, null where
-- there is none.
local function content_of(content, elsewhere)
    if type(content) == "table" and is_list(content) then
        for _, part in ipairs(content) do
            if type(part) ~= "table" or part.type ~= "text" then
                return content
            end
            for name in next, part do
                if name ~= "type" and name ~= "text" then
                    return content
                end
            end
        end
        content = filled(collector.text_of(content))
    end
    if content == nil or content == "" and elsewhere then
        return null
    end
    return content
end

--- A choice's message: what its deltas add up to; fields that none of them had, from the whole
-- message that some servers send along.
local function build_message(choice)
    local message = build(choice.message)
    local calls = choice.message.calls
    message.tool_calls = calls and calls.members[1] and delta.build_calls(calls) or nil
    for name, value in next, choice.whole or {} do
        if (message[name] == nil or message[name] == "") and value ~= null and type(name) == "string" then
            message[name] = value
        end
    end
    message.role = filled(message.role) or "assistant"
    local elsewhere = message.tool_calls or message.function_call or filled(message.refusal)
    message.content = content_of(message.content, elsewhere)
    return message
end

local function build_logprobs(lists)
    local result = {}
    for name, value in next, lists do
        result[name] = type(value) == "table" and json.array(table.move(value, 1, #value, 1, {})) or value
    end
    return result
end

local function build_choice(choice, completion)
    local result = {}
    for name, value in next, choice.others do
        result[name] = value
    end
    result.index = choice.index
    if completion then
        result.text = choice.text and joined(choice.text) or ""
    else
        result.message = build_message(choice)
    end
    result.finish_reason = choice.finish_reason or null
    result.logprobs = choice.logprobs and build_logprobs(choice.logprobs)
    return result
end

--- Adds up the chunks of one stream. What they hold is not changed.
---@class moonflow.Collector
local Collector = {}
Collector.__index = Collector

--- A new collector: `add` it every chunk, ask for the `result` at any time.
---@return moonflow.Collector
function collector.new()
    return setmetatable({ added = 0, top = {}, choices = {}, by_index = {} }, Collector)
end

--- Takes a chunk that has no choices. Returns true where that is all there is to do with it.
local function add_without_choices(self, chunk)
    local event = chunk.type
    if type(event) == "string" and event:sub(1, 9) == "response." then
        self.root = self.root or responses_api.new()
        responses_api.add(self.root, chunk)
        local status = responses_api.FINAL[event]
        if status and type(chunk.response) == "table" then
            self.final = chunk.response
        end
        self.status = status or self.status
        return true
    elseif chunk.object == "response" then
        self.final = chunk
        return true
    end
    self.only = self.added == 0 and chunk or nil
    return false
end

--- The choice with this index, a new one where it has none.
local function find_choice(self, index)
    if index == nil or index == null then
        index = 0
    end
    local proper = math.type(index) and math.tointeger(index)
    -- What is no integer can not always be a key, or not be found again as one.
    local key = proper or type(index) == "table" and "table" or tostring(index)
    local choice = self.by_index[key]
    if not choice then
        local rank = proper and proper >= 0 and proper < INDEX_MAX and proper or math.huge
        choice = insert(self.choices, rank, { index = proper or index, message = delta.new(), others = {} })
        self.by_index[key] = choice
    end
    return choice
end

local function add_logprobs(choice, logprobs)
    local lists = choice.logprobs or {}
    choice.logprobs = lists
    for name, value in next, logprobs do
        if type(value) == "table" and is_list(value) then
            local list = type(lists[name]) == "table" and lists[name] or {}
            lists[name] = list
            table.move(value, 1, #value, #list + 1, list)
        elseif value ~= null then
            lists[name] = value
        end
    end
end

--- Takes a field of a choice that an ordinary chunk does not have.
local function add_to_choice(self, choice, name, value, piece, chunk)
    if name == "finish_reason" then
        choice.finish_reason = filled(value) or choice.finish_reason
    elseif name == "text" and type(value) == "string" then
        choice.text = choice.text or {}
        choice.text[#choice.text + 1] = value
    elseif name == "message" and type(value) == "table" then
        choice.whole = value
        if (piece.delta == nil or piece.delta == null) and chunk.object ~= "chat.completion.chunk" then
            self.whole = chunk
        end
    elseif name == "logprobs" and type(value) == "table" and not is_list(value) then
        add_logprobs(choice, value)
    elseif type(name) == "string" then
        choice.others[name] = value
    end
end

--- Takes a field of a chunk that the chunks before did not have, or had with another value.
local function add_to_top(top, name, value)
    -- A chunk about something else than text may have "" for an id and 0 for a time.
    local says = value ~= null and value ~= "" and (value ~= 0 or name ~= "created")
    if (says or top[name] == nil) and type(name) == "string" then
        top[name] = value
    end
end

local function add_choice(self, piece, chunk)
    local choice = self.by_index[piece.index] or find_choice(self, piece.index)
    for name, value in next, piece do
        if name == "delta" then
            if type(value) == "table" then
                merge(choice.message, value)
            end
        elseif value ~= null and name ~= "index" then
            add_to_choice(self, choice, name, value, piece, chunk)
        end
    end
end

--- Takes one chunk; what is no chunk is ignored. It runs for every chunk of every stream, so it does
-- no more than to put the pieces away.
---@param chunk any
function Collector:add(chunk)
    if add_ordinary(self.top, self.by_index, chunk) then
        self.added = self.added + 1
        return
    elseif type(chunk) ~= "table" then
        return
    end
    local choices = chunk.choices
    if choices == nil and add_without_choices(self, chunk) then
        return
    end
    self.added = self.added + 1
    local top = self.top
    for name, value in next, chunk do
        if top[name] ~= value and name ~= "choices" then
            add_to_top(top, name, value)
        end
    end
    if type(choices) ~= "table" then
        return
    end
    self.has_choices = true
    for i = 1, #choices do
        local piece = choices[i]
        if type(piece) == "table" then
            add_choice(self, piece, chunk)
        end
    end
end

--- Whether the chunks are those of completions.
local function is_completion(self)
    local seen = false
    for _, choice in ipairs(self.choices) do
        local message = choice.message
        if choice.whole or message.calls or next(message.fields) or next(message.texts) then
            return false
        end
        seen = seen or choice.text ~= nil
    end
    local object = self.top.object
    return seen or type(object) == "string" and object:find("text_completion", 1, true) == 1
end

--- The answer so far, in the form that it has without streaming: a chat completion, a completion or
-- an answer of the Responses API. May be called at any time, and again.
---@return table? answer nil before the first chunk
function Collector:result()
    if self.final then
        return self.final
    elseif self.root then
        local response = responses_api.build(self.root)
        response.status = self.status or response.status
        return response
    elseif self.added == 0 then
        return nil
    elseif self.added == 1 and (self.whole or self.only) then
        return self.whole or self.only
    end
    local answer = {}
    for name, value in next, self.top do
        if value ~= null then
            answer[name] = value
        end
    end
    answer.obfuscation = nil
    if not self.has_choices then
        return answer
    end
    local completion = is_completion(self)
    local choices = {}
    for i, choice in ipairs(in_order(self.choices)) do
        choices[i] = build_choice(choice, completion)
    end
    answer.object = completion and "text_completion" or "chat.completion"
    answer.choices = json.array(choices)
    return answer
end

--- Whether the answer is whole: every choice has its finish_reason, or the final event of the
-- Responses API came, or an answer that was not streamed.
---@param n? integer how many choices there have to be, default 1
---@return boolean
function Collector:is_finished(n)
    if self.final or self.status or self.whole then
        return true
    end
    local choices = self.choices
    if #choices == 0 or type(n) == "number" and #choices < n then
        return false
    end
    for i = 1, #choices do
        if not choices[i].finish_reason then
            return false
        end
    end
    return true
end

return collector
