--- Whole answers: what a handler may return, completed to what the protocol promises. What is there stays,
-- as it came; the rest is filled in.
local base64 = require "moonflow.base64"
local check = require "moonflow.check"
local json = require "moonflow.json"
local tables = require "moonflow.tables"

local copy = tables.copy
local words_in = require("moonflow._chat").words
local null = json.null
local raise = _G.error

local whole = {}

--- What tells the answers of one type of endpoint from those of another.
---@class moonflow.AnswerKind
---@field prefix string what ids begin with
---@field object string
---@field chunk string the object of a streamed part, on OpenAI's face
---@field part string the field of a choice that holds its content
---@field expected string what a handler may return, for the log

---@type table<string, moonflow.AnswerKind>
whole.kinds = {
    ["llm/v1/chat"] = {
        prefix = "chatcmpl-",
        object = "chat.completion",
        chunk = "chat.completion.chunk",
        part = "message",
        expected = "a string, a message, or an answer with choices",
    },
    ["llm/v1/completions"] = {
        prefix = "cmpl-",
        object = "text_completion",
        chunk = "text_completion",
        part = "text",
        expected = "a string, or an answer with text or choices",
    },
    ["llm/v1/embeddings"] = {
        object = "list",
        expected = "a list of numbers for one input, a list of such lists, or an answer with data",
    },
}

-- The fields of a message; in a table without choices they are the message itself.
local MESSAGE = {
    role = true, content = true, tool_calls = true, refusal = true, reasoning_content = true, function_call = true,
    audio = true, annotations = true,
}

-- What such a table may say of its only choice.
local OF_CHOICE = { finish_reason = true, index = true, logprobs = true }

--- Whether a field says something.
---@param value any
---@return boolean
function whole.has(value)
    return value ~= nil and value ~= null
end

local has = whole.has

--- An answer, or a part of one, as JSON. Raises a text for the log where it has no such form.
---@param value any
---@return string
function whole.to_json(value)
    local text, failure = json.encode(value)
    if not text then
        raise("the answer has no form in JSON: " .. failure.message, 0)
    end
    return text
end

--- An id that no other answer has.
---@param kind moonflow.AnswerKind
---@return string
function whole.new_id(kind)
    return ("%s%016x%016x"):format(kind.prefix, math.random(0), math.random(0))
end

--- The number of words in a text. Where a handler gives no usage, a word counts as a token: there is no
-- model here that would know its own tokens.
---@param given any a text, or the parts of one
---@param in_word? boolean whether the text goes on where a word may not have ended
---@return integer
function whole.words(given, in_word)
    local count = 0
    if type(given) == "string" then
        return words_in(given, in_word)
    end
    for _, part in ipairs(type(given) == "table" and given or {}) do
        count = count + (type(part) == "table" and whole.words(part.text) or 0)
    end
    return count
end

--- The number of words in what was asked.
---@param inputs table
---@return integer
function whole.words_asked(inputs)
    local count = whole.words(inputs.prompt)
    for _, message in ipairs(type(inputs.messages) == "table" and inputs.messages or {}) do
        count = count + whole.words(type(message) == "table" and message.content)
    end
    return count
end

---@param prompt integer
---@param completion integer
---@return table
function whole.usage(prompt, completion)
    return { prompt_tokens = prompt, completion_tokens = completion, total_tokens = prompt + completion }
end

--- Raises for what is no answer, a text for the log.
local function refuse(kind, got)
    raise(("the answer must be %s; it is %s"):format(kind.expected, got), 0)
end

