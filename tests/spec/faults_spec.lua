--- Servers that are not there, stall, break off or send what no honest server sends: what a client
-- makes of each, on a real connection.
local base64 = require "moonflow.base64"
local deployments = require "moonflow.deployments"
local http = require "moonflow.http"
local json = require "moonflow.json"
local probe = require "support.probe"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"
local task = require "moonflow.task"

local VALUE = { text = "whole", list = { 1, 2, 3 } }
local SLACK = 0.5 -- seconds that a timeout may be late

local lines

--- One query without retries: the answer, or nil and the error.
local function predict(url, options)
    local client = deployments.get_deploy_client(url, { max_retries = 0 })
    local ok, result = pcall(client.predict, client, { endpoint = "e", inputs = {}, options = options })
    if ok then
        return result
    end
    assert(require("moonflow.error").is(result), tostring(result))
    return nil, result
end

--- The steps of a connection that reads one request and sends these bytes.
local function answer(...)
    return { { read = "request" }, { send64 = base64.encode(table.concat { ... }) }, { close = true } }
end

before_each(function()
    lines = probe.listen()
end)

after_each(function()
    lines:close()
end)

describe("no server", function()
    it("on the port is told, and that nothing was sent", function()
        local _, err = predict("http://127.0.0.1:" .. raw.closed_port())
        assert.equal("network", err.kind)
        assert.equal("connect", err.phase)
        assert.matches("Connection refused", err.message)
        assert.falsy(err.request_sent)
        assert.is_true(err.retryable)
    end)

    it("of that name is told", function()
        local _, err = predict("https://moonflow.invalid")
        assert.equal("network", err.kind)
        assert.equal("resolve", err.phase)
        assert.matches("no address found for https://moonflow.invalid", err.message, 1, true)
        assert.falsy(err.request_sent)
    end)

    it("answers whose name nobody tells: the wait ends in time, or when it is cancelled", function()
        local own = { "unshare", "--user", "--map-root-user", "--mount", "--net" }
        skip.unless(process.run({ own[1], own[2], own[3], own[4], own[5], "true" }).code == 0,
            "no user namespaces: a name server that never answers can not be set up")
        local script = [[
            local http, sys, task = require "moonflow.http", require "moonflow.sys", require "moonflow.task"
            local started = sys.monotonic()
            local _, err = http.request { url = "http://slow.test/", connect_timeout = 0.5 }
            print(err.kind, err.phase, sys.monotonic() - started < 1)
            started = sys.monotonic()
            local t = task.spawn(http.request, { url = "http://slow.test/" })
            local quick = task.spawn(function() task.sleep(0.1) end)
            quick:wait()
            print(sys.monotonic() - started < 0.5)
            t:cancel()
            print(t:status(), sys.monotonic() - started < 0.6)
        ]]
        local seconds, result = probe.timed(process.run, {
            own[1], own[2], own[3], own[4], own[5], "python3", "tests/servers/silent_dns.py", process.moonflow(), "-e",
            script,
        })
        assert.equal("timeout\tresolve\ttrue\ntrue\nfailed\ttrue\n", result.stdout, result.stderr)
        assert.equal(0, result.code)
        assert.is_true(seconds < 4, seconds)
    end)
end)

