--- moonflow.server: what it is told, what handlers may return, how they fail and how they end.
local error_object = require "moonflow.error"
local http = require "moonflow.http"
local notice = require "moonflow.notice"
local process = require "support.process"
local server = require "moonflow.server"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local get = serving.get

local function ok()
    return 200, nil, "ok"
end

--- What a start with these options raises.
local function failure(options)
    local started, err = pcall(server.start, options)
    if started then
        err:close()
    end
    assert.is_false(started, "it started")
    assert.is_true(error_object.is(err), tostring(err))
    return err
end

--- A handler's options with others.
local function with(options)
    options.handler = options.handler or ok
    return options
end

describe("server.start", function()
    it("listens on loopback, on a port that is free", function()
        local started <close> = server.start { handler = ok }
        assert.equal("127.0.0.1", started.host)
        assert.is_true(started.port > 0)
        assert.equal("http://127.0.0.1:" .. started.port, started.url)
        assert.equal("moonflow.server: " .. started.url, tostring(started))
        assert.is_true(started.is_local)
        assert.equal("ok", assert(http.request { url = started.url }).body)
        local sockets = assert(require("moonflow._process").run({ "ss", "-Hltn", "sport = :" .. started.port },
            { timeout = 10 })).stdout
        assert.matches("127%.0%.0%.1:" .. started.port, sockets)
        assert.is_nil(sockets:find("0.0.0.0:" .. started.port, 1, true))
    end)

    it("takes an address or a name", function()
        for _, host in ipairs { "127.0.0.1", "localhost", "::1", "127.0.0.2" } do
            local can, started = pcall(server.start, with { host = host })
            if can then
                local _ <close> = started
                assert.is_true(started.is_local)
                assert.equal(200, assert(http.request { url = started.url }).status, host)
            else
                assert.equal("::1", host) -- there are machines without IPv6
            end
        end
    end)

    it("knows which addresses can be reached from elsewhere", function()
        local started <close> = server.start(with { host = "0.0.0.0" })
        assert.is_false(started.is_local)
        local got = serving.play_all(started.port, {
            { { send = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" }, { answers = 1 } },
        })
        assert.equal(200, got[1].answers[1].status)
    end)

    it("takes a handler that is an object", function()
        local handler = setmetatable({}, { __call = function(_, request) return 200, nil, request.path end })
        local started <close> = server.start { handler = handler }
        assert.equal("/x", assert(http.request { url = started.url .. "/x" }).body)
    end)

    it("tells of a port in use", function()
        local first <close> = server.start { handler = ok }
        local err = failure(with { port = first.port })
        assert.equal("config", err.kind)
        assert.equal("RESOURCE_CONFLICT", err.error_code)
        assert.equal(("can not listen on 127.0.0.1:%d: Address already in use"):format(first.port), err.message)
        assert.matches("another port", err.hint)
        assert.equal("ok", assert(http.request { url = first.url }).body)
    end)

    it("tells of an address that is none of this machine, and of a name that is none", function()
        for _, host in ipairs { "192.0.2.1", "name.invalid", "", "300.1.1.1", "a b", ("a"):rep(5000) } do
            local err = failure(with { host = host })
            assert.equal("config", err.kind)
            assert.matches("can not listen on", err.message)
        end
    end)

    it("refuses options that are not there", function()
        for _, wrong in ipairs { false, 1, "port" } do
            assert.equal("usage", failure(wrong).kind)
        end
        assert.matches("handler must be a function", failure({}).message)
        for _, handler in ipairs { 1, "x", {}, true } do
            assert.matches("handler must be a function", failure({ handler = handler }).message)
        end
        local err = failure(with { max_bdy = 1 })
        assert.matches("max_bdy", err.message)
        assert.matches("max_body", err.hint)
        assert.equal("usage", failure(with { true }).kind)
        assert.equal("usage", failure(with { [{}] = 1 }).kind)
    end)

    it("refuses values of options that make no sense", function()
        local wrong = {
            port = { -1, 65536, 1.5, 0 / 0, math.huge, "80", true, {} },
            max_body = { -1, 1 << 40, 0 / 0, "1", true, 0.5 },
            max_header = { -1, 0, 1, 255, 1 << 40, 0 / 0, "1", 1024.5 },
            max_connections = { -1, 0, 1e9, 0 / 0, "1", 1.5 },
            request_timeout = { -1, 0, 1e9, 0 / 0, math.huge, "1", {} },
            handler_timeout = { -1, 0, 1e9, 0 / 0, math.huge, "1", {} },
            host = { 1, true, {}, "a\0b" },
            log = { 1, true, "x", {} },
        }
        for name, values in pairs(wrong) do
            for _, value in ipairs(values) do
                local err = failure(with { [name] = value })
                assert.equal("usage", err.kind, err.message)
                assert.matches(name, err.message, 1, true)
            end
        end
    end)

    it("is loaded where it is asked for only", function()
        local result = process.run { args = { "-e", [[
            require "moonflow.http"
            local maps = io.open("/proc/self/maps"):read("a")
            print(maps:find("microhttpd") == nil)
            require("moonflow").server.start { handler = print }:close()
            maps = io.open("/proc/self/maps"):read("a")
            print(maps:find("microhttpd") ~= nil)]] } }
        assert.equal("true\ntrue\n", result.stdout, result.stderr)
    end)
end)

describe("a handler", function()
    it("gives status, headers and body", function()
        local served <close> = serving.start(function(request)
            if request.path == "/status" then
                return tonumber(request.query)
            elseif request.path == "/body" then
                local headers = { ["X-One"] = "1", ["Content-Type"] = "a/b", ["X-Empty"] = "", ["x-tab"] = "a\tb" }
                return 200, headers, "a\0b\xff"
            end
            return 200, {}, ("x"):rep(3000000)
        end)
        for _, status in ipairs { 200, 201, 204, 299, 304, 400, 418, 500, 599 } do
            local got = served:play { { send = get("/status?" .. status) .. get("/status?200") }, { answers = 2 } }
            assert.equal(status, got.answers[1].status)
            assert.equal(200, got.answers[2].status)
        end
        local answer = served:play({ { send = get "/body" }, { answers = 1 } }).answers[1]
        assert.equal("a\0b\xff", answer.body)
        assert.equal("1", answer.headers["x-one"])
        assert.equal("a/b", answer.headers["content-type"])
        assert.equal("a\tb", answer.headers["x-tab"])
        assert.equal("4", answer.headers["content-length"])
        assert.matches("GMT$", answer.headers.date)
        assert.equal(("x"):rep(3000000), assert(http.request { url = served.url .. "/large" }).body)
        assert.same({}, served.lines)
    end)

    it("may not put anything of its own into the head", function()
        local asked
        local served <close> = serving.start(function()
            return 200, asked, "body"
        end)
        local wrong = {
            { ["X-A"] = "b\r\nX-Evil: 1" }, { ["X-A"] = "b\nX-Evil: 1" }, { ["X-A"] = "b\rX-Evil: 1" },
            { ["X-A"] = "a\0b" }, { ["X-A"] = "\127" }, { ["X-A"] = "\27[31m" }, { ["X-A\r\nX-Evil"] = "1" },
            { ["X A"] = "1" }, { ["X:"] = "1" }, { [""] = "1" }, { ["X\0"] = "1" }, { ["\xe9"] = "1" },
            { ["X(A)"] = "1" }, { ["Content-Length"] = "1" }, { ["content-length"] = "4" },
            { ["Transfer-Encoding"] = "chunked" }, { Connection = "close" }, { Date = "x" }, { ["X-A"] = 1 },
            { ["X-A"] = true }, { ["X-A"] = {} }, { "X-A: 1" },
        }
        for i, headers in ipairs(wrong) do
            asked = headers
            local got = served:play { { send = get "/" }, { answers = 1 } }
            assert.equal(500, got.answers[1].status, i)
            assert.is_nil(got.received:find("Evil", 1, true))
            assert.is_nil(got.answers[1].headers["x-a"])
            assert.equal(i, #served.lines)
        end
    end)

    it("that returns the wrong things is a 500, and a line in the log", function()
        local values
        local served <close> = serving.start(function()
            return table.unpack(values, 1, 3)
        end)
        local wrong = {
            {}, { "200" }, { 100 }, { 199 }, { 600 }, { -1 }, { 200.5 }, { 0 / 0 }, { {} }, { true },
            { 200, "headers" },
            { 200, 1 }, { 200, nil, 5 }, { 200, nil, {} }, { 200, nil, true }, { 200, nil, io.stdout },
        }
        for i, returned in ipairs(wrong) do
            values = returned
            local answer = served:play({ { send = get "/path" }, { answers = 1 } }).answers[1]
            assert.equal(500, answer.status, i)
            assert.equal("Internal Server Error", answer.body)
            assert.equal(i, #served.lines)
            assert.matches("^GET /path: ", served.lines[i])
        end
        values = { 200, nil, "fine" }
        assert.equal("fine", assert(http.request { url = served.url }).body)
    end)

    it("that raises is a 500 without a word of it, and a line in the log", function()
        local raised = {
            "secret text", { secret = true }, error_object.new { kind = "http", message = "secret message" },
            42, true,
            setmetatable({}, { __tostring = function() return "secret" end }),
            setmetatable({}, { __tostring = function() error "secret within" end }),
            setmetatable({}, { __tostring = function() return {} end }), setmetatable({}, { __name = "Secret" }),
            function() end, coroutine.create(ok),
        }
        local number
        local served <close> = serving.start(function()
            error(raised[number], 0)
        end)
        for i = 1, #raised + 1 do -- the last one raises nil
            number = i
            local got = served:play {
                { send = get "/path" }, { answers = 1 }, { send = get "/again" }, { answers = 2 },
            }
            assert.equal(500, got.answers[1].status, i)
            assert.equal(500, got.answers[2].status, i)
            assert.is_nil(got.received:find("secret"))
            assert.equal(2 * i, #served.lines)
            assert.matches("^GET /path: ", served.lines[2 * i - 1])
        end
        assert.matches("secret text\nstack traceback:", served.lines[1])
        assert.matches("secret message", served.lines[5])
        assert.is_nil(next(served.server.running))
    end)

    it("may fail deeply: recursion, memory, a coroutine, a yield", function()
        local how
        local function forever() return 1 + forever() end
        local ways = {
            forever, function() return ("x"):rep(1 << 60) end, coroutine.wrap(function() error "within" end),
            function() coroutine.yield(200) end,
            function() setmetatable({}, { __gc = error }) collectgarbage() error "x" end,
        }
        local served <close> = serving.start(function() how() end)
        for _, way in ipairs(ways) do
            how = way
            local response = http.request { url = served.url, total_timeout = 20 }
            assert.is_true(not response or response.status == 500)
        end
        how = function() error "x" end
        assert.equal(500, assert(http.request { url = served.url }).status)
        assert.is_nil(next(served.server.running))
    end)

    it("may not write to the terminal by its request's path", function()
        local lines = {}
        local write = notice.write
        notice.write = function(line) lines[#lines + 1] = line end
        local started <close> = server.start { handler = error }
        serving.play_all(started.port, { { { send = get "/\xc2\x9b31m\xff" }, { answers = 1 } } })
        notice.write = write
        assert.equal(1, #lines)
        assert.is_nil(lines[1]:find("[\0-\8\11-\31\127]"))
        assert.is_nil(lines[1]:find("\xc2\x9b", 1, true))
        assert.is_truthy(utf8.len(lines[1]))
    end)

    it("goes on when its log fails", function()
        local served <close> = serving.start(function() error "x" end, { log = function() error "full" end })
        for _ = 1, 2 do
            assert.equal(500, assert(http.request { url = served.url }).status)
        end
        assert.is_nil(next(served.server.running))
    end)

    it("closes the connection without an answer with false", function()
        local served <close> = serving.start(function() return false end)
        local got = served:play { { send = get "/" .. get "/" }, { ["end"] = true } }
        assert.equal("", got.received)
        assert.equal("eof", got["end"])
        local response, err = http.request { url = served.url }
        assert.is_nil(response)
        assert.equal("network", err.kind)
        assert.same({}, served.lines)
    end)

    it("may call other servers and its own while it is asked", function()
        local inner <close> = serving.start(function(request)
            task.sleep(0.01)
            return 200, nil, "inner" .. request.path
        end)
        local outer
        outer = serving.start(function(request)
            local depth = tonumber(request.path:match("%d+"))
            if depth == 0 then
                return 200, nil, assert(http.request { url = inner.url .. "/x" }).body
            end
            return 200, nil, depth .. " " .. assert(http.request { url = outer.url .. "/" .. depth - 1 }).body
        end)
        local _ <close> = outer
        local bodies = task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
            return assert(http.request { url = outer.url .. "/5" }).body
        end)
        for i = 1, 8 do
            assert.equal("5 4 3 2 1 inner/x", bodies[i])
        end
    end)

    it("runs beside others", function()
        local served <close> = serving.start(function()
            task.sleep(0.2)
            return 200
        end)
        local started = sys.monotonic()
        task.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function()
            return assert(http.request { url = served.url }).status
        end, { limit = 10 })
        assert.is_true(sys.monotonic() - started < (serving.is_slow() and 5 or 1))
    end)

    it("may wait where Lua can not yield", function()
        local served <close> = serving.start(function()
            local list = { 1, 2 }
            table.sort(list, function(a, b)
                task.sleep(0.02)
                return a < b
            end)
            return 200, nil, "sorted"
        end)
        local bodies = task.map({ 1, 2, 3 }, function() return assert(http.request { url = served.url }).body end)
        assert.same({ "sorted", "sorted", "sorted" }, bodies)
    end)
end)
