--- Endpoints that are passed on: what is sent, weights, fallbacks, streams, and what the client hears of failures.
-- The targets are clients of a plugin that this file writes, and those of the model server where it runs.
local answer = require "moonflow.gateway.answer"
local answers = require "support.answers"
local env = require "moonflow.env"
local error_object = require "moonflow.error"
local forward = require "moonflow.gateway.forward"
local http = require "moonflow.http"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local plugins = require "moonflow.plugins"
local skip = require "support.skip"
local task = require "moonflow.task"

-- A target whose answers the function of its option `play` gives.
local PLUGIN = [[
local client = require "moonflow.client"
return { api = 1, name = "played", client = client.BaseDeploymentClient:extend {
    name = "PlayedDeploymentClient",
    options = { { name = "play", type = "function", doc = "answers" } },
    predict = function(self, args)
        return self.config.play(args, false)
    end,
    predict_stream = function(self, args)
        return self.config.play(args, true)
    end,
} }
]]

local WHOLE = {
    id = "up", object = "chat.completion", created = 5, model = "u", system_fingerprint = "fp",
    choices = { { index = 0, message = { role = "assistant", content = "hello" }, finish_reason = "stop" } },
    usage = { prompt_tokens = 1, completion_tokens = 1, total_tokens = 2 },
}

local function chunk(text, reason)
    return {
        id = "up", object = "chat.completion.chunk", created = 5, model = "u",
        choices = { { index = 0, delta = { content = text }, finish_reason = reason or json.null } },
    }
end

--- An iterator over chunks; a function among them is called in its turn.
local function stream_of(list, closed)
    local position = 0
    return function()
        position = position + 1
        local item = list[position]
        if type(item) == "function" then
            item()
        end
        return item
    end, nil, nil, closed
end

local function failing(fields)
    return function()
        error_object.raise(fields)
    end
end

