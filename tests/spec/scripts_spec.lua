--- The scripts for people: scripts/predict_openai.lua, and scripts/chat.lua on a real terminal.
local json = require "moonflow.json"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local CHAT = root .. "/scripts/chat.lua"

--- One event of a chat stream that adds a text.
local function event(text, finish)
    local chunk = {
        id = "c", object = "chat.completion.chunk", created = 1, model = "m",
        choices = { { index = 0, delta = { content = text }, finish_reason = finish or json.null } },
    }
    return ("data: %s\n\n"):format(assert(json.encode(chunk)))
end

--- The steps of a streamed answer: the texts with a pause behind each.
local function streamed(texts, pause, ending)
    local steps = { { send = raw.bytes { headers = { ["Content-Type"] = "text/event-stream" }, framing = "close" } } }
    for _, text in ipairs(texts) do
        steps[#steps + 1] = { send = event(text) }
        steps[#steps + 1] = { sleep = pause }
    end
    if ending then
        steps[#steps + 1] = { send = event("", "stop") .. ending }
        steps[#steps + 1] = { close = true }
    else
        steps[#steps + 1] = { stall = true }
    end
    return json.array(steps)
end

local USAGE = 'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'

describe("scripts/predict_openai.lua", function()
    it("asks the server of the environment with its key", function()
        local answer = { choices = { { message = { role = "assistant", content = "Hello, you." } } } }
        local server <close> = raw.listen { raw.reply { json = answer } }
        local result = process.run {
            args = { root .. "/scripts/predict_openai.lua" },
            env = { OPENAI_API_KEY = "sk-of-the-test", OPENAI_BASE_URL = server.url .. "/v1", OPENAI_API_BASE = false,
                OPENAI_API_TYPE = false },
        }
        assert.equal("", result.stderr)
        assert.equal("Hello, you.\n", result.stdout)
        local request = server:requests()[1]
        assert.equal("/v1/chat/completions", request.target)
        assert.equal("Bearer sk-of-the-test", request.header("Authorization"))
        assert.same({
            model = "gpt-4o-mini", max_tokens = 64, messages = { { role = "user", content = "Hello!" } },
        }, json.decode(request.body))
    end)

    it("says where the key came from when it is refused, and ends with 4", function()
        local refusal = { error = { message = "Incorrect API key provided.", code = "invalid_api_key" } }
        local server <close> = raw.listen { raw.reply { status = 401, json = refusal } }
        local result = process.run {
            args = { root .. "/scripts/predict_openai.lua" },
            env = { OPENAI_API_KEY = false, OPENAI_BASE_URL = server.url, OPENAI_API_BASE = false,
                OPENAI_API_TYPE = false },
        }
        assert.equal(4, result.code)
        assert.matches("predict_openai.lua:12: .*Incorrect API key provided", result.stderr)
        assert.matches("the credential came from OPENAI_API_KEY", result.stderr, 1, true)
        assert.equal("Bearer write your key here", server:requests()[1].header("Authorization"))
    end)
end)

describe("scripts/chat.lua", function()
    --- What it prints for these lines of standard input.
    local function chat(server, input)
        return process.run {
            args = { CHAT, "openai:" .. server.url .. "/v1", "m" },
            stdin = input,
            env = { OPENAI_API_KEY = "sk-test-key" },
        }
    end

    --- Types these steps and returns what the terminal showed, and the exit code.
    local function type_in(server, steps)
        table.insert(steps, 1, { expect = "> " })
        steps[#steps + 1] = "\4"
        local result = process.run {
            "python3", "tests/support/terminal.py", process.moonflow(), CHAT, "openai:" .. server.url .. "/v1", "m",
            stdin = assert(json.encode(json.array(steps))), env = { OPENAI_API_KEY = "sk-test-key" },
        }
        assert.equal("", result.stderr, result.stdout)
        return (result.stdout:gsub("\r\n", "\n")), result.code
    end

    it("keeps the conversation: each question is sent with all before it", function()
        local server <close> = raw.listen {
            streamed({ "One", "." }, 0, USAGE .. "data: [DONE]\n\n"), streamed({ "Two." }, 0, "data: [DONE]\n\n"),
        }
        local result = chat(server, "First?\n\nSecond?\n")
        assert.equal("One.\nTwo.\n", result.stdout)
        assert.matches("^5 %+ 2 tokens, first after %d+%.%d%d s, %d+%.%d%d s in all\nfirst after", result.stderr)
        local requests = server:requests()
        assert.equal(2, #requests)
        assert.same({
            { role = "user", content = "First?" }, { role = "assistant", content = "One." },
            { role = "user", content = "Second?" },
        }, json.decode(requests[2].body).messages)
    end)

    it("ends at the first error where nobody sits at the terminal", function()
        local server <close> = raw.listen { raw.reply { status = 404, json = { error = { message = "no model m" } } } }
        local result = chat(server, "First?\nSecond?\n")
        assert.equal(3, result.code)
        assert.matches("chat.lua:%d+: .*no model m", result.stderr)
        assert.equal(1, #server:requests())
    end)

    it("writes tokens as they come", function()
        skip.unless_env "MOONFLOW_TEST_RAW"
        local server <close> = raw.listen { streamed({ "slowly ", "spoken", "!" }, 0.5, "data: [DONE]\n\n") }
        local shown, code = type_in(server, {
            "Hi\n", { expect = "slowly " }, { sleep = 0.1 }, "x\21", { expect = "x" }, { expect = "spoken" },
            { expect = "s in all" }, { expect = "> " },
        })
        assert.equal(0, code)
        -- what was typed between the first and the second piece stands between them
        assert.matches("slowly .*x.-spoken", shown)
    end)

    it("stops the answer at Ctrl-C, closes its connection, and keeps the conversation", function()
        local server <close> = raw.listen {
            streamed({ "endless ", "talk" }, 0.05), streamed({ "Fine." }, 0.5, "data: [DONE]\n\n"),
        }
        local shown, code = type_in(server, {
            "Talk\n", { expect = "talk" }, "\3", { expect = "stopped" }, { expect = "> " }, "Enough?\n",
            { expect = "Fine." }, { expect = "> " },
        })
        assert.equal(0, code)
        assert.falsy(shown:find("error", 1, true))
        local requests = server:requests()
        assert.same({
            { role = "user", content = "Talk" }, { role = "assistant", content = "endless talk" },
            { role = "user", content = "Enough?" },
        }, json.decode(requests[2].body).messages)
        assert.is_false(server:connections()[1].open)
    end)

    it("begins a new line at Ctrl-C at the prompt, and tells errors without ending", function()
        local server <close> = raw.listen {
            raw.reply { status = 400, json = { error = { message = "not this one" } } },
            streamed({ "Better." }, 0, "data: [DONE]\n\n"),
        }
        local shown, code = type_in(server, {
            "half a li", { sleep = 0.2 }, "\3", { expect = "> " }, "Bad\n", { expect = "not this one" },
            { expect = "> " }, "Good\n", { expect = "Better." }, { expect = "> " },
        })
        assert.equal(0, code)
        assert.same({ { role = "user", content = "Good" } }, json.decode(server:requests()[2].body).messages)
        assert.matches("error: ", shown)
    end)

    it("lets no model command the terminal", function()
        local server <close> = raw.listen { streamed({ "a\27]0;title\7b\27[2J" }, 0, "data: [DONE]\n\n") }
        local shown = type_in(server, { "Hi\n", { expect = "s in all" }, { expect = "> " } })
        assert.matches("a ]0;title b [2J", shown, 1, true)
    end)
end)
