--- moonflow.backend.openai: what failures say, what answers tell about themselves, and when and how
-- often a request is repeated (spec/openai.md 2).
local deployments = require "moonflow.deployments"
local json = require "moonflow.json"
local openai = require "support.openai"
local probe = require "support.probe"
local raw = require "support.raw"
local task = require "moonflow.task"

local CHAT, KEY = openai.CHAT, openai.KEY
local OK = { json = { choices = {} } }

describe("moonflow.backend.openai:", function()
    local world, client

    local function open(...)
        world, client = openai.open(...)
    end

    after_each(function()
        world:close()
    end)

    --- The error object that a function raises.
    local function raised(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    local function failure(method, ...)
        return raised(client[method], client, ...)
    end

    local function ask(options)
        return client:predict { endpoint = "m", inputs = CHAT, options = options }
    end

    local function ask_in_vain(options)
        return failure("predict", { endpoint = "m", inputs = CHAT, options = options })
    end

    describe("time and attempts", function()
        --- environment, options of the client, options of the call, seconds, attempts
        local CASES = {
            { {}, {}, {}, 60, 3 },
            { { OPENAI_TIMEOUT = "2.5", OPENAI_MAX_RETRIES = "0" }, {}, {}, 2.5, 1 },
            { { OPENAI_TIMEOUT = "7", OPENAI_MAX_RETRIES = "4" }, { timeout = 3, max_retries = 1 }, {}, 3, 2 },
            { { OPENAI_TIMEOUT = "7", OPENAI_MAX_RETRIES = "4" }, { timeout = 3, max_retries = 1 },
                { timeout = 1, max_retries = 0 }, 1, 1 },
            { { OPENAI_MAX_RETRIES = "1" }, {}, { max_retries = 3 }, 60, 4 },
            { { MLFLOW_HTTP_REQUEST_MAX_RETRIES = "0" }, {}, {}, 60, 3 },
        }
        for i, case in ipairs(CASES) do
            it("come from options or variables: " .. i, function()
                case[1].OPENAI_API_KEY = KEY
                open({ status = 503 }, nil, case[2], case[1])
                local err = ask_in_vain(case[3])
                assert.equal(case[4], world.requests[1].first_byte_timeout)
                assert.equal(case[4], world.requests[1].idle_timeout)
                assert.equal(case[5], #world.requests)
                assert.equal(case[5], err.attempts)
            end)
        end

        for name, values in pairs {
            OPENAI_TIMEOUT = { "", "0", "-1", "ten", "inf", "nan", "0x10", "1 s" },
            OPENAI_MAX_RETRIES = { "", "two", "1.5", "1e1", "99999999999999999999", "-1", "10" },
        } do
            for _, value in ipairs(values) do
                it(("do not come from %s=%q"):format(name, value), function()
                    open(OK, nil, nil, { OPENAI_API_KEY = KEY, [name] = value })
                    for _, err in ipairs { ask_in_vain(), failure("list_endpoints") } do
                        assert.equal("config", err.kind)
                        assert.equal(2, world.error.exit_code(err))
                    end
                    assert.equal(0, #world.requests)
                    assert.matches(name, ask_in_vain().message, 1, true)
                end)
            end
        end

        it("reach listing too", function()
            open({ status = 503 }, nil, nil, { OPENAI_API_KEY = KEY, OPENAI_TIMEOUT = "5", OPENAI_MAX_RETRIES = "1" })
            failure("list_endpoints")
            assert.equal(2, #world.requests)
            assert.equal(5, world.requests[1].first_byte_timeout)
        end)
    end)

    describe("a failure", function()
        local QUOTA = { message = "You exceeded your quota", type = "insufficient_quota", code = "insufficient_quota" }
        --- status, answer's body, words of the message, error_code
        local CASES = {
            { 401, { error = {
                message = "Bad key", type = "invalid_request_error", param = json.null, code = "invalid_api_key",
            } }, "Bad key (invalid_api_key)", "UNAUTHENTICATED" },
            { 404, { error = {
                message = "No model x", type = "invalid_request_error", param = "model", code = json.null,
            } }, "No model x (invalid_request_error)", "ENDPOINT_NOT_FOUND" },
            { 429, { error = QUOTA }, "You exceeded your quota (insufficient_quota)", "RESOURCE_EXHAUSTED" },
            { 400, { error = "model is required" }, "model is required", "BAD_REQUEST" },
            { 404, { error = { code = 404, message = "Not here" } }, "Not here" },
            { 400, {
                object = "error", message = "Too long", type = "BadRequestError", param = json.null, code = 400,
            }, "Too long" },
            { 401, { detail = "Missing key" }, "Missing key" },
            { 422, { detail = { { loc = { "body", "messages", 1 }, msg = "Field required", type = "missing" } } },
                "body.messages.1: Field required" },
            { 401, { statusCode = 401, message = "Access denied due to invalid key" }, "Access denied due to" },
            { 400, { error = {
                message = "The response was filtered", code = "content_filter", status = 400,
                innererror = {
                    code = "ResponsibleAIPolicyViolation", content_filter_result = { hate = { filtered = true } },
                },
            } }, "The response was filtered (content_filter)" },
            { 429, {
                error = { code = 429, message = "Upstream busy", metadata = { provider_name = "p" } },
            }, "Upstream busy" },
            { 503, "upstream connect error", "upstream connect error" },
            { 502, "<html><head><title>Bad gateway</title></head></html>", 'an HTML page, title "Bad gateway"' },
            { 500, "", "answered 500" },
            { 400, "[1, 2", "[1, 2" },
            { 400, '"just a text"', "just a text" },
        }
        for i, case in ipairs(CASES) do
            it(("says what the server said: %d, %s"):format(i, case[3]), function()
                open { status = case[1], [type(case[2]) == "table" and "json" or "body"] = case[2] }
                local err = ask_in_vain { max_retries = 0 }
                assert.equal("http", err.kind)
                assert.equal(case[1], err.http_status)
                assert.matches(case[3], err.message, 1, true)
                assert.matches("POST /v1/chat/completions", err.message, 1, true)
                assert.equal(case[4] or err.error_code, err.error_code)
                assert.equal("predict", err.operation)
                assert.matches("openai_failures_spec.lua:%d+$", err.where)
                if type(case[2]) == "table" then
                    assert.same(case[2], err.body)
                end
            end)
        end

        it("has the exit code of its status", function()
            local codes = { [400] = 5, [401] = 4, [403] = 4, [404] = 3, [422] = 5, [429] = 7, [500] = 6, [503] = 6 }
            for status, code in pairs(codes) do
                open { status = status }
                assert.equal(code, world.error.exit_code(ask_in_vain { max_retries = 0 }))
                world:close()
            end
            open(OK)
        end)

        it("keeps the server's name for the request", function()
            local cases = {
                { "x-request-id", "req_1" }, { "apim-request-id", "a-1" }, { "x-ms-client-request-id", "c-1" },
                { "x-generation-id", "gen-1" }, { "x-litellm-call-id", "l-1" },
            }
            for _, case in ipairs(cases) do
                open { status = 500, headers = { [case[1]] = case[2] } }
                assert.equal(case[2], ask_in_vain { max_retries = 0 }.request_id)
                assert.equal(case[2], client:last_response().request_id)
                world:close()
            end
            open { status = 500, headers = { ["x-request-id"] = "first", ["apim-request-id"] = "second" } }
            assert.equal("first", ask_in_vain { max_retries = 0 }.request_id)
        end)

        --- inside of a 200: body, words, status, exit code
        local INSIDE = {
            { { error = { message = "Overloaded", type = "server_error" } }, "Overloaded (server_error)", 500, 6 },
            { { error = { message = "Slow", code = "rate_limit_exceeded" } }, "Slow (rate_limit_exceeded)", 429, 7 },
            { { error = { message = "Bad", code = 400 } }, "Bad", 400, 5 },
            { { error = "just words" }, "just words", nil, 6 },
            { { object = "error", message = "Old vLLM", code = 503 }, "Old vLLM", 503, 6 },
        }
        for _, case in ipairs(INSIDE) do
            it("may come with status 200: " .. case[2], function()
                open { json = case[1] }
                local err = ask_in_vain { max_retries = 0 }
                assert.equal("http", err.kind)
                assert.matches(case[2], err.message, 1, true)
                assert.equal(case[3], err.http_status)
                assert.equal(case[4], world.error.exit_code(err))
            end)
        end

        it("is not seen in an answer that has an empty error", function()
            for _, value in ipairs { json.null, "" } do
                open { json = { error = value, choices = {} } }
                assert.same({ error = value, choices = {} }, ask())
                world:close()
            end
            open(OK)
        end)

        it("hints at /v1 where a page is answered", function()
            for _, headers in ipairs { { ["content-type"] = "text/html" }, {} } do
                open { body = "<!doctype html><title>Welcome</title>", headers = headers }
                local err = ask_in_vain()
                assert.equal("decode", err.kind)
                assert.matches('an HTML page, not JSON', err.message, 1, true)
                assert.matches("ends in /v1", err.hint, 1, true)
                assert.equal(1, #world.requests)
                world:close()
            end
            open { status = 404, body = "<title>404</title>" }
            assert.matches("ends in /v1", ask_in_vain().hint, 1, true)
        end)

        it("hints at the route, and at a server that is not running", function()
            open { { status = 400 }, { kind = "network", phase = "connect", message = "Connection refused" } }
            assert.matches("the inputs decide on the route", ask_in_vain().hint)
            assert.matches("is the server running", ask_in_vain { max_retries = 0 }.hint)
        end)

        it("is an empty body, or one that is cut", function()
            for _, body in ipairs { "", '{"choices": [' } do
                open { body = body }
                assert.equal("decode", ask_in_vain().kind)
                world:close()
            end
            open(OK)
        end)
    end)

    describe("rate limits", function()
        --- value of x-ratelimit-reset-requests, seconds
        local DURATIONS = {
            { "12ms", 0.012 }, { "1s", 1 }, { "6m0s", 360 }, { "1h2m3.5s", 3723.5 }, { "8.64s", 8.64 }, { "30", 30 },
            { "0", 0 }, { "-1", -1 }, { "soon" }, { "1x" }, { "1h2" }, { "" }, { "250us", 0.00025 },
        }
        for _, case in ipairs(DURATIONS) do
            it(("have a reset: %q"):format(case[1]), function()
                open { json = {}, headers = { ["x-ratelimit-reset-requests"] = case[1] } }
                ask()
                local limits = client:last_response().rate_limits
                if case[2] then
                    assert.near(case[2], limits.requests.reset, 1e-9)
                    assert.is_nil(limits.tokens)
                else
                    assert.is_nil(limits)
                end
            end)
        end

        local HEADERS = {
            ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-limit-tokens"] = "150000",
            ["x-ratelimit-remaining-requests"] = "59", ["x-ratelimit-remaining-tokens"] = "149984",
            ["x-ratelimit-reset-requests"] = "1s", ["x-ratelimit-reset-tokens"] = "6m0s",
        }
        local LIMITS = {
            requests = { limit = 60, remaining = 59, reset = 1 },
            tokens = { limit = 150000, remaining = 149984, reset = 360 },
        }

        it("are with errors, and with answers", function()
            open { { status = 429, headers = HEADERS }, { json = {}, headers = HEADERS }, OK }
            assert.same(LIMITS, ask_in_vain { max_retries = 0 }.rate_limits)
            ask()
            assert.same(LIMITS, client:last_response().rate_limits)
            ask()
            assert.is_nil(client:last_response().rate_limits)
        end)
    end)

    describe("last_response", function()
        it("is nil before the first answer", function()
            open { kind = "network", phase = "connect" }
            assert.is_nil(client:last_response())
            ask_in_vain { max_retries = 0 }
            assert.is_nil(client:last_response())
        end)

        it("tells of status, headers and attempts", function()
            open { { status = 503 }, { json = {}, reason = "Fine", headers = { ["x-a"] = "b" } }, { status = 404 } }
            ask()
            local last = client:last_response()
            assert.same({ 200, "Fine", 2, "b" }, { last.status, last.reason, last.attempts, last.headers["x-a"] })
            ask_in_vain()
            assert.equal(404, client:last_response().status)
        end)

        it("is that of the coroutine", function()
            open {
                { json = {}, headers = { ["x-request-id"] = "one" } },
                { json = {}, headers = { ["x-request-id"] = "two" } },
            }
            ask()
            local id = coroutine.wrap(function()
                assert.is_nil(client:last_response())
                ask()
                return client:last_response().request_id
            end)()
            assert.equal("two", id)
            assert.equal("one", client:last_response().request_id)
        end)
    end)

    describe("a repetition", function()
        local function date(seconds)
            return os.date("!%a, %d %b %Y %H:%M:%S GMT", 1700001000 + seconds)
        end

        --- header value, seconds of the wait; nil: none, the call ends
        local RETRY_AFTER = {
            { "20", 20 }, { "0", 0.5 }, { "-10", 0.5 }, { "1.5", 1.5 }, { "60", 60 }, { "61", 61 }, { "120", 120 },
            { "121" },
            { date(20), 20 }, { date(120), 120 }, { date(121) }, { date(0), 0.5 }, { date(-20), 0.5 },
            { ("9"):rep(35), 0.5 }, { "inf", 0.5 }, { "nan", 0.5 }, { "", 0.5 }, { "abc", 0.5 }, { "0x10", 0.5 },
            { "Zun, 29 Sep 2023 16:26:27 GMT", 0.5 }, { "Fri, 29 Sep 100000 16:26:27 GMT", 0.5 },
        }
        for _, case in ipairs(RETRY_AFTER) do
            it(("waits as Retry-After says: %q"):format(case[1]), function()
                open { { status = 429, headers = { ["retry-after"] = case[1] } }, OK }
                if case[2] then
                    ask()
                    assert.same({ case[2] }, world.sleeps)
                else
                    local err = ask_in_vain()
                    assert.matches("the server asks to wait 121 s", err.message)
                    assert.equal(429, err.http_status)
                    assert.equal(1, #world.requests)
                end
            end)
        end

        --- retry-after-ms, retry-after, seconds
        local MILLISECONDS = {
            { "1500", "20", 1.5 }, { "120000", nil, 120 }, { "120001", "1" }, { "abc", "20", 20 }, { "0", "20", 0.5 },
            { "0.5", nil, 0.0005 }, { "-5", nil, 0.5 },
        }
        for _, case in ipairs(MILLISECONDS) do
            it("waits as retry-after-ms says: " .. case[1], function()
                open { { status = 503, headers = { ["retry-after-ms"] = case[1], ["retry-after"] = case[2] } }, OK }
                if case[3] then
                    ask()
                    assert.same({ case[3] }, world.sleeps)
                else
                    ask_in_vain()
                    assert.equal(1, #world.requests)
                end
            end)
        end

        it("waits twice as long each time, up to eight seconds, and up to a quarter less", function()
            open({ status = 500 }, nil, { max_retries = 6 })
            ask_in_vain()
            assert.same({ 0.5, 1, 2, 4, 8, 8 }, world.sleeps)
            world:close()
            open({ status = 500 }, nil, { max_retries = 6 }, nil, 1)
            ask_in_vain()
            assert.same({ 0.375, 0.75, 1.5, 3, 6, 6 }, world.sleeps)
        end)

        it("does not go beyond the time for the call", function()
            open({ status = 503, headers = { ["retry-after"] = "30" } }, nil, { total_timeout = 20 })
            assert.matches("only 20 s are left", ask_in_vain().message)
            assert.equal(1, #world.requests)
        end)

        it("follows these statuses and no others", function()
            for _, status in ipairs { 408, 409, 429, 500, 501, 502, 503, 504, 520, 529, 599 } do
                open { { status = status }, OK }
                ask()
                assert.equal(2, #world.requests)
                world:close()
            end
            for _, status in ipairs { 300, 302, 307, 400, 401, 402, 403, 404, 405, 410, 413, 418, 422, 425, 451 } do
                open { { status = status }, OK }
                assert.equal(status, ask_in_vain().http_status)
                assert.equal(1, #world.requests)
                world:close()
            end
            open(OK)
        end)

        it("is as the server says in x-should-retry", function()
            local cases = {
                { 400, "true", 3 }, { 422, "true", 3 }, { 429, "false", 1 }, { 500, "false", 1 }, { 503, "false", 1 },
                { 400, "True", 1 }, { 503, "False", 3 }, { 503, "", 3 }, { 400, "false", 1 }, { 503, "true", 3 },
            }
            for _, case in ipairs(cases) do
                open { status = case[1], headers = { ["x-should-retry"] = case[2] } }
                assert.equal(case[3], ask_in_vain().attempts)
                assert.equal(case[3], #world.requests)
                world:close()
            end
            open(OK)
        end)

        it("never follows a quota or credit that is used up", function()
            for _, word in ipairs { "insufficient_quota", "credit_balance_exhausted" } do
                for _, fault in ipairs { { code = word }, { type = word }, { type = "x", code = word } } do
                    for _, should in ipairs { false, "true" } do
                        open {
                            status = 429, json = { error = fault },
                            headers = { ["x-should-retry"] = should or nil, ["retry-after"] = "1" },
                        }
                        local err = ask_in_vain()
                        assert.equal(1, #world.requests)
                        assert.is_false(err.retryable)
                        world:close()
                    end
                end
            end
            open(OK)
        end)

        it("follows broken connections before an answer, and never a wait for one", function()
            local cases = {
                { { kind = "network", error_code = "TEMPORARILY_UNAVAILABLE", phase = "connect" }, 3 },
                { { kind = "network", error_code = "DATA_LOSS", phase = "first byte", request_sent = true }, 3 },
                { { kind = "network", error_code = "DATA_LOSS", phase = "body", request_sent = true }, 1 },
                { { kind = "timeout", phase = "connect" }, 3 },
                { { kind = "timeout", phase = "first byte", request_sent = true }, 1 },
                { { kind = "timeout", phase = "idle", request_sent = true }, 1 },
                { { kind = "timeout", phase = "total", request_sent = true }, 1 },
            }
            for _, case in ipairs(cases) do
                open(case[1])
                assert.equal(case[2], ask_in_vain().attempts)
                assert.equal(case[2], #world.requests)
                world:close()
            end
            open(OK)
        end)

        it("sends the same again, and says so", function()
            open { { status = 503 }, { status = 429, headers = { ["retry-after"] = "2" } }, OK }
            ask()
            assert.equal(world.requests[1].body, world.requests[3].body)
            assert.same({
                "moonflow: retrying in 0.5 s (503 from https://api.openai.com) 1/2",
                "moonflow: retrying in 2 s (429 from https://api.openai.com, Retry-After: 2) 2/2",
            }, world.lines)
        end)

        it("follows an error in an answer of status 200 whose type says so", function()
            open { { json = { error = { message = "busy", type = "overloaded_error" } } }, OK }
            ask()
            assert.equal(2, #world.requests)
            world:close()
            open { json = { error = { message = "over", type = "insufficient_quota" } } }
            ask_in_vain()
            assert.equal(1, #world.requests)
        end)
    end)
end)

describe("moonflow.backend.openai over the wire:", function()
    local lines, variables

    before_each(function()
        lines, variables = probe.listen(), openai.hide_environment()
    end)

    after_each(function()
        lines:close()
        variables:close()
    end)

    local function connect(server, options)
        return deployments.get_deploy_client("openai:" .. server.url .. "/v1", options)
    end

    local function ask(client, options)
        return client:predict { endpoint = "m", inputs = CHAT, options = options }
    end

    --- replies, requests
    local COUNTS = {
        { "a 200", { { json = {} } }, 1 },
        { "503s", { { status = 503, headers = { ["retry-after-ms"] = "1" } } }, 3 },
        { "a 409 and a 200", { { status = 409, headers = { ["retry-after-ms"] = "1" } }, { json = {} } }, 2 },
        { "a 400 that x-should-retry is with", {
            { status = 400, headers = { ["x-should-retry"] = "true", ["retry-after-ms"] = "1" } }, { json = {} },
        }, 2 },
        { "a quota that is used up", {
            {
                status = 429, headers = { ["x-should-retry"] = "true" },
                json = { error = { code = "insufficient_quota" } },
            },
        }, 1 },
        { "silence", { { stall = 0 } }, 1 },
        { "half an answer", { { json = { text = ("x"):rep(100) }, cut = 120 } }, 1 },
        { "half an answer and silence", { { json = { text = ("x"):rep(100) }, stall = 120 } }, 1 },
        { "a redirect", { { status = 307, headers = { Location = "/v2" } } }, 1 },
    }
    for _, case in ipairs(COUNTS) do
        it(("sends %d to a server that answers with %s"):format(case[3], case[1]), function()
            local replies = {}
            for i, reply in ipairs(case[2]) do
                replies[i] = raw.reply(reply)
            end
            local server <close> = raw.listen(replies)
            local client = connect(server, { timeout = 0.3 })
            local ok, err = pcall(ask, client)
            assert.equal(case[3], #server:requests())
            assert.equal(ok and client:last_response().attempts or err.attempts, case[3])
        end)
    end

    it("keeps the last response of each task apart", function()
        local replies = {}
        for i = 1, 8 do
            replies[i] = raw.reply { json = {}, headers = { ["x-request-id"] = "req_" .. i }, wait = 0.05 }
        end
        local server <close> = raw.listen(replies)
        local client = connect(server)
        local ids = task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
            ask(client)
            task.sleep(0.05)
            return client:last_response().request_id
        end)
        table.sort(ids)
        assert.same({ "req_1", "req_2", "req_3", "req_4", "req_5", "req_6", "req_7", "req_8" }, ids)
        assert.is_nil(client:last_response())
    end)
end)
