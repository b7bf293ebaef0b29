--- How often a request really goes out: the retry table, Retry-After and the budget, counted by the
-- server on a real connection.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local probe = require "support.probe"
local raw = require "support.raw"
local task = require "moonflow.task"

local OK = { json = { ok = true } }
local lines

before_each(function()
    lines = probe.listen()
    env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0.01"
end)

after_each(function()
    lines:close()
    env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = nil
end)

--- The requests that one call leads to where the server answers with these, the last one repeated;
-- and the call's result or error.
local function count(request, replies, options)
    local script = {}
    for i, reply in ipairs(replies) do
        script[i] = raw.reply(reply)
    end
    local server <close> = raw.listen(script)
    local client = probe.client(server.url, { max_retries = 3 })
    local ok, result = pcall(client.ask, client, { request = request, options = options })
    assert(ok or require("moonflow.error").is(result), tostring(result))
    return #server:requests(), result
end

describe("the retry table", function()
    local GET, PUT, PATCH, DELETE = { method = "GET" }, { method = "PUT" }, { method = "PATCH" }, { method = "DELETE" }
    local CREATE, PREDICT = { method = "POST", policy = "create" }, { method = "POST", policy = "predict" }
    local BREAK, SILENCE, CUT = { reset = 0 }, { stall = 0 }, { json = { text = "cut off" }, cut = 90 }
    local REPEATED, ONCE = 4, 1
    local function status(number)
        return { status = number, body = "{}" }
    end
    local rows = {
        { "GET", GET, {
            [429] = REPEATED, [500] = REPEATED, [502] = REPEATED, [503] = REPEATED,
            [400] = ONCE, [404] = ONCE, [408] = ONCE, [409] = ONCE, [501] = ONCE, [504] = ONCE, [599] = ONCE,
            broken = REPEATED, cut = REPEATED, silent = REPEATED,
        } },
        { "PUT", PUT, {
            [429] = REPEATED, [500] = REPEATED, [504] = ONCE, broken = REPEATED, cut = REPEATED, silent = ONCE,
        } },
        { "PATCH", PATCH, { [502] = REPEATED, [409] = ONCE, broken = REPEATED, cut = REPEATED, silent = ONCE } },
        { "DELETE", DELETE, { [503] = REPEATED, [404] = ONCE, broken = REPEATED, cut = REPEATED, silent = ONCE } },
        { "create", CREATE, {
            [429] = REPEATED, [503] = REPEATED, [500] = ONCE, [502] = ONCE, [504] = ONCE, [409] = ONCE,
            broken = ONCE, cut = ONCE, silent = ONCE,
        } },
        { "predict", PREDICT, {
            [429] = REPEATED, [500] = REPEATED, [502] = REPEATED, [503] = REPEATED,
            [400] = ONCE, [408] = ONCE, [504] = ONCE, [599] = ONCE, broken = REPEATED, cut = ONCE, silent = ONCE,
        } },
    }
    for _, row in ipairs(rows) do
        it("is followed to the request for " .. row[1], function()
            for fault, requests in pairs(row[3]) do
                local reply = fault == "broken" and BREAK or fault == "cut" and CUT or fault == "silent" and SILENCE
                    or status(fault)
                local options = fault == "silent" and { timeout = 0.1 } or nil
                local got, err = count(row[2], { reply }, options)
                assert.equal(requests, got, fault)
                assert.equal(requests, err.attempts, fault)
            end
        end)
    end

    it("ends with the first success", function()
        for failures = 0, 3 do
            local replies = {}
            for i = 1, failures do
                replies[i] = status(503)
            end
            replies[#replies + 1] = OK
            local got, result = count(PREDICT, replies)
            assert.equal(failures + 1, got)
            assert.same({ ok = true }, result)
        end
    end)

    it("repeats what was never sent, creations too", function()
        for _, request in ipairs { GET, CREATE, PREDICT } do
            local client = probe.client("http://127.0.0.1:" .. raw.closed_port(), { max_retries = 2 })
            local err = probe.failure(client.ask, client, { request = request })
            assert.equal(3, err.attempts)
        end
    end)

    it("takes a repeated DELETE's 404 for success, a first one's for a failure", function()
        local got, result = count(DELETE, { status(503), status(404) })
        assert.equal(2, got)
        assert.is_true(result)
        local _, err = count(DELETE, { status(404) })
        assert.equal(404, err.http_status)
    end)

    it("says that the outcome of a creation is unknown", function()
        for _, fault in ipairs { status(500), BREAK, CUT } do
            local _, err = count(CREATE, { fault })
            assert.matches("outcome is unknown", err.message)
        end
    end)

    it("sends the same bytes again", function()
        local server <close> = raw.listen { raw.reply(status(503)), raw.reply { reset = 0 }, raw.reply(OK) }
        local client = deployments.get_deploy_client(server.url, { token = "token-0123456789" })
        client:predict { endpoint = "e", inputs = { text = "one" } }
        local requests = server:requests()
        assert.equal(3, #requests)
        for _, request in ipairs(requests) do
            assert.equal('{"text":"one"}', request.body)
            assert.equal("Bearer token-0123456789", request.header("Authorization"))
        end
    end)

    it("tells each repetition in one line", function()
        count(PREDICT, { status(503), status(500), OK })
        assert.equal(2, #lines)
        assert.matches("^moonflow: retrying in .* %(503 from http://127.0.0.1:%d+%) 1/3$", lines[1])
        assert.matches("%(500 from .*%) 2/3$", lines[2])
    end)
end)

describe("Retry-After", function()
    local MOMENT, YEAR = 0.3, 31536000
    local function date(offset)
        return os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + offset)
    end

    for _, number in ipairs { 429, 503 } do
        --- value, seconds at least, seconds at most
        local cases = {
            { "0", 0, MOMENT },
            { "1", 1, 1 + MOMENT },
            { "0.5", 0.5, 0.5 + MOMENT },
            { " 0 ", 0, MOMENT },
            { "date", 0.5, 2 + MOMENT },
            { "past date", 0, MOMENT },
            { "-1", 0, MOMENT },
            { "abc", 0, MOMENT },
            { "", 0, MOMENT },
            { "1e999", 0, MOMENT },
            { "nan", 0, MOMENT },
            { "inf", 0, MOMENT },
            { "0x10", 0, MOMENT },
            { ("9"):rep(30), 0, MOMENT },
            { "Fri, 31 Dec 9999 23:59:59 GMT", 0, MOMENT },
            { "Mon, 32 Foo 2026 25:61:61 GMT", 0, MOMENT },
        }
        it(("of a %d is waited for in every form"):format(number), function()
            task.map(cases, function(case)
                local value = case[1] == "date" and date(2) or case[1] == "past date" and date(-YEAR) or case[1]
                local seconds, requests, result = probe.timed(count, { method = "POST", policy = "predict" },
                    { { status = number, headers = { ["Retry-After"] = value } }, OK })
                local text = ("%q: %.2f s, %s"):format(case[1], seconds, tostring(result))
                assert(requests == 2, text)
                assert(seconds >= case[2] and seconds <= case[3] + 0.3, text)
            end, { limit = 4 })
        end)

        it(("of a %d that is too long ends the call at once"):format(number), function()
            for _, value in ipairs { "200", "121", date(200) } do
                local seconds, requests, err = probe.timed(task.timeout, 5, count,
                    { method = "POST", policy = "predict" },
                    { { status = number, headers = { ["Retry-After"] = value } }, OK })
                assert.equal(1, requests)
                assert.equal(number, err.http_status)
                assert.matches("the server asks to wait %d+%.?%d* s", err.message)
                assert.is_true(seconds < MOMENT * 2, seconds)
            end
        end)
    end

    it("beyond the time left ends the call at once", function()
        local seconds, requests, err = probe.timed(count, { method = "GET" },
            { { status = 503, headers = { ["Retry-After"] = "30" } } }, { total_timeout = 5 })
        assert.equal(1, requests)
        assert.matches("are left", err.message)
        assert.is_true(seconds < 1, seconds)
    end)

    it("counts for a failure that is not repeated as nothing", function()
        local requests = count({ method = "GET" }, { { status = 400, headers = { ["Retry-After"] = "0" } } })
        assert.equal(1, requests)
    end)
end)

describe("an outage", function()
    it("gets no more requests than the calls and the budget", function()
        local CALLS, BUDGET = 300, 100
        env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0"
        local server <close> = raw.listen { raw.reply { status = 503 } }
        local client = deployments.get_deploy_client(server.url, { max_retries = 5 })
        local calls = {}
        for i = 1, CALLS do
            calls[i] = i
        end
        task.map(calls, function()
            probe.failure(client.predict, client, { endpoint = "e" })
        end)
        assert.equal(CALLS + BUDGET, #server:requests())
    end)

    it("ends at the deadline, with the last failure and the attempts", function()
        env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0.2"
        env.MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = "0"
        local server <close> = raw.listen { raw.reply { status = 503 } }
        local client = deployments.get_deploy_client(server.url, { max_retries = 9 })
        local seconds, err = probe.timed(probe.failure, client.predict, client,
            { endpoint = "e", options = { total_timeout = 1 } })
        env.MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = nil
        assert.equal(503, err.http_status)
        assert.equal(#server:requests(), err.attempts)
        assert.equal(3, err.attempts) -- at 0, 0.2 and 0.6 s; the next would come at 1.4
        assert.is_true(seconds <= 1.5, seconds)
    end)
end)
