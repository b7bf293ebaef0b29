--- What comes in a stream, or in its place: errors in every form, chunks of every kind, and answers that
-- are no streams.
local auth = require "moonflow.auth"
local chat = require "moonflow.chat"
local env = require "moonflow.env"
local json = require "moonflow.json"
local probe = require "support.probe"
local raw = require "support.raw"
local streams = require "support.streams"

local delta, event = streams.delta, streams.event
local HEAD, DONE = streams.HEAD, streams.DONE
local played, served = streams.played, streams.served

local lines

before_each(function()
    lines = probe.listen()
    env.OPENAI_API_KEY = "key-0123456789"
end)

after_each(function()
    lines:close()
    env.OPENAI_API_KEY = nil
end)

describe("an error inside a stream", function()
    local UNAVAILABLE = { kind = "http", http_status = 503, error_code = "TEMPORARILY_UNAVAILABLE" }
    local cases = {
        { event { error = { message = "m", type = "server_error", code = json.null } }, {
            kind = "http", http_status = 500, words = "m (server_error)",
        } },
        { event { error = { message = "m", code = 503 } }, UNAVAILABLE },
        { event { error = { message = "m", code = "503" } }, UNAVAILABLE },
        { event { error = "in words" }, { kind = "http", words = "in words" } },
        { event { error = { code = "insufficient_quota", message = "m" } }, { http_status = 429 } },
        { event { object = "error", message = "m", code = 400 }, { kind = "http", http_status = 400, words = "m" } },
        { "event: error\n" .. event { type = "error", code = "server_is_overloaded", message = "m" }, UNAVAILABLE },
        { event { type = "error", code = "server_is_overloaded", message = "m" }, UNAVAILABLE },
        { "event: error\n" .. event { error = { message = "m", code = 503 } }, UNAVAILABLE },
        { "event: error\n" .. event "gone away", { kind = "http", words = "gone away" } },
        { "event: error\n" .. event "\"gone away\"", { kind = "http", words = "gone away" } },
        { "event: error\n" .. event "{}", { kind = "http", words = "does not say which" } },
        { "event: error\n" .. event "null", { kind = "http", words = "does not say which" } },
        { "event: error\ndata:\n\n", { kind = "http", words = "does not say which" } },
        { "error: {\"code\":503,\"message\":\"m\"}\n\n", UNAVAILABLE },
        { "error: plain words\n\n", { kind = "http", words = "plain words" } },
        { event { type = "response.failed", response = { error = { code = "server_error", message = "m" } } }, {
            kind = "http", http_status = 500, words = "m (server_error)",
        } },
        { event { type = "response.failed", response = { error = json.null } }, { kind = "http" } },
        { event { error_code = "REQUEST_LIMIT_EXCEEDED", message = "m" }, {
            kind = "http", http_status = 429, error_code = "REQUEST_LIMIT_EXCEEDED", words = "m",
        } },
        { event { error = { message = "m", code = 502 }, choices = { { index = 0, finish_reason = "error" } } }, {
            kind = "http", http_status = 502,
        } },
    }

    it("is raised, in every form, with what came before", function()
        for i, case in ipairs(cases) do
            local chunks, err = played(delta("a") .. case[1] .. DONE)
            assert.equal(1, #chunks, i)
            assert.is_not_nil(err, case[1])
            streams.check_error(case[2], err)
            assert.equal("a", err.partial.choices[1].message.content)
            assert.equal("predict_stream", err.operation)
        end
    end)

    it("is raised likewise where it is the first event", function()
        for _, case in ipairs(cases) do
            local chunks, err, opened = played(case[1] .. DONE)
            assert.same({}, chunks)
            assert.is_nil(opened)
            assert.is_not_nil(err, case[1])
            streams.check_error(case[2], err)
            assert.equal(1, err.attempts)
        end
    end)

    it("is none where its fields are null", function()
        local empty = event { error = json.null, choices = {} } .. event { error = "", object = "chunk" }
        local chunks, err = played(empty .. delta("a", "stop"))
        assert.is_nil(err)
        assert.equal(3, #chunks)
    end)

    it("says how often was tried, and whether to try again could help", function()
        local function failure(fault)
            local _, err = played(delta("a") .. event { error = fault })
            assert.equal(1, err.attempts)
            return err
        end
        assert.is_true(failure { code = 503, message = "m" }.retryable)
        assert.is_false(failure { code = "insufficient_quota", message = "m" }.retryable)
        assert.is_false(failure { code = 400, message = "m" }.retryable)
    end)
end)

describe("what a stream holds", function()
    it("are JSON objects: all else is an error that says so", function()
        for _, data in ipairs { "hello", '{"a":', "1", "true", "false", '"text"', "[]", "[{}]", '{"a":"\0"}' } do
            local chunks, err = played(delta("a") .. event(data) .. DONE)
            assert.equal(1, #chunks, data)
            assert.equal("decode", err.kind)
            assert.matches("no JSON object", err.message, 1, true)
            assert.equal("a", err.partial.choices[1].message.content)
        end
    end)

    it("may be null, or nothing", function()
        local chunks, err = played("data: null\n\ndata:\n\n" .. delta("a") .. "data\n\n: c\n\n" .. DONE)
        assert.is_nil(err)
        assert.equal("a", streams.text(chunks))
    end)

    it("may be chunks without choices, without text, or with nulls in their place", function()
        local chunks, err = played(table.concat {
            event { choices = json.array {} },
            event { choices = json.null, usage = json.null },
            event { choices = { { index = 0, delta = { role = "assistant", content = json.null } } } },
            event { choices = { { index = 0, delta = json.null } } },
            event { id = "only" },
            delta("a", "stop"),
            DONE,
        })
        assert.is_nil(err)
        assert.equal(6, #chunks)
        assert.equal("a", streams.text(chunks))
    end)

    it("are any characters", function()
        local escaped = [[\u0000 \ud83c\udf19 \u2028]]
        local text = "🌙 𝕏 \u{10FFFF} \u{2028} \u{FEFF}"
        local chunks = played(event(([[{"choices":[{"index":0,"delta":{"content":"%s%s"}}]}]]):format(escaped, text))
            .. DONE)
        assert.equal("\0 \u{1F319} \u{2028}" .. text, streams.text(chunks))
    end)

    it("are events of no more than 16 MiB", function()
        local MIB = ("x"):rep(1 << 20)
        local function send(mebibytes)
            local server <close> = raw.listen { json.array {
                { send = HEAD .. delta("a") .. "data: {\"pad\":\"" },
                { send = MIB, times = mebibytes }, { send = "\"}\n\n" .. DONE }, { stall = true },
            } }
            return streams.read(streams.client(server))
        end
        local chunks, err = send(15)
        assert.is_nil(err)
        assert.equal(15 << 20, #chunks[2].pad)
        chunks, err = send(17)
        assert.equal(1, #chunks)
        assert.equal("network", err.kind)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.matches("16 MiB", err.message, 1, true)
        assert.equal("a", err.partial.choices[1].message.content)
    end)
end)

describe("a hostile server", function()
    local function seconds_of(reply)
        local server <close> = raw.listen { raw.reply(reply) }
        local client = streams.client(server, "openai", { max_retries = 1, total_timeout = 5 })
        local started = os.clock()
        local err = probe.failure(client.predict, client, { endpoint = "e", inputs = { prompt = "x" } })
        return os.clock() - started, err
    end

    it("can not keep us busy with a header", function()
        local digits = ("1"):rep(60000)
        for name, value in pairs {
            ["Retry-After"] = digits .. "x", ["Retry-After-Ms"] = digits .. "x",
            ["x-ratelimit-reset-tokens"] = digits .. "!", ["x-ratelimit-limit-tokens"] = digits .. "!",
        } do
            local seconds, err = seconds_of { status = 400, headers = { [name] = value } }
            assert.equal(400, err.http_status)
            assert.is_true(seconds < 0.5, name)
        end
    end)

    it("can not make the body of an error large", function()
        local list = {}
        for i = 1, 300000 do
            list[i] = "word"
        end
        local error_event = streams.event { error = { message = "m", code = 400, list = list } }
        local seconds, err = seconds_of { headers = streams.HEADERS, body = delta("a") .. error_event }
        assert.equal(400, err.http_status)
        assert.is_true(#assert(json.encode(err.body)) < 20000)
        assert.is_true(seconds < 2, seconds)
    end)

    it("is not asked again for an answer of which a part had come", function()
        local fault = streams.event { error = { message = "m", code = 503 } }
        local server <close> = raw.listen { raw.reply { headers = streams.HEADERS, body = delta("a") .. fault } }
        local client = streams.client(server, "openai", { max_retries = 2 })
        local err = probe.failure(client.predict, client, { endpoint = "e", inputs = { prompt = "x" } })
        assert.equal(503, err.http_status)
        assert.equal("a", chat.text(err.partial))
        assert.equal(1, #server:requests())
    end)

    it("is shown no secret of, however many others there are", function()
        local answer = { error = { message = "sk-the-first-key" } }
        local server <close> = raw.listen { raw.reply { status = 400, json = answer } }
        local client = streams.client(server, "openai", { api_key = "sk-the-first-key", max_retries = 0 })
        for i = 1, 600 do
            auth.secret("another-secret-" .. i)
        end
        local err = probe.failure(client.predict, client, { endpoint = "e", inputs = { prompt = "x" } })
        assert.falsy((tostring(err) .. json.encode(err.body)):find("the-first-key", 1, true))
    end)
end)

describe("an answer of another form", function()
    local ANSWER = {
        id = "c1", object = "chat.completion", model = "m",
        choices = { { index = 0, message = { role = "assistant", content = "Whole." }, finish_reason = "stop" } },
    }
    local JSON = { ["Content-Type"] = "application/json" }

    it("that is JSON is a stream of one chunk", function()
        for _, content_type in ipairs { "application/json", "application/json; charset=utf-8", "text/event-stream",
            "text/plain" } do
            for backend in pairs(streams.TARGETS) do
                local body = "\n " .. json.encode(ANSWER)
                local chunks, err, opened = served({ body = body, headers = { ["Content-Type"] = content_type } },
                    backend)
                assert.is_nil(err, content_type)
                assert.same({ ANSWER }, chunks)
                assert.equal("Whole.", streams.text(chunks))
                assert.same(ANSWER, opened:collected():result())
                assert.is_nil(opened())
            end
        end
    end)

    it("that is a stream is understood by its bytes, whatever its type", function()
        for _, content_type in ipairs { "text/plain", "application/json", "x/y", "TEXT/EVENT-STREAM; x" } do
            for _, start in ipairs { "", ": comment\n\n", "event: message\n", "\u{FEFF}", "\n\n", "retry: 1\n" } do
                local chunks, err = served { body = start .. delta("a") .. DONE,
                    headers = { ["Content-Type"] = content_type } }
                assert.is_nil(err, content_type .. start)
                assert.equal("a", streams.text(chunks))
            end
        end
        local chunks = served { body = delta("a") .. DONE, headers = {} }
        assert.equal("a", streams.text(chunks))
    end)

    it("that is a stream is the whole answer for predict", function()
        for _, content_type in ipairs { "text/event-stream", "application/json", "text/plain" } do
            local body = delta("a") .. delta("b", "stop") .. DONE
            local server <close> = raw.listen {
                raw.reply { body = body, headers = { ["Content-Type"] = content_type } },
            }
            local answer = streams.client(server):predict { endpoint = "e", inputs = {} }
            assert.equal("ab", answer.choices[1].message.content)
        end
    end)

    it("is told apart whatever white space comes first, in packets of its own", function()
        local head = raw.bytes { headers = { ["Content-Type"] = "text/plain" }, framing = "close" }
        local whole, events = json.encode(ANSWER), delta("a") .. DONE
        for _, case in ipairs {
            { "\n", whole, "Whole." }, { " \t", whole, "Whole." }, { "\r\n", events, "a" },
            { "\xEF\xBB", "\xBF" .. events, "a" }, { "\xEF\xBB\xBF \n", events, "a" },
        } do
            local server <close> = raw.listen { streams.script(head, case[1], 0.1, case[2]) }
            local chunks, err = streams.read(streams.client(server))
            assert.is_nil(err)
            assert.equal(case[3], streams.text(chunks))
        end
    end)

    it("that is compressed is said to be so", function()
        local headers = { ["Content-Type"] = "text/event-stream", ["Content-Encoding"] = "gzip" }
        local _, err = served { body = "\31\139\8\0", headers = headers }
        assert.equal("decode", err.kind)
        assert.matches("is encoded %(gzip%)", err.message)
        assert.falsy(err.message:find("no JSON object", 1, true))
    end)

    it("that is a JSON error is that error", function()
        for _, value in ipairs {
            { error = { message = "no such model", code = "model_not_found" } },
            { object = "error", message = "no such model", code = 404 },
            { type = "error", message = "no such model", code = 404 },
        } do
            local chunks, err, opened = served { body = json.encode(value), headers = JSON }
            assert.same({}, chunks)
            assert.is_nil(opened)
            streams.check_error({ kind = "http", http_status = 404, words = "no such model" }, err)
        end
    end)

    it("that is no answer at all says what it is", function()
        local HTML = { ["Content-Type"] = "text/html" }
        local cases = {
            { "<html><title>Log in</title>", HTML, "an HTML page", "Log in" },
            { "\n<!DOCTYPE html><title>Log in</title>", {}, "an HTML page", "Log in" },
            { "{\"a\":", JSON, "not JSON", "something else" },
            { "17", JSON, "not JSON", "no object" },
            { "[]", JSON, "not JSON", "no object" },
            { "", JSON, "not JSON" },
        }
        for _, case in ipairs(cases) do
            local _, err = served { body = case[1], headers = case[2] }
            assert.equal("decode", err.kind, case[1])
            for i = 3, #case do
                assert.matches(case[i], err.message, 1, true)
            end
        end
        for _, body in ipairs { "", "\n\n", ": c\n\n", "hello" } do
            local _, err = played(body)
            streams.check_error({ kind = "network", error_code = "DATA_LOSS", words = "after 0 chunks" }, err)
        end
    end)

    it("with a status that is no success is the error that predict raises", function()
        local cases = {
            { status = 404, json = { error = { message = "no such model", code = "model_not_found" } } },
            { status = 400, json = { error_code = "INVALID_PARAMETER_VALUE", message = "bad inputs" } },
            { status = 422, body = "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"Field required\"}]}" },
            { status = 401, body = "" },
            { status = 500, body = "<html><title>Oops</title>", headers = { ["Content-Type"] = "text/html" } },
            { status = 302, headers = { Location = "https://example.com/login" } },
            { status = 503, body = streams.event { error = { message = "m" } }, headers = streams.HEADERS },
            { status = 400, body = ("x"):rep(5 << 20) },
        }
        for _, reply in ipairs(cases) do
            local server <close> = raw.listen { raw.reply(reply) }
            local client = streams.client(server)
            local _, err = streams.read(client)
            local same = probe.failure(client.predict, client, { endpoint = "e", inputs = {} })
            assert.equal(reply.status, err.http_status)
            for _, field in ipairs { "kind", "error_code", "message", "hint", "body", "request_id", "retryable" } do
                assert.same(same[field], err[field], field)
            end
        end
    end)
end)
