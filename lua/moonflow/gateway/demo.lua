--- The endpoints that `moonflow serve` has without a file. No model is behind them: they answer by simple rules,
-- and say so.
local SIZE = 64 -- numbers in a vector

local NOTE = " (This is moonflow's demonstration: no model is behind it.)"

--- The text of a message's content, which may come in parts.
local function text_of(content)
    if type(content) == "string" then
        return content
    end
    local texts = {}
    for _, part in ipairs(type(content) == "table" and content or {}) do
        if type(part) == "table" and type(part.text) == "string" then
            texts[#texts + 1] = part.text
        end
    end
    return table.concat(texts, " ")
end

--- What the user said last, or else the last message.
local function question(messages)
    local asked = messages[#messages]
    for _, message in ipairs(messages) do
        asked = message.role == "user" and message or asked
    end
    return text_of(asked.content)
end

--- Gives a text word by word where a stream was asked for, else as a whole.
local function say(text, stream)
    if not stream then
        return text
    end
    for word in text:gmatch("%s*%S+") do -- the text ends with a word
        stream(word)
    end
end

local function chat(inputs, stream)
    return say(('You said: "%s"'):format(question(inputs.messages)) .. NOTE, stream)
end

local function complete(inputs, stream)
    return say(('That begins with "%s"'):format(inputs.prompt) .. NOTE, stream)
end

--- FNV-1a in 32 bits.
local function hash(word)
    local value = 0x811C9DC5
    for i = 1, #word do
        value = (value ~ word:byte(i)) * 0x01000193 & 0xFFFFFFFF
    end
    return value
end

--- The vector of some words: each adds to one place, up or down, and the length is 1. Texts that share words
-- point the same way.
local function vector_of(words)
    local vector, length = {}, 0
    for i = 1, SIZE do
        vector[i] = 0.0
    end
    for _, word in ipairs(words) do
        local value = hash(word)
        local place = value % SIZE + 1
        vector[place] = vector[place] + (value & 0x10000 == 0 and 1 or -1)
    end
    for i = 1, SIZE do
        length = length + vector[i] ^ 2
    end
    if length == 0 then
        vector[1], length = 1.0, 1
    end
    for i = 1, SIZE do
        vector[i] = vector[i] / length ^ 0.5
    end
    return vector
end

--- The words of one input, which may be a list of tokens.
local function words_of(input)
    local words = {}
    if type(input) == "table" then
        for i, token in ipairs(input) do
            words[i] = tostring(token)
        end
        return words
    end
    for word in input:lower():gmatch("[%w\x80-\xFF]+") do
        words[#words + 1] = word
    end
    return words
end

local function embed(inputs)
    local input = inputs.input
    if type(input) == "string" or type(input[1]) == "number" then
        return vector_of(words_of(input))
    end
    local vectors = {}
    for i, one in ipairs(input) do
        vectors[i] = vector_of(words_of(one))
    end
    return vectors
end

local function endpoint(name, handler)
    return {
        name = name,
        endpoint_type = "llm/v1/" .. name,
        model = { name = "demo-" .. name, provider = "moonflow" },
        handler = handler,
    }
end

return { endpoint("chat", chat), endpoint("completions", complete), endpoint("embeddings", embed) }