describe("a stall", function()
    local function check(phase, url, options)
        local seconds, _, err = probe.timed(predict, url, options)
        assert.equal("timeout", err.kind)
        assert.equal(phase, err.phase)
        assert.matches("(" .. phase, err.message, 1, true)
        local limit = options.connect_timeout or options.timeout or options.total_timeout
        assert.is_true(seconds >= limit * 0.9 and seconds <= limit + SLACK, seconds)
    end

    it("while connecting names its phase, in time", function()
        local server <close> = raw.listen { backlog = true }
        check("connect", server.url, { connect_timeout = 0.3 })
    end)

    it("before the first byte names its phase, in time", function()
        local server <close> = raw.listen { connections = { { { stall = true } } } }
        check("first byte", server.url, { timeout = 0.3 })
    end)

    it("in the status line, the headers or the body names its phase, in time", function()
        local reply = { json = VALUE }
        local head = raw.bytes(reply):find("\r\n\r\n", 1, true)
        local cases = {
            { 5, "first byte" }, { 30, "idle" }, { head, "idle" }, { head + 3, "idle" }, { head + 6, "idle" },
        }
        for _, case in ipairs(cases) do
            local server <close> = raw.listen { raw.reply { json = VALUE, stall = case[1] } }
            check(case[2], server.url, { timeout = 0.2 })
        end
    end)

    it("that never quite is one ends at the total deadline", function()
        local body = raw.listen { raw.reply { json = VALUE, chop = 1, pause = 0.05 } }
        check("total", body.url, { total_timeout = 0.4 })
        body:close()
        local again = { { send = "HTTP/1.1 102 Wait\r\n\r\n" }, { sleep = 0.02 } }
        local interim = raw.listen { connections = { { { read = "request" }, { loop = again } } } }
        check("total", interim.url, { total_timeout = 0.4 })
        interim:close()
    end)

    it("of one request does not hold up the others", function()
        local stalled <close> = raw.listen { connections = { { { stall = true } } } }
        local server <close> = raw.listen { raw.reply { json = VALUE } }
        local waiting <close> = task.spawn(predict, stalled.url, { timeout = 30 })
        task.sleep(0)
        local seconds, value = probe.timed(predict, server.url)
        assert.same(VALUE, value)
        assert.is_true(seconds < SLACK, seconds)
        assert.equal("waiting", waiting:status())
    end)
end)

