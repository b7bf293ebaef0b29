--- The demonstration of `moonflow serve`: answers by rules, which say that they are.
local answer = require "moonflow.gateway.answer"
local answers = require "support.answers"
local config = require "moonflow.gateway.config"
local demo = require "moonflow.gateway.demo"

local NOTE = " (This is moonflow's demonstration: no model is behind it.)"

describe("gateway.demo", function()
    local endpoints = {}

    setup(function()
        for _, endpoint in ipairs(config.check(demo)) do
            endpoints[endpoint.name] = endpoint
        end
    end)

    local function ask(name, inputs, face)
        local status, _, body = answer.respond(endpoints[name], inputs, face or "mlflow")
        assert.equal(200, status)
        return type(body) == "string" and answers.decode(body) or body
    end

    local function say(messages)
        return ask("chat", { messages = messages }).choices[1].message.content
    end

    local function embed(...)
        local vectors = {}
        for i, item in ipairs(ask("embeddings", { input = { ... } }).data) do
            vectors[i] = item.embedding
        end
        return vectors
    end

    local function product(a, b)
        local sum = 0
        for i = 1, #a do
            sum = sum + a[i] * b[i]
        end
        return sum
    end

    it("has an endpoint of each type, which claims no model", function()
        for _, name in ipairs { "chat", "completions", "embeddings" } do
            local endpoint = endpoints[name]
            assert.equal("llm/v1/" .. name, endpoint.endpoint_type)
            assert.same({ name = "demo-" .. name, provider = "moonflow" }, endpoint.model)
        end
    end)

    it("says what it was asked last", function()
        assert.equal('You said: "Hello!"' .. NOTE, say {
            { role = "user", content = "Before" }, { role = "assistant", content = "Hm." },
            { role = "user", content = "Hello!" }, { role = "tool", content = "42" },
        })
        assert.equal('You said: "Be brief."' .. NOTE, say { { role = "system", content = "Be brief." } })
        assert.equal('You said: "What is this?"' .. NOTE, say { { role = "user", content = {
            { type = "text", text = "What is" }, { type = "image_url" }, { type = "text", text = "this?" },
        } } })
        assert.equal('You said: ""' .. NOTE, say { { role = "user" } })
    end)

    it("streams the same by words", function()
        local said, frames = "", 0
        for frame in ask("chat", { messages = { { role = "user", content = "a  b\n" } }, stream = true }, "openai") do
            local data = frame:match("^data: (.*)\n\n$")
            local choice = data ~= "[DONE]" and answers.decode(data).choices[1]
            said = said .. (choice and choice.delta.content or "")
            frames = frames + 1
        end
        assert.equal('You said: "a  b\n"' .. NOTE, said)
        assert.equal(4 + 9 + 2 + 1, frames) -- words, those of the note, a finish_reason and [DONE]
    end)

    it("completes a prompt", function()
        assert.equal('That begins with "Once"' .. NOTE, ask("completions", { prompt = "Once" }).choices[1].text)
    end)

    it("makes vectors of length 1, the same each time", function()
        for _, text in ipairs { "a", "the moon and the sun", "", "\u{6708}" } do
            local vectors = embed(text, text)
            assert.equal(64, #vectors[1])
            assert.is_true(math.abs(product(vectors[1], vectors[1]) - 1) < 1e-9, text)
            assert.same(vectors[1], vectors[2])
        end
    end)

    it("makes vectors of similar texts point the same way", function()
        local v = embed("how far is the moon", "How far is the Moon?", "how far is the sun", "buy cheap shoes")
        assert.same(v[1], v[2])
        assert.is_true(product(v[1], v[3]) > 0.5)
        assert.is_true(product(v[1], v[3]) > product(v[1], v[4]) + 0.3)
    end)

    it("keeps the places that it has for words, for all who stored vectors", function()
        local vector = embed("tide")[1]
        local places = {}
        for i, number in ipairs(vector) do
            if number ~= 0 then
                places[#places + 1] = i * number
            end
        end
        assert.same({ -18.0 }, places)
    end)

    it("takes tokens in place of texts", function()
        local several = ask("embeddings", { input = { { 1, 2 }, { 3 } } }).data
        local one = ask("embeddings", { input = { 1, 2 } }).data
        assert.equal(2, #several)
        assert.equal(1, #one)
        assert.same(several[1].embedding, one[1].embedding)
    end)
end)
