-- Endpoints for `moonflow serve`: Lua functions, and models elsewhere.
--
--     moonflow serve scripts/serve.lua
--     moonflow scripts/chat.lua http://localhost:5000 parrot
local env = require "moonflow.env"
local task = require "moonflow.task"

--- Repeats what was said, a word at a time where the client asked for a stream.
local function parrot(inputs, stream)
    local said = tostring(inputs.messages[#inputs.messages].content) .. ". Squawk!"
    if not stream then
        return said
    end
    for word in said:gmatch("%S+%s*") do
        stream(word)
        task.sleep(0.05) -- other requests go on meanwhile
    end
end

--- A vector of how often each letter occurs.
local function letters(text)
    local vector = {}
    for i = 1, 26 do
        local _, count = text:lower():gsub(string.char(96 + i), "")
        vector[i] = count
    end
    return vector
end

local function embed(inputs)
    if type(inputs.input) == "string" then
        return letters(inputs.input)
    end
    local vectors = {}
    for i, text in ipairs(inputs.input) do
        vectors[i] = letters(text)
    end
    return vectors
end

return {
    { name = "parrot", endpoint_type = "llm/v1/chat", handler = parrot },
    { name = "letters", endpoint_type = "llm/v1/embeddings", handler = embed },
    -- Passed on: to OpenAI (its key is in OPENAI_API_KEY), and to a server here where that fails.
    {
        name = "gpt",
        endpoint_type = "llm/v1/chat",
        limit = { calls = 60, renewal_period = "minute" },
        targets = {
            { target = "openai", endpoint = "gpt-4o-mini" },
            { target = env.LOCAL_TARGET or "openai:http://localhost:11434/v1", endpoint = "llama3.2", fallback = true },
        },
    },
}