describe("a status", function()
    local cases = {
        { 400, "http", "BAD_REQUEST" },
        { 401, "http", "UNAUTHENTICATED" },
        { 404, "http", "ENDPOINT_NOT_FOUND" },
        { 418, "http" },
        { 429, "http", "RESOURCE_EXHAUSTED" },
        { 500, "http", "INTERNAL_ERROR" },
        { 503, "http", "TEMPORARILY_UNAVAILABLE" },
        { 504, "http", "DEADLINE_EXCEEDED" },
        { 599, "http" },
        { 999, "http" },
    }
    local bodies = {
        json = { json = { error_code = "INVALID_PARAMETER_VALUE", message = "server's words" } },
        html = { body = "<html><title>Sign in</title></html>", headers = { ["Content-Type"] = "text/html" } },
        empty = { body = "" },
        huge = { body = ("x"):rep(300000) },
    }
    for _, case in ipairs(cases) do
        it(case[1] .. " is an error, whatever its body", function()
            for name, reply in pairs(bodies) do
                reply.status = case[1]
                local server <close> = raw.listen { raw.reply(reply) }
                local value, err = predict(server.url)
                assert.is_nil(value)
                assert.equal(case[2], err.kind)
                assert.equal(case[1], err.http_status)
                if name == "json" then
                    assert.equal("INVALID_PARAMETER_VALUE", err.error_code)
                    assert.matches("server's words", err.message)
                elseif case[3] then
                    assert.equal(case[3], err.error_code)
                end
                if name == "html" then
                    assert.matches("Sign in", err.message)
                end
                assert.is_true(#tostring(err) < 2000)
                assert.is_true(type(err.body) ~= "string" or #err.body < 9000)
            end
        end)
    end

    it("200 with HTML is no answer, and says what it is", function()
        local server <close> = raw.listen {
            raw.reply { body = bodies.html.body, headers = bodies.html.headers },
            raw.reply { body = "<!doctype html><TITLE>\n Sign in</TITLE>" },
        }
        for _ = 1, 2 do
            local _, err = predict(server.url)
            assert.equal("decode", err.kind)
            assert.matches("an HTML page", err.message)
            assert.matches("Sign in", err.message)
        end
    end)

    it("204 is nil, 205 and an empty 200 are errors", function()
        local server <close> = raw.listen {
            { { send = "HTTP/1.1 204 No Content\r\n\r\n" } }, raw.reply { status = 205 }, raw.reply {},
        }
        local value, err = predict(server.url)
        assert.is_nil(value)
        assert.is_nil(err)
        for _ = 1, 2 do
            assert.equal("decode", select(2, predict(server.url)).kind)
        end
    end)

    it("304 is an error of the server", function()
        local server <close> = raw.listen { { { send = "HTTP/1.1 304 Not Modified\r\n\r\n" } } }
        local _, err = predict(server.url)
        assert.equal("http", err.kind)
        assert.equal(304, err.http_status)
    end)

    it("1xx comes before the answer, and is none", function()
        local interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        local server <close> = raw.listen {
            connections = { answer(interim, raw.bytes { json = VALUE }), answer(interim) },
        }
        assert.same(VALUE, predict(server.url))
        local _, err = predict(server.url)
        assert.equal("network", err.kind)
    end)
end)

describe("an answer cut off at any byte", function()
    --- Asks once for each cut; all cuts are connections of one port.
    local function outcomes(reply)
        local connections, size = {}, #raw.bytes(reply)
        for cut = 0, size do
            local steps = raw.reply(setmetatable({ cut = cut }, { __index = reply }))
            connections[cut + 1] = { { read = "request" }, table.unpack(steps) }
        end
        local server <close> = raw.listen { connections = connections }
        local list = {}
        for cut = 0, size do
            local value, err = predict(server.url)
            list[cut] = { value = value, err = err }
        end
        assert.equal(size + 1, #server:connections())
        return list, size
    end

    for framing, reply in pairs {
        length = { json = VALUE },
        chunked = { json = VALUE, framing = "chunked", chunk_size = 7 },
        close = { json = VALUE, framing = "close" },
    } do
        it("is no answer: framing " .. framing, function()
            local list, size = outcomes(reply)
            local head = select(2, raw.bytes(reply):find("\r\n\r\n", 1, true))
            -- nothing depends on the last byte of chunks, a line end's second: libcurl 7.88 does not wait
            -- for it, 8.14 does
            local whole = framing == "chunked" and size - 1 or size
            for cut = 0, whole - 1 do
                local got = list[cut]
                assert.is_nil(got.value, "cut at " .. cut)
                local kind = (framing == "close" and cut >= head) and "decode" or "network"
                assert.equal(kind, got.err.kind, "cut at " .. cut .. ": " .. tostring(got.err))
                if kind == "network" then
                    assert.is_true(got.err.request_sent)
                    assert.equal(cut < head and "first byte" or "body", got.err.phase, "cut at " .. cut)
                end
            end
            for cut = whole, size do
                local got = list[cut]
                if cut == size or got.value then
                    assert.same(VALUE, got.value, "cut at " .. cut .. ": " .. tostring(got.err))
                else
                    assert.equal("network", got.err.kind, "cut at " .. cut)
                    assert.equal("body", got.err.phase, "cut at " .. cut)
                end
            end
        end)
    end

    it("is whole again when it comes byte by byte", function()
        for _, framing in ipairs { "length", "chunked", "close" } do
            local server <close> = raw.listen {
                raw.reply { json = VALUE, framing = framing, chunk_size = 5, chop = 1, pause = 0.0005 },
            }
            assert.same(VALUE, predict(server.url))
        end
    end)
end)

describe("a reset", function()
    local head = raw.bytes({ json = VALUE }):find("\r\n\r\n", 1, true) + 3
    for name, at in pairs { ["before the answer"] = 0, ["in the headers"] = 20, ["behind the headers"] = head,
        ["in the body"] = head + 4 } do
        it(name .. " is a broken connection", function()
            local server <close> = raw.listen { raw.reply { json = VALUE, reset = at } }
            local value, err = predict(server.url)
            assert.is_nil(value)
            assert.equal("network", err.kind)
            assert.is_true(err.request_sent)
        end)
    end

    it("of a kept connection does not lose the next request, nor send it twice", function()
        local reply = raw.bytes { json = VALUE }
        local server <close> = raw.listen {
            connections = {
                { { read = "request" }, { send = reply }, { reset = true } },
                { { read = "request" }, { send = reply }, { stall = true } },
            },
        }
        local client = deployments.get_deploy_client(server.url, { max_retries = 0 })
        assert.same(VALUE, client:predict { endpoint = "e" })
        task.sleep(0.05)
        assert.same(VALUE, client:predict { endpoint = "e" })
        assert.equal(2, #server:requests())
    end)
end)

describe("bytes that are no good HTTP", function()
    local body = assert(json.encode(VALUE))
    local length = "Content-Length: " .. #body .. "\r\n"
    local chunks = ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body)
    --- what is sent; and the error's kind, or nil where the answer is to be read
    local cases = {
        { "a chunk size that is no number", { "Transfer-Encoding: chunked\r\n\r\nzz\r\n", body }, "network" },
        { "a chunk size without end", { "Transfer-Encoding: chunked\r\n\r\n", ("f"):rep(64), "\r\n" }, "network" },
        { "a negative chunk size", { "Transfer-Encoding: chunked\r\n\r\n-5\r\n", body }, "network" },
        { "chunks and a length", { length, "Transfer-Encoding: chunked\r\n\r\n", chunks }, nil },
        { "chunks and a length too short", { "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", chunks }, nil },
        { "two lengths, the second longer", { length, "Content-Length: 4000\r\n\r\n", body }, "network" },
        { "two lengths, the second shorter", { length, "Content-Length: 3\r\n\r\n", body }, "decode" },
        { "two equal lengths", { length, length, "\r\n", body }, nil },
        { "a negative length", { "Content-Length: -1\r\n\r\n", body }, "network" },
        { "a length beyond all numbers", { "Content-Length: ", ("9"):rep(40), "\r\n\r\n", body }, "network" },
        { "a NUL in a header", { "X-A: a\0b\r\n", length, "\r\n", body }, "network" },
        { "an unknown transfer encoding", { "Transfer-Encoding: rot13\r\n\r\n", body }, "network" },
    }
    for _, case in ipairs(cases) do
        it(("are no crash and no half answer: %s"):format(case[1]), function()
            local server <close> = raw.listen {
                connections = { answer("HTTP/1.1 200 OK\r\n", table.concat(case[2])) },
            }
            local value, err = predict(server.url, { timeout = 2 })
            if case[3] then
                assert.is_nil(value)
                assert.equal(case[3], err.kind, tostring(err))
            else
                assert.same(VALUE, value, tostring(err))
            end
        end)
    end

    local wholes = {
        { "line feeds only", ("HTTP/1.1 200 OK\nContent-Length: %d\n\n%s"):format(#body, body), nil },
        { "HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" .. body, nil },
        { "no status line", length .. "\r\n" .. body, "network" },
        { "HTTP/0.9", body, "network" },
        { "another protocol", "SSH-2.0-OpenSSH_9.2\r\n", "network" },
        { "TLS", "\x15\x03\x01\x00\x02\x02\x46", "network" },
        { "a status of no digits", "HTTP/1.1 OK\r\n" .. length .. "\r\n" .. body, "network" },
        { "a status of two digits", "HTTP/1.1 20 OK\r\n" .. length .. "\r\n" .. body, "network" },
        { "a version of the future", "HTTP/7.0 200 OK\r\n" .. length .. "\r\n" .. body, "network" },
        { "an empty line", "\r\n", "network" },
        { "nothing", "", "network" },
    }
    for _, case in ipairs(wholes) do
        it(("are no crash and no half answer: %s"):format(case[1]), function()
            local server <close> = raw.listen { connections = { answer(case[2]) } }
            local value, err = predict(server.url, { timeout = 2 })
            if case[3] then
                assert.is_nil(value)
                assert.equal(case[3], err.kind, tostring(err))
            else
                assert.same(VALUE, value, tostring(err))
            end
        end)
    end

    it("are no crash where libcurl's memory of the last answer is met: a folded line first", function()
        local server <close> = raw.listen {
            connections = {
                answer("HTTP/1.1 200 OK\r\nX-Last: header of an answer\r\nContent-Length: 0\r\n\r\n"),
                answer("HTTP/1.1 200 OK\r\n\tX-Folded: header\r\nContent-Length: 0\r\n\r\n"),
            },
        }
        local result = process.run {
            args = { "-e", [[
                local http = require "moonflow.http"
                assert(http.request { url = arg[1] })
                http.request { url = arg[1] }
                http.request { url = arg[1] }
                print("alive")]], server.url },
        }
        assert.equal("alive\n", result.stdout, result.stderr)
        assert.equal(0, result.code)
    end)

    it("do not spill into the next answer of the connection", function()
        local reply = raw.bytes { json = VALUE }
        local other = raw.bytes { json = { text = "of somebody else" } }
        local server <close> = raw.listen { { { send = reply .. other } }, { { send = reply } } }
        local client = deployments.get_deploy_client(server.url, { max_retries = 0 })
        assert.same(VALUE, client:predict { endpoint = "e" })
        assert.same(VALUE, client:predict { endpoint = "e" })
    end)
end)

describe("too much", function()
    local HEAD = "HTTP/1.1 200 OK\r\n"

    --- Memory of this process now, in KiB.
    local function resident()
        local file <close> = assert(io.open("/proc/self/status"))
        return tonumber(file:read("a"):match("VmRSS:%s*(%d+)"))
    end

    local function refused(steps, limit_kib)
        local server <close> = raw.listen { connections = { { { read = "request" }, table.unpack(steps) } } }
        collectgarbage()
        local before = resident()
        local seconds, value, err = probe.timed(predict, server.url)
        assert.is_nil(value)
        assert.is_true(resident() - before < limit_kib, resident() - before .. " KiB")
        assert.is_true(seconds < 10, seconds)
        assert.equal(1, #server:requests())
        return err
    end

    it("body is refused at the limit", function()
        local mebibyte = { send64 = base64.encode((" "):rep(1024)), times = 1024 * 65 }
        local err = refused({ { send = HEAD .. "\r\n" }, mebibyte, { stall = true } }, 200 * 1024)
        assert.equal("network", err.kind)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.matches("larger than the limit", err.message)
        assert.falsy(err.retryable)
    end)

    it("body is refused before it comes, where its length says so", function()
        local err = refused({ { send = HEAD .. "Content-Length: 67108865\r\n\r\n" }, { stall = true } }, 1024)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
    end)

    it("body can be limited by a request", function()
        local server <close> = raw.listen { raw.reply { body = ("x"):rep(101), framing = "chunked" } }
        assert.equal("RESOURCE_EXHAUSTED", select(2, http.request { url = server.url, max_body = 100 }).error_code)
        assert.equal(101, #assert(http.request { url = server.url, max_body = 101 }).body)
    end)

    it("compression is not unpacked", function()
        local file <close> = assert(io.popen("head -c 268435456 /dev/zero | gzip -c", "r"))
        local bomb = file:read("a")
        assert.is_true(#bomb > 200000 and #bomb < 300000)
        local head = ("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"):format(HEAD, #bomb)
        local err = refused({ { send = head }, { send64 = base64.encode(bomb) }, { stall = true } }, 8 * 1024)
        assert.equal("decode", err.kind)
        assert.matches("not asked for", err.message)
    end)

    it("many headers are refused", function()
        local err = refused({ { send = HEAD }, { send = "X-A: y\r\n", times = 20000 }, { stall = true } }, 4 * 1024)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.matches("headers", err.message)
    end)

    it("of one header is refused", function()
        local line = { send = ("y"):rep(10240), times = 1024 }
        local err = refused({ { send = HEAD .. "X-A: " }, line, { stall = true } }, 4 * 1024)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.matches("header", err.message)
    end)

    it("waiting before the answer ends", function()
        local interim = { send = "HTTP/1.1 100 Continue\r\n\r\n", times = 20000 }
        local err = refused({ interim, { stall = true } }, 4 * 1024)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
    end)
end)