describe("gateway.forward", function()
    local directory, lines, write, saved_path

    setup(function()
        directory = os.tmpname()
        os.remove(directory)
        assert(os.execute("mkdir " .. directory))
        local file = assert(io.open(directory .. "/played.lua", "w"))
        file:write(PLUGIN)
        file:close()
        saved_path = env.MOONFLOW_PLUGIN_PATH
        env.MOONFLOW_PLUGIN_PATH = directory
        assert(plugins.get("played"))
    end)

    teardown(function()
        env.MOONFLOW_PLUGIN_PATH = saved_path
        os.remove(directory .. "/played.lua")
        os.remove(directory)
    end)

    before_each(function()
        lines, write = {}, notice.write
        notice.write = function(line)
            lines[#lines + 1] = line
        end
    end)

    after_each(function()
        notice.write = write
    end)

    --- A target: `play(args, is_stream)` answers.
    local function target(play, more)
        local given = { target = "played", endpoint = "model", options = { play = play } }
        for name, value in pairs(more or {}) do
            given[name] = value
        end
        return given
    end

    local function endpoint(targets, kind)
        local own = {
            name = "e", endpoint_type = "llm/v1/" .. (kind or "chat"), model = { name = "m", provider = "p" },
            targets = targets,
        }
        own.produce = forward.produce(own)
        return own
    end

    local function respond(targets, inputs, face, kind)
        inputs = inputs or { messages = { { role = "user", content = "Hi" } } }
        return answer.respond(endpoint(targets, kind), inputs, face or "openai")
    end

    local function read(body)
        local list = {}
        for frame in body do
            list[#list + 1] = frame
        end
        return list
    end

    local STREAM = { messages = {}, stream = true }

    describe("what is sent", function()
        it("is all that came but the model and the wish for a stream", function()
            local seen
            local inputs = {
                model = "e", stream = false, messages = { { role = "user", content = "Hi" } }, temperature = 0.5,
                seed = 7, tools = json.array {}, metadata = { a = json.null },
            }
            respond({ target(function(args)
                seen = args
                return WHOLE
            end) }, inputs)
            assert.equal("model", seen.endpoint)
            answers.assert_json([[{"messages":[{"role":"user","content":"Hi"}],"temperature":0.5,"seed":7,
                "tools":[],"metadata":{"a":null}}]], seen.inputs)
            assert.equal("e", inputs.model)
        end)

        it("asks for the usage of a stream as MLflow's gateway does, and not on OpenAI's face", function()
            local seen
            local function play(args)
                seen = args.inputs
                return stream_of { chunk("a", "stop") }
            end
            respond({ target(play) }, { messages = {}, stream = true }, "mlflow")
            answers.assert_json('{"messages":{},"stream_options":{"include_usage":true}}', seen)
            respond({ target(play) },
                { messages = {}, stream = true, stream_options = { include_usage = false } }, "mlflow")
            answers.assert_json('{"messages":{},"stream_options":{"include_usage":false}}', seen)
            respond({ target(play) }, { messages = {}, stream = true }, "openai")
            answers.assert_json('{"messages":{}}', seen)
        end)
    end)

    describe("a whole answer", function()
        it("passes with all its fields on OpenAI's face", function()
            local status, _, body = respond { target(function()
                return WHOLE
            end) }
            assert.equal(200, status)
            answers.assert_json(json.encode(WHOLE), answers.decode(body))
        end)

        it("has the fields of MLflow's on its face", function()
            local _, _, body = respond({ target(function()
                return WHOLE
            end) }, nil, "mlflow")
            answers.assert_json([[{"id":"up","object":"chat.completion","created":5,"model":"u","provider":"p",
                "choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello",
                "tool_calls":null,"refusal":null}}],
                "usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}]], answers.decode(body))
        end)

        it("without its content is a failure of the target", function()
            for _, value in ipairs { {}, { choices = "a" }, "text" } do
                local status, _, body = respond { target(function()
                    return value
                end) }
                assert.equal(502, status)
                assert.equal("the target's answer can not be read", answers.decode(body).detail)
                assert.matches('an answer without "choices"', lines[#lines], 1, true)
            end
        end)

        it("of embeddings has data", function()
            local status, _, body = respond({ target(function()
                return { object = "list", model = "u", usage = { prompt_tokens = 1, total_tokens = 1 },
                    data = { { object = "embedding", index = 0, embedding = { 0.5 } } } }
            end) }, { input = "a" }, "mlflow", "embeddings")
            assert.equal(200, status)
            answers.assert_json([[{"object":"list","model":"u","usage":{"prompt_tokens":1,"total_tokens":1},
                "data":[{"object":"embedding","index":0,"embedding":[0.5]}]}]], answers.decode(body))
        end)
    end)

    describe("a stream", function()
        it("passes chunk by chunk", function()
            local frames = {}
            local status, _, body = respond({ target(function()
                return stream_of {
                    chunk "a",
                    chunk "b",
                    chunk("", "stop"),
                }
            end) }, STREAM)
            assert.equal(200, status)
            for frame in body do
                frames[#frames + 1] = frame
            end
            assert.equal(4, #frames)
            answers.assert_json(json.encode(chunk "a"), answers.decode(frames[1]:match("^data: (.*)\n\n$")))
            answers.assert_json(json.encode(chunk("", "stop")), answers.decode(frames[3]:match("^data: (.*)\n\n$")))
            assert.equal("data: [DONE]\n\n", frames[4])
        end)

        it("that is one whole answer becomes chunks", function()
            local _, _, body = respond({ target(function()
                return stream_of { WHOLE }
            end) }, STREAM)
            local frames = read(body)
            answers.assert_json([[{"id":"up","object":"chat.completion.chunk","created":5,"model":"u",
                "choices":[{"index":0,"delta":{"role":"assistant","content":"hello"},"finish_reason":null}]}]],
                answers.decode(frames[1]:match("^data: (.*)\n\n$")))
            assert.equal("data: [DONE]\n\n", frames[#frames])
        end)

        it("is closed when the client leaves, and at its end", function()
            local closed = 0
            local guard = setmetatable({}, { __close = function()
                closed = closed + 1
            end })
            local targets = { target(function()
                return stream_of({ chunk "a", chunk "b", chunk("c", "stop") }, guard)
            end) }
            do
                local _, _, body = respond(targets, STREAM)
                local held <close> = body
                held()
                assert.equal(0, closed)
            end
            assert.equal(1, closed)
            local _, _, body = respond(targets, STREAM)
            read(body)
            assert.equal(2, closed)
        end)

        it("is closed when the client leaves while the target is silent", function()
            local closed = false
            local guard = setmetatable({}, { __close = function()
                closed = true
            end })
            local waiting = task.spawn(function()
                local _, _, body = respond({ target(function()
                    return stream_of({ chunk "a", function()
                        task.sleep(60)
                    end }, guard)
                end) }, STREAM)
                local held <close> = body
                read(held)
            end)
            task.sleep(0.01)
            assert.is_false(closed)
            waiting:cancel()
            task.sleep(0)
            assert.is_true(closed)
        end)

        it("without chunks, or with something else, is a failure of the target", function()
            for _, list in ipairs { {}, { "text" }, { { nonsense = true } } } do
                local status = respond({ target(function()
                    return stream_of(list)
                end) }, STREAM)
                assert.equal(502, status)
            end
        end)
    end)

    describe("weights", function()
        it("share the requests out", function()
            local counts = { 0, 0 }
            local function counting(i, weight)
                return target(function()
                    counts[i] = counts[i] + 1
                    return WHOLE
                end, { weight = weight })
            end
            local produce = endpoint({ counting(1, 80), counting(2, 20) }).produce
            math.randomseed(1)
            for _ = 1, 1000 do
                produce { messages = {} }
            end
            assert.equal(1000, counts[1] + counts[2])
            assert.is_true(counts[1] > 740 and counts[1] < 860, counts[1])
        end)

        it("of 0 get none", function()
            local produce = endpoint({
                target(failing { kind = "usage", message = "never" }, { weight = 0 }),
                target(function()
                    return WHOLE
                end),
            }).produce
            for _ = 1, 100 do
                produce { messages = {} }
            end
        end)
    end)

    describe("fallbacks", function()
        local FAILURES = {
            { kind = "network", message = "no way there" },
            { kind = "timeout", message = "too late" },
            { kind = "auth", message = "no key" },
            { kind = "decode", message = "nonsense" },
            { kind = "auth", http_status = 401, message = "bad key" },
            { kind = "http", http_status = 404, message = "no such model" },
            { kind = "http", http_status = 429, message = "slow down" },
            { kind = "http", http_status = 503, message = "busy" },
        }

        it("stand in where another target may not fail", function()
            for _, failure in ipairs(FAILURES) do
                for _, streams in ipairs { true, false } do
                    lines = {}
                    local tried = {}
                    local function play(name, fn)
                        return function(...)
                            tried[#tried + 1] = name
                            return fn(...)
                        end
                    end
                    local function good(_, is_stream)
                        if is_stream then
                            return stream_of { chunk("a", "stop") }
                        end
                        return WHOLE
                    end
                    local status = respond({
                        target(play("third", good), { fallback = true }),
                        target(play("first", failing(failure))),
                        target(play("fourth", good), { fallback = true }),
                    }, { messages = {}, stream = streams })
                    assert.equal(200, status)
                    assert.same({ "first", "third" }, tried)
                    assert.matches(failure.message, lines[1], 1, true)
                    assert.matches("endpoint e: ", lines[1], 1, true)
                end
            end
        end)

        it("do not for the client's own mistakes", function()
            for _, failure in ipairs {
                { kind = "http", http_status = 400, message = "bad", body = { error = { message = "bad" } } },
                { kind = "http", http_status = 422, message = "bad", body = { detail = "bad" } },
            } do
                for _, streams in ipairs { true, false } do
                    local status, _, body = respond({
                        target(failing(failure)), target(failing { kind = "http", http_status = 418, message = "x" },
                            { fallback = true }),
                    }, { messages = {}, stream = streams })
                    assert.equal(failure.http_status, status)
                    assert.equal("bad", answers.decode(body).detail)
                end
            end
        end)

        it("do not when the stream has begun", function()
            local _, _, body = respond({
                target(function()
                    return stream_of { chunk "a", failing { kind = "network", message = "cut" } }
                end),
                target(function()
                    return stream_of { chunk("b", "stop") }
                end, { fallback = true }),
            }, STREAM)
            local frames = read(body)
            assert.equal(2, #frames)
            local failure = answers.decode(frames[2]:match("^data: (.*)\n\n$")).error
            assert.equal("the target can not be reached", failure.message)
        end)

        it("do when a stream fails before its first chunk", function()
            local _, _, body = respond({
                target(function()
                    return stream_of { failing { kind = "timeout", message = "late" } }
                end),
                target(function()
                    return stream_of { chunk("b", "stop") }
                end, { fallback = true }),
            }, STREAM)
            assert.equal(2, #read(body))
        end)

        it("leave the last failure to the client", function()
            local status, _, body = respond {
                target(failing { kind = "network", message = "the address is secret" }),
                target(failing { kind = "http", http_status = 503, message = "at http://secret: busy",
                    body = { error = { message = "busy" } } }, { fallback = true }),
            }
            assert.equal(503, status)
            assert.equal("busy", answers.decode(body).detail)
        end)
    end)

    describe("a failure, as the client hears of it", function()
        local function heard(fields)
            local status, _, body = respond({ target(failing(fields)) }, nil, "mlflow")
            return status, answers.decode(body).detail
        end

        it("is in the provider's own words", function()
            for _, body in ipairs {
                { error = { message = "said" } }, { message = "said" }, { error = "said" }, { detail = "said" },
            } do
                local status, detail = heard { kind = "http", http_status = 402, message = "ours", body = body }
                assert.equal(402, status)
                assert.equal("said", detail)
            end
        end)

        it("names no address, which is in the log", function()
            for kind, expected in pairs {
                network = { 502, "the target can not be reached" },
                timeout = { 504, "the target did not answer in time" },
                auth = { 502, "the target's credential can not be had" },
                config = { 500, "the target is not set up" },
            } do
                local status, detail = heard { kind = kind, message = "at http://10.0.0.1: no" }
                assert.same(expected, { status, detail })
                assert.matches("at http://10.0.0.1: no", lines[#lines], 1, true)
            end
            local status, detail = heard { kind = "http", http_status = 502, message = "<html>" }
            assert.same({ 502, "the target answered 502" }, { status, detail })
        end)
    end)

    it("refuses a target that there is none of, as its file is read", function()
        local ok, failure = pcall(endpoint, { { target = "playd", endpoint = "x" } })
        assert.is_false(ok)
        assert.equal("config", failure.kind)
        assert.matches("^endpoint e: ", failure.message)
        ok, failure = pcall(endpoint, { target(function() end, { options = { plya = 1 } }) })
        assert.is_false(ok)
        assert.equal("config", failure.kind)
        assert.matches("plya", failure.message, 1, true)
    end)

    describe("to the model server", function()
        local function through(url, kind, inputs)
            return respond({ {
                target = "openai:" .. url, endpoint = "gpt-3.5-turbo", options = { api_key = "not-needed" },
            } }, inputs, "mlflow", kind)
        end

        local function post(url, value)
            return assert(http.request { method = "POST", url = url, json = value }).body
        end

        it("passes numbers of embeddings as they came", function()
            local url = skip.unless_env "MOONFLOW_TEST_UPSTREAM"
            local status, _, body = through(url, "embeddings", { input = { "a", "b" } })
            assert.equal(200, status)
            answers.assert_json(post(url .. "/embeddings", { model = "gpt-3.5-turbo", input = { "a", "b" } }),
                answers.decode(body))
        end)

        it("is as MLflow's gateway, field by field", function()
            local url = skip.unless_env "MOONFLOW_TEST_UPSTREAM"
            local gateway = skip.unless_env "MOONFLOW_TEST_GATEWAY"
            for _, streams in ipairs { false, true } do
                local inputs = { messages = { { role = "user", content = "\u{201C}Hi\u{201D}" } }, stream = streams }
                local _, _, ours = through(url, "chat", inputs)
                local theirs = post(gateway .. "/endpoints/chat/invocations", inputs)
                ours = streams and table.concat(read(ours)) or ours
                local function plain(text)
                    text = text:gsub('"provider":"%w+"', '"provider":"*"')
                    return streams and text:gsub("%b{}", function(object)
                        return answers.canonical(answers.decode(object))
                    end) or answers.canonical(answers.decode(text))
                end
                assert.equal(plain(theirs), plain(ours))
            end
        end)
    end)
end)
