--- moonflow.server on the wire: how requests are framed and how answers are, and what is refused
--- before a handler sees it.
local serving = require "support.serving"
local task = require "moonflow.task"

local get, post = serving.get, serving.post

--- Answers with what it was asked, and remembers it.
local function echo(seen)
    return function(request)
        seen[#seen + 1] = request
        if request.path == "/stream" then
            local pieces = { "one,", "two,", request.body }
            return 200, nil, function()
                return table.remove(pieces, 1)
            end
        end
        return 200, { ["Content-Type"] = "text/plain" }, ("%s %s %s"):format(request.method, request.path, request.body)
    end
end

local function bodies(got)
    local list = {}
    for i, answer in ipairs(got.answers) do
        list[i] = answer.body
    end
    return list
end

local function statuses(got)
    local list = {}
    for i, answer in ipairs(got.answers) do
        list[i] = answer.status
    end
    return list
end

describe("a server's connection", function()
    local seen, served

    before_each(function()
        seen = {}
        served = serving.start(echo(seen), { max_body = 1000 })
    end)

    after_each(function()
        served:close()
        assert.same({}, served.lines)
    end)

    it("is kept, and serves one request after the other", function()
        local got = served:play {
            { send = get "/1" }, { answers = 1 }, { send = post("/2", "two") }, { answers = 2 },
            { send = get "/stream" }, { answers = 3 }, { send = get "/4" }, { answers = 4 }, { sleep = 0.05 },
        }
        assert.same({ "GET /1 ", "POST /2 two", "one,two,", "GET /4 " }, bodies(got))
        assert.equal("open", got["end"])
        assert.equal("chunked", got.answers[3].headers["transfer-encoding"])
    end)

    it("answers requests that came at once in their order", function()
        local requests = { get "/1", post("/2", "two"), get "/stream" }
        local expected = { "GET /1 ", "POST /2 two", "one,two," }
        for i = 4, 40 do
            requests[i], expected[i] = get("/" .. i), ("GET /%d "):format(i)
        end
        local got = served:play { { send = table.concat(requests) }, { answers = 40 }, { sleep = 0.05 } }
        assert.same(expected, bodies(got))
        assert.equal("open", got["end"])
    end)

    it("answers slowly handled requests in their order", function()
        served:close()
        served = serving.start(function(request)
            task.sleep(request.path == "/1" and 0.1 or 0)
            return 200, nil, request.path
        end)
        assert.same({ "/1", "/2" }, bodies(served:play { { send = get "/1" .. get "/2" }, { answers = 2 } }))
    end)

    it("takes a request byte by byte", function()
        local got = served:play { { send = post("/slow", "abc"), chop = 1, delay = 0.001 }, { answers = 1 } }
        assert.same({ "POST /slow abc" }, bodies(got))
    end)

    it("closes where the client asks for it", function()
        local got = served:play { { send = get("/1", "Connection: close\r\n") .. get "/2" }, { ["end"] = true } }
        assert.same({ "GET /1 " }, bodies(got))
        assert.equal("close", got.answers[1].headers.connection)
        assert.equal("eof", got["end"])
        assert.equal(1, #seen)
    end)

    it("answers a client that has closed its sending side with its request", function()
        local got = served:play { { send = get "/1" }, { finish = true }, { ["end"] = true } }
        assert.same({ "GET /1 " }, bodies(got))
        assert.equal("eof", got["end"])
    end)

    it("speaks HTTP/1.0", function()
        local all = served:play_all {
            { { send = "GET /1 HTTP/1.0\r\n\r\n" }, { ["end"] = true } },
            { { send = "GET /stream HTTP/1.0\r\n\r\n" }, { ["end"] = true } },
            { { send = "GET /3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", times = 2 }, { answers = 2 } },
        }
        assert.same({ "GET /1 " }, bodies(all[1]))
        assert.equal("eof", all[1]["end"])
        assert.same({ "one,two," }, bodies(all[2]))
        assert.is_nil(all[2].answers[1].headers["transfer-encoding"])
        assert.is_true(all[2].answers[1].whole)
        assert.same({ "GET /3 ", "GET /3 " }, bodies(all[3]))
    end)

    it("gives HEAD the head of what GET gives", function()
        local all = served:play_all({
            { { send = get("/1", "", "HEAD") .. get("/2", "", "HEAD") }, { answers = 2 }, { sleep = 0.05 } },
            { { send = get("/stream", "", "HEAD") }, { ["end"] = true } },
        }, { head = true })
        assert.equal("8", all[1].answers[1].headers["content-length"])
        assert.equal("text/plain", all[1].answers[1].headers["content-type"])
        assert.equal("", all[1].rest)
        assert.equal(2, #all[1].answers)
        assert.equal(200, all[2].answers[1].status)
        assert.is_nil(all[2].answers[1].headers["content-length"])
        assert.equal("", all[2].rest) -- neither a chunk nor their end
    end)

    it("asks for a body that is announced", function()
        local head = get("/1", "Expect: 100-continue\r\nContent-Length: 3\r\n", "POST")
        local got = served:play {
            { send = head }, { ["until"] = "100 Continue\r\n\r\n" }, { send = "abc" }, { answers = 2 },
        }
        assert.same({ 100, 200 }, statuses(got))
        assert.equal("POST /1 abc", got.answers[2].body)
        local large = get("/1", "Expect: 100-continue\r\nContent-Length: 1001\r\n", "POST")
        assert.same({ 413 }, statuses(served:play { { send = large }, { ["end"] = true } }))
        assert.equal(1, #seen)
    end)

    it("takes bodies in chunks, with extensions and trailers, and closes behind them", function()
        local head = get("/1", "Transfer-Encoding: chunked\r\n", "POST")
        local all = served:play_all {
            {
                { send = head .. "3\r\nabc\r\n5;name=value\r\ndefgh\r\n0\r\nX-Trailer: secret\r\n\r\n" .. get "/2" },
                { ["end"] = true },
            },
            { { send = head }, { send = "0003\r\nabc\r\n0\r\n\r\n", chop = 1, delay = 0.001 }, { ["end"] = true } },
            { { send = head:gsub("chunked", "CHUNKED") .. "A\r\n0123456789\r\n0\r\n\r\n" }, { ["end"] = true } },
            { { send = head .. "0\r\n\r\n" .. get "/2" }, { ["end"] = true } },
        }
        for i, body in ipairs { "abcdefgh", "abc", "0123456789", "" } do
            assert.same({ "POST /1 " .. body }, bodies(all[i]))
            assert.equal("close", all[i].answers[1].headers.connection)
            assert.equal("eof", all[i]["end"])
        end
        assert.equal(4, #seen)
        for _, request in ipairs(seen) do
            assert.is_nil(request.headers["x-trailer"])
        end
    end)

    it("serves nothing behind chunks whose lines end in LF alone", function()
        local head = get("/1", "Transfer-Encoding: chunked\r\n", "POST")
        for _, body in ipairs { "5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n" } do
            local got = served:play { { send = head .. body .. get "/2" }, { ["end"] = true } }
            assert.same({ "POST /1 hello" }, bodies(got))
            assert.equal("eof", got["end"])
        end
        assert.equal(3, #seen)
    end)

    it("gives a handler the request as it came", function()
        served:play {
            { send = post("/a%2Fb/%00/%ff//../c?d=e%20f?g&h", "a\0b\xff",
                "X-One: 1\r\nx-one:  2 \r\nX-Empty:\r\nX-High: \xe9\r\n") },
            { answers = 1 }, { send = get "/?" }, { answers = 2 }, { send = get("*", "", "OPTIONS") }, { answers = 3 },
        }
        local request = seen[1]
        assert.equal("POST", request.method)
        assert.equal("/a%2Fb/%00/%ff//../c", request.path)
        assert.equal("d=e%20f?g&h", request.query)
        assert.equal("a\0b\xff", request.body)
        assert.equal("1, 2", request.headers["x-one"])
        assert.equal("", request.headers["x-empty"])
        assert.equal("\xe9", request.headers["x-high"])
        assert.equal("localhost", request.headers.host)
        assert.equal("127.0.0.1", request.peer)
        assert.equal("", seen[2].query)
        assert.equal("*", seen[3].path)
        assert.is_nil(seen[3].query)
    end)
end)

describe("a server's guard against browsers", function()
    -- headers of a request, with %d for the server's port, and the status that it gets
    local cases = {
        { "Host: localhost", 200 }, { "Host: localhost:%d", 200 }, { "Host: LOCALHOST:%d", 200 },
        { "Host: 127.0.0.1", 200 }, { "Host: 127.0.0.1:%d", 200 }, { "Host: [::1]", 200 }, { "Host: [::1]:%d", 200 },
        { "HOST:localhost", 200 }, { "Host: \tlocalhost", 200 }, { "Host: localhost \t", 400 },
        { "Host: localhost.", 403 }, { "Host: localhost.:%d", 403 }, { "Host: localhost:1", 403 },
        { "Host: localhost:", 403 }, { "Host: localhost:%d0", 403 }, { "Host: 127.0.0.1.evil.test", 403 },
        { "Host: 127.0.0.1.evil.test:%d", 403 }, { "Host: localhost.evil.test", 403 }, { "Host: evil.test:%d", 403 },
        { "Host: [::1]:1", 403 }, { "Host: [::1].evil.test", 403 }, { "Host: 0.0.0.0:%d", 403 },
        { "Host: 192.168.0.1:%d", 403 }, { "Host: 2130706433:%d", 403 },
        { "Host: evil.test\r\nX-Forwarded-Host: localhost", 403 },
        { "X-None: 1", 400 }, { "Host:", 400 }, { "Host: localhost\r\nHost: localhost", 400 },
        { "Host: localhost\r\nHost: evil.test", 400 }, { "Host: localhost, evil.test", 400 },
        { "Host: a b", 400 }, { "Host: <script>", 400 }, { "Host: user@localhost", 400 }, { "Host: localhost/x", 400 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:%d", 200 },
        { "Host: [::1]:%d\r\nOrigin: http://[::1]:%d", 200 },
        { "Host: localhost:%d\r\nOrigin: http://127.0.0.1:%d", 403 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:1", 403 },
        { "Host: localhost:%d\r\nOrigin: http://localhost", 403 },
        { "Host: localhost:%d\r\nOrigin: null", 403 }, { "Host: localhost:%d\r\nOrigin:", 403 },
        { "Host: localhost:%d\r\nOrigin: http://evil.test", 403 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:%d.evil.test", 403 },
        { "Host: localhost:%d\r\nOrigin: ftp://localhost:%d", 403 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:%d/", 403 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:%d\r\nOrigin: http://localhost:%d", 400 },
        { "Host: localhost:%d\r\nOrigin: http://localhost:%d\r\nOrigin: http://evil.test", 400 },
    }

    it("answers only who names this machine, from no other site", function()
        local asked = 0
        local served <close> = serving.start(function()
            asked = asked + 1
            return 200
        end)
        local connections, allowed = {}, 0
        for i, case in ipairs(cases) do
            local lines = case[1]:gsub("%%d", served.port)
            connections[i] = {
                { send = "POST / HTTP/1.1\r\n" .. lines .. "\r\nContent-Length: 0\r\n\r\n" }, { answers = 1 },
            }
            allowed = allowed + (case[2] == 200 and 1 or 0)
        end
        for i, got in ipairs(served:play_all(connections)) do
            assert.same({ cases[i][2] }, statuses(got), cases[i][1])
            assert.equal("", got.rest)
            for name in pairs(got.answers[1].headers) do
                assert.is_nil(name:match("^access%-control"))
            end
        end
        assert.equal(allowed, asked)
    end)

    it("answers to no other name without Host either", function()
        local served <close> = serving.start(function() return 200 end)
        local all = served:play_all {
            { { send = "GET / HTTP/1.0\r\n\r\n" }, { ["end"] = true } },
            { { send = "GET / HTTP/1.0\r\nHost: evil.test\r\n\r\n" }, { ["end"] = true } },
            { { send = "GET / HTTP/1.0\r\nOrigin: http://evil.test\r\n\r\n" }, { ["end"] = true } },
            { { send = "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n" }, { ["end"] = true } },
        }
        for i, status in ipairs { 200, 403, 403, 403 } do
            assert.same({ status }, statuses(all[i]))
        end
    end)
end)

describe("a server's guard against requests with two readings", function()
    local FRAMED = "POST /asked HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s"
    -- head lines, and the body; what is refused must be refused with all that follows
    local framings = {
        { "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" },
        { "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" },
        { "Content-Length: 5\r\nContent-Length: 5\r\n", "hello" },
        { "Content-Length: 5\r\nContent-Length: 0\r\n", "hello" },
        { "Content-Length: 0\r\ncontent-length: 5\r\n", "hello" },
        { "Content-Length: +5\r\n", "hello" }, { "Content-Length: -1\r\n", "hello" },
        { "Content-Length: 0x5\r\n", "hello" }, { "Content-Length: 5,5\r\n", "hello" },
        { "Content-Length: 5, 0\r\n", "hello" }, { "Content-Length: 5 5\r\n", "hello" },
        { "Content-Length: five\r\n", "hello" }, { "Content-Length:\r\n", "" },
        { "Content-Length: 99999999999999999999999\r\n", "hello" },
        { "Content-Length: 18446744073709551621\r\n", "hello" },
        { "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n" }, { "Transfer-Encoding: identity\r\n", "" },
        { "Transfer-Encoding: gzip\r\n", "" }, { "Transfer-Encoding:\r\n", "" },
        { "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n" }, { "Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n" },
        { "Transfer-Encoding : chunked\r\n", "0\r\n\r\n" }, { "Content-Length : 5\r\n", "hello" },
        { "Content-Length\t: 5\r\n", "hello" }, { " Content-Length: 5\r\n", "hello" },
        { "X: y\r\n Content-Length: 5\r\n", "hello" }, { "X: y\r\n\tTransfer-Encoding: chunked\r\n", "0\r\n\r\n" },
        { "Content-Length: 5\r\n 0\r\n", "hello" }, { "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n" },
        { "Content-Length: 5\r\nX: y\rContent-Length: 0\r\n", "hello" }, { "X: a\rb\r\n", "" },
        { "X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n" },
        { "X: a\0b\r\n", "" }, { "Content-Length: 5\0\r\n", "hello" }, { "Content\0-Length: 5\r\n", "hello" },
        { "Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n" }, { "X: y\nContent-Length: 5\n", "hello" },
        { "X: y\nTransfer-Encoding: chunked\n", "0\r\n\r\n" }, { "Content-Length: 5\n", "hello" },
        { "no colon\r\n", "" }, { ": no name\r\n", "" }, { "Content-Length 5\r\n", "hello" },
        { "X(y): z\r\n", "" }, { "\xe9: z\r\n", "" },
        { "Transfer-Encoding: chunked\r\n", "5\r\nhelloXX\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", " 5\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "5\rhello\r\n0\r\n\r\n" },
        { "Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n" },
    }
    -- first lines, before a Host line
    local lines = {
        "GET /asked", "GET", "GET ", "GET  HTTP/1.1", "GET /asked HTTP/2.0", "GET /asked HTTP/0.9",
        "GET /asked HTTP/11.1", "GET /asked http/1.1", "GET /asked HTTP/1.1 x", "GET /asked x HTTP/1.1",
        "GET  /asked HTTP/1.1", "GET /asked  HTTP/1.1", "GET /asked HTTP/1.1 ", " GET /asked HTTP/1.1",
        "GET\t/asked\tHTTP/1.1", "GET /asked\0 HTTP/1.1", "G\0T /asked HTTP/1.1", "GET /asked HTTP/1.1\0",
        "GET /as\rked HTTP/1.1", "GET /as\127ked HTTP/1.1", "GET /as\27ked HTTP/1.1", "G(T /asked HTTP/1.1",
        "/asked GET HTTP/1.1", ("M"):rep(16) .. " /asked HTTP/1.1", ("M"):rep(20000) .. " /asked HTTP/1.1",
        "GET /" .. ("a"):rep(40000) .. " HTTP/1.1", "HTTP/1.1 200 OK", ":",
    }
    local heads = {
        "GET /asked HTTP/1.1\rHost: localhost\r\n\r\n", "GET /asked HTTP/1.1\nHost: localhost\n\n",
        "GET /asked HTTP/1.1\r\nHost: localhost\n\r\n", "GET /asked HTTP/1.1\r\nHost: localhost\r\n\n",
        "GET /asked HTTP/1.1\nHost: localhost\r\n\r\n", "GET /asked HTTP/1.1\r\nHost: localhost\0\r\n\r\n",
        "GET /asked HTTP/1.1\r\n Host: localhost\r\n\r\n", "GET /asked HTTP/1.1\r\nHost: localhost\r\n X: y\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\r\n\r\n", ":\r\n\r\n",
    }

    --- What was wrong with the answers to a request that must be refused, or nil: it may get one answer
    --- that says so, and its connection must be closed.
    local function fault_of(got, served_paths)
        local answer = got.answers[1]
        if served_paths then
            return "served " .. served_paths
        elseif got["end"] ~= "eof" and got["end"] ~= "reset" then
            return "still open"
        elseif #got.answers > 1 then
            return "answered more than once"
        end
        return answer and (answer.status < 400 or answer.status > 505) and "answered " .. answer.status or nil
    end

    --- Sends each request with another one behind it, all at once.
    local function play_corpus(corpus)
        local paths, connections, faults = {}, {}, {}
        local served <close> = serving.start(function(request)
            local number = tonumber(request.path:match("%d+$"))
            paths[number] = (paths[number] or "") .. request.path
            return 200, nil, request.path
        end)
        for i, bytes in ipairs(corpus) do
            connections[i] = {
                { send = bytes:gsub("/asked", "/asked" .. i) .. get("/smuggled" .. i) }, { finish = true },
                { ["end"] = true },
            }
        end
        for i, got in ipairs(served:play_all(connections)) do
            local fault = fault_of(got, paths[i])
            faults[#faults + 1] = fault and ("%s: %q"):format(fault, corpus[i]:sub(1, 200))
        end
        assert.equal("", table.concat(faults, "\n"))
        assert.same({ 200 }, statuses(served:play { { send = get "/0" }, { answers = 1 } }))
        assert.same({}, served.lines)
    end

    it("refuses every framing of a body but the two plain ones", function()
        local corpus = {}
        for i, framing in ipairs(framings) do
            corpus[i] = FRAMED:format(framing[1], framing[2])
        end
        play_corpus(corpus)
    end)

    it("refuses every first line but a plain one", function()
        local corpus = {}
        for i, line in ipairs(lines) do
            corpus[i] = line .. "\r\nHost: localhost\r\n\r\n"
        end
        play_corpus(corpus)
    end)

    it("refuses lines that end or go on in other ways, and other protocols", function()
        play_corpus(heads)
    end)
end)
