--- moonflow.server under clients that send too much, too slowly or too often.
local http = require "moonflow.http"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local get, post, eventually = serving.get, serving.post, serving.eventually

local MB = 1024 * 1024

local function statuses(got)
    local list = {}
    for i, answer in ipairs(got.answers) do
        list[i] = answer.status
    end
    return list
end

local function echo(request)
    return 200, nil, request.body
end

describe("a server's limits", function()
    it("take a body up to its limit, with and without a length", function()
        local served <close> = serving.start(echo, { max_body = 5000 })
        local function chunked(size, piece)
            local out = { get("/", "Transfer-Encoding: chunked\r\n", "POST") }
            for at = 1, size, piece do
                local n = math.min(piece, size - at + 1)
                out[#out + 1] = ("%x\r\n%s\r\n"):format(n, ("x"):rep(n))
            end
            return table.concat(out) .. "0\r\n\r\n"
        end
        for _, size in ipairs { 0, 1, 4999, 5000 } do
            local connections = {}
            for i, bytes in ipairs { post("/", ("x"):rep(size)), chunked(size, 777), chunked(size, 5000) } do
                connections[i] = { { send = bytes }, { answers = 1 } }
            end
            for _, got in ipairs(served:play_all(connections)) do
                assert.same({ 200 }, statuses(got), size)
                assert.equal(size, #got.answers[1].body)
            end
        end
        for _, size in ipairs { 5001, 10000, 40000 } do
            local connections = {}
            for i, bytes in ipairs { post("/", ("x"):rep(size)), chunked(size, 777), chunked(size, size) } do
                connections[i] = { { send = bytes .. get "/" }, { ["end"] = true } }
            end
            for _, got in ipairs(served:play_all(connections)) do
                assert.same({ 413 }, statuses(got), size)
                assert.equal("close", got.answers[1].headers.connection)
            end
        end
        assert.equal(200, assert(http.request { url = served.url, body = "x" }).status)
    end)

    it("end a connection whose body never ends", function()
        local served <close> = serving.start(echo, { max_body = 5000 })
        local got = served:play {
            { send = get("/", "Transfer-Encoding: chunked\r\n", "POST") },
            { send = ("1000\r\n%s\r\n"):format(("x"):rep(4096)), times = 5000 }, { ["end"] = true },
        }
        assert.is_true(#got.answers <= 1 and got["end"] ~= "open", got["end"])
    end)

    it("may allow no body at all", function()
        local served <close> = serving.start(echo, { max_body = 0 })
        local all = served:play_all {
            { { send = post("/", "") }, { answers = 1 } }, { { send = post("/", "x") }, { answers = 1 } },
            { { send = get("/", "Transfer-Encoding: chunked\r\n", "POST") .. "1\r\nx\r\n0\r\n\r\n" }, { answers = 1 } },
            { { send = get "/" }, { answers = 1 } },
        }
        for i, status in ipairs { 200, 413, 413, 200 } do
            assert.same({ status }, statuses(all[i]), i)
        end
    end)

    it("refuse a head that is too large", function()
        for _, max in ipairs { 1024, 32 * 1024 } do
            local served <close> = serving.start(echo, { max_header = max })
            local all = served:play_all {
                { { send = get("/", "X: " .. ("a"):rep(max + 100) .. "\r\n") }, { ["end"] = true } },
                { { send = get("/", "X: y\r\n") }, { answers = 1 } },
                { { send = get("/" .. ("a"):rep(max + 100)) }, { ["end"] = true } },
                { { send = get("/", "X: " .. ("a"):rep(max // 4) .. "\r\n") }, { answers = 1 } },
            }
            for i, status in ipairs { 431, 200, 414, 200 } do
                assert.same({ status }, statuses(all[i]), i)
            end
        end
    end)

    it("refuse a head with too many lines", function()
        local seen
        local served <close> = serving.start(function(request)
            seen = request.headers
            return 200
        end)
        local function head(count) -- with Host
            local lines = {}
            for i = 1, count - 1 do
                lines[i] = ("X-%d: %d\r\n"):format(i, i)
            end
            return get("/", table.concat(lines))
        end
        assert.same({ 200 }, statuses(served:play { { send = head(100) }, { answers = 1 } }))
        assert.equal("99", seen["x-99"])
        assert.same({ 431 }, statuses(served:play { { send = head(101) .. get "/" }, { ["end"] = true } }))
    end)

    it("end what is sent too slowly", function()
        local served <close> = serving.start(echo, { request_timeout = 0.6 })
        local head = {
            { send = get("/x"):sub(1, -3) }, { send = ("X: y\r\n"):rep(50), chop = 1, delay = 0.02 },
            { ["end"] = true },
        }
        local body = {
            { send = get("/", "Content-Length: 1000\r\n", "POST") }, { send = ("x"):rep(1000), chop = 1, delay = 0.02 },
            { ["end"] = true },
        }
        local chunks = {
            { send = get("/", "Transfer-Encoding: chunked\r\n", "POST") },
            { send = ("1\r\nx\r\n"):rep(100), chop = 1, delay = 0.02 }, { ["end"] = true },
        }
        local all = served:play_all {
            head, body, chunks, { { ["end"] = true } }, { { send = "GET" }, { ["end"] = true } },
        }
        for i, got in ipairs(all) do
            assert.is_true(got["end"] == "eof" or got["end"] == "reset", i .. got["end"])
            assert.is_true(got.seconds >= 0.5 and got.seconds < 3, i .. ": " .. got.seconds)
            assert.is_true(#got.answers == 0 or got.answers[1].status == 408, got.received)
        end
    end)

    it("end a connection that was kept and is idle", function()
        local served <close> = serving.start(echo, { request_timeout = 0.5 })
        local got = served:play { { send = get "/" }, { answers = 1 }, { ["end"] = true } }
        assert.same({ 200 }, statuses(got))
        assert.equal("eof", got["end"])
        assert.is_true(got.seconds >= 0.4 and got.seconds < 3, got.seconds)
    end)

    it("do not end a handler for being slow before its time, nor a stream that goes on", function()
        local served <close> = serving.start(function(request)
            if request.path == "/wait" then
                task.sleep(1.6)
                return 200, nil, "waited"
            end
            local n = 0
            return 200, nil, function()
                task.sleep(0.2)
                n = n + 1
                return n <= 8 and "x" or nil
            end
        end, { request_timeout = 0.3, handler_timeout = 5 })
        local all = served:play_all {
            { { send = get "/wait" }, { answers = 1 } }, { { send = get "/stream" }, { answers = 1 } },
        }
        assert.equal("waited", all[1].answers[1].body)
        assert.equal("xxxxxxxx", all[2].answers[1].body)
        assert.is_true(all[2].answers[1].whole)
    end)

    it("end a handler that does not answer", function()
        local held
        local served <close> = serving.start(function(request)
            if request.path == "/never" then
                held = serving.noting()
                local _ <close> = held
                task.sleep(30)
            end
            return 200, nil, function()
                task.sleep(0.9)
                held = held or true
                return not request.done and "late"
            end
        end, { handler_timeout = 0.4 })
        local got = served:play { { send = get "/never" }, { answers = 1 } }
        assert.same({ 504 }, statuses(got))
        assert.is_true(got.seconds >= 0.4 and got.seconds < 2, got.seconds)
        assert.is_truthy(held.ended)
        assert.equal(1, #served.lines)
        assert.matches("longer", served.lines[1])
        local again = served:play { { send = get "/never" .. get "/never" }, { answers = 2 } }
        assert.same({ 504, 504 }, statuses(again))
    end)

    it("end the connection that has been idle longest where there are too many", function()
        local served <close> = serving.start(function()
            task.sleep(0.1)
            return 200
        end, { max_connections = 4 })
        local idle = { { send = get "/" }, { answers = 1 }, { ["end"] = true } }
        local first = task.spawn(served.play, served, idle, { patience = 20 })
        task.sleep(0.4)
        local others = task.spawn(served.play_all, served, { idle, idle, idle }, { patience = 1 })
        task.sleep(0.4)
        assert.equal("waiting", first:status())
        local busy = task.spawn(served.play, served, { { send = get "/" }, { answers = 1 } })
        local got = first:wait()
        assert.equal("eof", got["end"])
        assert.same({ 200 }, statuses(busy:wait()))
        for _, other in ipairs(others:wait()) do
            assert.equal("open", other["end"])
        end
    end)

    it("do not end connections that are at work for new ones", function()
        local served <close> = serving.start(function()
            task.sleep(0.8)
            return 200
        end, { max_connections = 3 })
        local ask = { { send = get "/" }, { answers = 1 } }
        local first = task.spawn(served.play_all, served, { ask, ask, ask })
        task.sleep(0.4)
        served:play_all({ ask, ask, ask, ask, ask }, { patience = 0.2 })
        for _, got in ipairs(first:wait()) do
            assert.same({ 200 }, statuses(got))
        end
        assert.same({ 200 }, statuses(served:play(ask)))
    end)
end)

describe("a crowd", function()
    local function crowd(served, script)
        return serving.client("crowd", served.port, script)
    end

    local cases = {
        ["that says nothing"] = { count = 1000, hold = 0.3 },
        ["that begins requests"] = { count = 1000, send = "GET / HTTP/1.1\r\nHost: loc", hold = 0.3 },
        ["that leaves by reset"] = { count = 1000, send = get "/", reset = true },
        ["that leaves in its body"] = { count = 1000, send = get("/", "Content-Length: 100\r\n", "POST") .. "abc" },
    }
    for name, script in pairs(cases) do
        it(name .. " leaves nothing behind, and others are served", function()
            local served <close> = serving.start(echo, { max_connections = 2000 })
            crowd(served, { count = 100, send = script.send })
            local fds = #assert(sys.list_dir "/proc/self/fd")
            collectgarbage()
            local resident = serving.resident()
            for _ = 1, serving.is_slow() and 1 or 3 do
                local result = crowd(served, script)
                assert.equal(script.count, result.opened)
                assert.equal(200, result.status)
            end
            eventually(function() return #assert(sys.list_dir "/proc/self/fd") <= fds end, 10)
            collectgarbage()
            if not serving.is_slow() then
                assert.is_true(serving.resident() - resident < 60 * MB, serving.resident() - resident)
            end
            assert.is_nil(next(served.server.running))
            assert.same({}, served.lines)
        end)
    end

    it("larger than the limit does not keep others out", function()
        local served <close> = serving.start(echo, { max_connections = 50 })
        local result = crowd(served, { count = 500, hold = 0.2 })
        assert.equal(200, result.status)
        assert.is_true(result.open <= 50 + 16, result.open) -- the daemon's own spare ones
    end)

    it("of handlers is cancelled when it leaves", function()
        local running = 0
        local served <close> = serving.start(function()
            running = running + 1
            local _ <close> = setmetatable({}, { __close = function() running = running - 1 end })
            task.sleep(30)
        end, { max_connections = 500 })
        local client = task.spawn(crowd, served, { count = 200, send = get "/wait", hold = 1 })
        eventually(function() return running >= 200 end, 20)
        client:cancel()
        eventually(function() return running == 0 end, 10)
        assert.is_nil(next(served.server.running))
    end)

    it("of mutated requests neither breaks the server nor gets an answer that is none", function()
        local paths = 0
        local served <close> = serving.start(function(request)
            paths = paths + 1
            assert(type(request.body) == "string" and not request.path:find("[%c ]"))
            if request.path:find "^/stream" then
                local pieces = { "a", "b", request.body }
                return 200, nil, function() return table.remove(pieces, 1) end
            end
            return 200, nil, request.body
        end, { max_body = 4000, max_header = 4096, request_timeout = 1 })
        local seed = tonumber(os.getenv "MOONFLOW_FUZZ_SEED" or 1)
        local count = tonumber(os.getenv "MOONFLOW_FUZZ_COUNT" or 320)
        local result = serving.client("fuzz", served.port, { seed = seed, count = count })
        assert.same({}, result.garbage)
        assert.is_true(result.statuses["200"] > 0 and result.statuses["400"] > 0)
        assert.is_nil(result.statuses["500"])
        assert.same({}, served.lines)
        assert.is_true(paths > 0)
        assert.equal("x", assert(http.request { url = served.url, body = "x" }).body)
    end)
end)