local function describe(value)
    if type(value) ~= "table" then
        return value == nil and "nothing" or check.show(value)
    end
    local names = {}
    for name in next, value do
        names[#names + 1] = tostring(name)
    end
    table.sort(names)
    local listed = table.concat(names, ", ", 1, math.min(#names, 8))
    return names[1] and "a table with the fields " .. check.show(listed) or "an empty table"
end

--- The parts of a table without choices: its message (nil where it has none), what it says of its only
-- choice, and the rest.
---@param value table
---@return table? message
---@return table choice
---@return table rest
function whole.split(value)
    local message, choice, rest = nil, {}, {}
    for name, field in next, value do
        if MESSAGE[name] then
            message = message or {}
            message[name] = field
        elseif OF_CHOICE[name] then
            choice[name] = field
        else
            rest[name] = field
        end
    end
    return message, choice, rest
end

--- A returned value as a table of our own with choices, or nil.
local function with_choices(kind, value)
    if type(value) == "string" then
        return { choices = { kind.part == "text" and { text = value } or { message = { content = value } } } }
    elseif type(value) ~= "table" then
        return nil
    elseif has(value.choices) then
        return type(value.choices) == "table" and copy(value) or nil
    end
    local message, choice, rest = whole.split(value)
    if kind.part == "text" and type(value.text) == "string" then
        choice.text, rest.text = value.text, nil
    elseif kind.part == "message" and message then
        choice.message = message
    else
        return nil
    end
    rest.choices = { choice }
    return rest
end

--- Why a choice ended that does not say so.
---@param message any
---@return string
function whole.reason(message)
    local calls = type(message) == "table" and message.tool_calls
    return type(calls) == "table" and next(calls) and "tool_calls" or "stop"
end

local function complete_message(given)
    local message = copy(given)
    message.role = has(message.role) and message.role or "assistant"
    if message.content == nil then
        message.content = null
    end
    return message
end

--- A choice with all that it needs; nil where it has no content.
local function complete_choice(kind, given, position)
    if type(given) ~= "table" then
        return nil
    end
    local choice = copy(given)
    if kind.part == "message" then
        if type(choice.message) ~= "table" then
            return nil
        end
        choice.message = complete_message(choice.message)
    elseif type(choice.text) ~= "string" then
        local message = choice.message -- some servers answer prompts as chats
        choice.text = type(message) == "table" and message.content
        if type(choice.text) ~= "string" then
            return nil
        end
    end
    choice.index = has(choice.index) and choice.index or position - 1
    if not has(choice.finish_reason) then
        choice.finish_reason = whole.reason(choice.message)
    end
    return choice
end

local function complete_choices(kind, given)
    local choices = json.array {}
    for i = 1, #given do
        local choice = complete_choice(kind, given[i], i)
        if not choice then
            refuse(kind, ("an answer whose choice %d has no %s"):format(i, kind.part))
        end
        choices[i] = choice
    end
    if #choices == 0 then
        refuse(kind, "an answer without choices")
    end
    return choices
end

local function words_answered(choices)
    local count = 0
    for i = 1, #choices do
        local choice = choices[i]
        count = count + whole.words(choice.message and choice.message.content or choice.text)
    end
    return count
end

local function fill_head(answer, kind, endpoint)
    answer.object = has(answer.object) and answer.object or kind.object
    answer.model = has(answer.model) and answer.model or endpoint.model.name
    if kind.prefix then
        answer.id = has(answer.id) and answer.id or whole.new_id(kind)
        answer.created = has(answer.created) and answer.created or os.time()
    end
end

local function complete_text(kind, endpoint, value, inputs)
    local answer = with_choices(kind, value)
    if not answer then
        refuse(kind, describe(value))
    end
    answer.choices = complete_choices(kind, answer.choices)
    if type(answer.usage) ~= "table" then
        answer.usage = whole.usage(whole.words_asked(inputs), words_answered(answer.choices))
    end
    fill_head(answer, kind, endpoint)
    return answer
end

local PACKED_AT_ONCE = 128 -- numbers; each is an argument on Lua's stack

--- A vector as OpenAI sends it in base64: 32-bit numbers, the lowest byte first.
local function pack(vector)
    local pieces = {}
    for from = 1, #vector, PACKED_AT_ONCE do
        local to = math.min(from + PACKED_AT_ONCE - 1, #vector)
        pieces[#pieces + 1] = ("<" .. ("f"):rep(to - from + 1)):pack(table.unpack(vector, from, to))
    end
    return base64.encode(table.concat(pieces))
end

local function is_vector(value)
    return type(value) == "table" and type(value[1]) == "number"
end

--- The items of an answer's data, or nil where the value is none.
local function items_of(value)
    if type(value) ~= "table" then
        return nil
    elseif has(value.data) then
        return type(value.data) == "table" and value.data or nil
    elseif is_vector(value) then
        return { { embedding = value } }
    end
    local items = {}
    for i = 1, #value do
        items[i] = { embedding = value[i] }
    end
    return (items[1] or next(value) == nil) and items
end

local function complete_item(kind, given, position, in_base64)
    local vector = type(given) == "table" and given.embedding
    if not (is_vector(vector) or type(vector) == "string") then
        refuse(kind, ("%s as vector %d"):format(describe(vector or nil), position))
    end
    local item = copy(given)
    item.object = has(item.object) and item.object or "embedding"
    item.index = has(item.index) and item.index or position - 1
    item.embedding = in_base64 and type(vector) == "table" and pack(vector) or vector
    return item
end

--- The inputs of a request for embeddings: how many they are, and how many words or tokens.
local function measure(input)
    if type(input) == "string" then
        return 1, whole.words(input)
    elseif type(input) ~= "table" or type(input[1]) == "number" then
        return 1, type(input) == "table" and #input or 0
    end
    local words = 0
    for i = 1, #input do
        words = words + (type(input[i]) == "table" and #input[i] or whole.words(input[i]))
    end
    return #input, words
end

local function complete_embeddings(kind, endpoint, value, inputs)
    local items = items_of(value)
    if not items then
        refuse(kind, describe(value))
    end
    local answer = has(value.data) and copy(value) or {}
    local count, words = measure(inputs.input)
    if not has(value.data) and #items ~= count then
        refuse(kind, ("%d vector%s for %d input%s"):format(#items, #items == 1 and "" or "s", count,
            count == 1 and "" or "s"))
    end
    answer.data = json.array {}
    for i = 1, #items do
        answer.data[i] = complete_item(kind, items[i], i, inputs.encoding_format == "base64")
    end
    if type(answer.usage) ~= "table" then
        answer.usage = { prompt_tokens = words, total_tokens = words }
    end
    fill_head(answer, kind, endpoint)
    return answer
end

--- Completes a value that a handler returned, or that came from a target. Raises a text that says what was
-- expected and what came.
---@param endpoint table
---@param value any
---@param inputs table
---@return table answer of our own, its choices and items too
function whole.complete(endpoint, value, inputs)
    local kind = whole.kinds[endpoint.endpoint_type]
    local complete = kind.prefix and complete_text or complete_embeddings
    return complete(kind, endpoint, value, inputs)
end

return whole
