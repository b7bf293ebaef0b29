--- Chunks of streams for tests, written as JSON.
local assert = require "luassert"
local chat = require "moonflow.chat"
local json = require "moonflow.json"

local answers = {}

---@param text string
---@return any
function answers.decode(text)
    return assert(json.decode(text))
end

--- A collector that has the chunks of these texts.
---@param texts string[]
---@return moonflow.Collector
function answers.collector(texts)
    local new = chat.collector()
    for _, text in ipairs(texts) do
        new:add(answers.decode(text))
    end
    return new
end

--- Arrays and objects, null and nothing differ in this.
---@param value any
---@return string
function answers.canonical(value)
    return assert(json.encode(value, { sort = true }))
end

--- Fails unless the value is what the text stands for.
---@param expected string
---@param value any
---@param about? string
function answers.assert_json(expected, value, about)
    assert.equal(answers.canonical(answers.decode(expected)), answers.canonical(value), about)
end

return answers
