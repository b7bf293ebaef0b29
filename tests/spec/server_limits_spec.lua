--- moonflow.server under clients that send too much, too slowly or too often, read too slowly, or leave.
local error_object = require "moonflow.error"
local http = require "moonflow.http"
local server = require "moonflow.server"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local get, post, eventually = serving.get, serving.post, serving.eventually

--- How long something may take that has to come at once.
local SOON = serving.is_slow() and 3 or 0.2

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

describe("a streamed answer", function()
    it("arrives piece by piece as it is written", function()
        local served <close> = serving.start(function()
            local n = 0
            return 200, { ["Content-Type"] = "text/event-stream" }, function()
                n = n + 1
                task.sleep(n > 1 and 0.1 or 0)
                return n <= 4 and ("piece %d\n"):format(n) or nil
            end
        end)
        local got = served:play { { send = get "/" }, { answers = 1 } }
        assert.equal("piece 1\npiece 2\npiece 3\npiece 4\n", got.answers[1].body)
        assert.equal("text/event-stream", got.answers[1].headers["content-type"])
        assert.is_true(got.pieces[1][1] < SOON, got.pieces[1][1]) -- the head, or with the first piece
        assert.is_true(got.seconds > 0.38)
        local gaps = 0
        for i = 2, #got.pieces do
            gaps = gaps + (got.pieces[i][1] - got.pieces[i - 1][1] > 0.05 and 1 or 0)
        end
        assert.is_true(gaps >= 3, gaps .. " pauses")
    end)

    it("has each piece in a chunk of its own, none where a piece is empty", function()
        local served <close> = serving.start(function()
            local pieces = { "one", "", "two", "\0\r\n\r\n0\r\n\r\n", ("x"):rep(100000) }
            return 200, nil, function() return table.remove(pieces, 1) end
        end)
        local got = served:play { { send = get "/" }, { answers = 1 }, { send = get "/" }, { answers = 2 } }
        for i = 1, 2 do
            assert.equal("onetwo\0\r\n\r\n0\r\n\r\n" .. ("x"):rep(100000), got.answers[i].body)
        end
    end)

    it("may have no piece at all", function()
        local served <close> = serving.start(function() return 200, nil, function() end end)
        local got = served:play { { send = get "/" .. get "/" }, { answers = 2 } }
        assert.same({ 200, 200 }, statuses(got))
        assert.equal("", got.answers[1].body)
    end)

    it("ends without its end where the handler raises, and its connection with it", function()
        local failures = {
            [1] = "in the middle", [2] = error_object.new { kind = "usage", message = "an object" },
            [3] = setmetatable({}, { __tostring = function() error "twice" end }), [4] = server.CUT,
        }
        local number
        local served <close> = serving.start(function()
            local n = 0
            return 200, nil, function()
                n = n + 1
                if n == 3 then
                    error(failures[number], 0)
                end
                return ("piece %d,"):format(n)
            end
        end)
        for i = 1, 5 do -- the last one raises nil
            number = i
            local got = served:play { { send = get "/" .. get "/second" }, { ["end"] = true } }
            assert.equal(1, #got.answers)
            assert.is_false(got.answers[1].whole)
            assert.equal("piece 1,piece 2,", got.answers[1].body)
            assert.equal("eof", got["end"])
            local response, err = http.request { url = served.url }
            assert.is_nil(response)
            assert.equal("network", err.kind)
        end
        assert.equal(8, #served.lines) -- none for CUT
        assert.matches("in the middle", served.lines[1])
        assert.is_nil(next(served.server.running))
    end)

    it("ends where a piece is no string", function()
        local piece
        local served <close> = serving.start(function()
            local given = false
            return 200, nil, function()
                if given then
                    return piece
                end
                given = true
                return "first"
            end
        end)
        for i, wrong in ipairs { 5, true, false, {}, print } do
            piece = wrong
            local got = served:play { { send = get "/" }, { ["end"] = true } }
            assert.is_false(got.answers[1].whole)
            assert.equal("first", got.answers[1].body)
            assert.equal(i, #served.lines)
        end
    end)

    it("closes its body once, however it ends", function()
        local closed = 0
        local metatable = {
            __close = function() closed = closed + 1 end,
            __call = function(body)
                body.n = body.n + 1
                if body.n == 2 and body.fails then
                    error "x"
                end
                task.sleep(body.n == 2 and body.waits and 30 or 0)
                return body.n <= 3 and "piece" or nil
            end,
        }
        local served <close> = serving.start(function(request)
            local path = request.path
            local body = setmetatable({ n = 0, fails = path == "/fails", waits = path == "/waits" }, metatable)
            return path == "/wrong" and 99 or 200, path == "/header" and { [""] = "" } or nil, body
        end)
        for i, path in ipairs { "/", "/fails", "/waits", "/header", "/wrong" } do
            served:play { { send = get(path) }, { ["until"] = "\r\n\r\n" }, { sleep = 0.05 } }
            eventually(function() return closed == i end)
        end
        served:play({ { send = get("/", "", "HEAD") }, { ["end"] = true } }, { head = true })
        eventually(function() return closed == 6 end)
        task.sleep(0.02)
        assert.equal(6, closed)
    end)

    it("holds its writer back while the client does not read", function()
        local written, piece = 0, ("x"):rep(32 * 1024)
        local served <close> = serving.start(function()
            return 200, nil, function()
                written = written + #piece
                return piece
            end
        end)
        collectgarbage()
        local heap, resident = collectgarbage "count" * 1024, serving.resident()
        local reading = task.spawn(served.play, served, {
            { send = get "/" }, { take = 1000 }, { sleep = 0.7 }, { take = 20 * MB }, { sleep = 0.3 },
        }, { small = 8192 })
        local last
        eventually(function() -- until nothing more is written
            local same = written > 0 and written == last
            last = written
            task.sleep(0.15)
            return same
        end)
        local parked = written
        assert.is_true(parked < 12 * MB, parked) -- what the kernel takes, and a window
        assert.is_true(#reading:wait().received >= 20 * MB)
        assert.is_true(written > parked and written < 40 * MB, written)
        collectgarbage()
        if not serving.is_slow() then
            assert.is_true(collectgarbage "count" * 1024 - heap < 50 * MB) -- what the client has read is here too
        end
        eventually(function() return next(served.server.running) == nil end)
        last = written
        task.sleep(0.05)
        assert.equal(last, written)
        assert.is_true(resident > 0)
    end)

    it("takes little memory, however long it is and however slowly it is read", function()
        local chunk, pieces = ("x"):rep(64 * 1024), 0
        local served <close> = serving.start(function()
            return 200, nil, function()
                pieces = pieces + 1
                return chunk
            end
        end)
        local function read(total)
            local result = assert(require("moonflow._process").run({ "sh", "-c",
                ("curl -sN %s | head -c %d | wc -c"):format(served.url, total) }, { timeout = 60 }))
            assert.equal(total, tonumber(result.stdout), result.stderr)
        end
        read(MB)
        collectgarbage()
        local before = serving.resident()
        read((serving.is_slow() and 20 or 200) * MB)
        assert.is_true(serving.resident() - before < (serving.is_slow() and 300 or 8) * MB)
        eventually(function() return next(served.server.running) == nil end)
    end)

    it("is cut by a client that reads nothing for longer than it may", function()
        local held
        local served <close> = serving.start(function()
            return 200, nil, setmetatable({}, {
                __call = function() return ("x"):rep(100000) end,
                __close = function() held = true end,
            })
        end, { request_timeout = 1 })
        local took = sys.monotonic()
        local reading = task.spawn(served.play, served, { { send = get "/" }, { take = 10 }, { sleep = 6 } },
            { small = 8192 })
        eventually(function() return held end, 15)
        took = sys.monotonic() - took
        assert.is_true(took >= 1 and took < 5, took)
        reading:cancel()
    end)
end)

describe("a client that leaves", function()
    for _, how in ipairs { "close", "reset" } do
        it("cancels a handler that waits, by " .. how, function()
            local held
            local served <close> = serving.start(function()
                held = serving.noting()
                local _ <close> = held
                task.sleep(30)
            end)
            local client = task.spawn(served.play, served, {
                { send = post("/", "abc") }, { sleep = 0.1 }, { [how] = true },
            })
            eventually(function() return held end)
            local started = sys.monotonic()
            eventually(function() return held.ended end)
            assert.is_true(sys.monotonic() - started < 0.1 + SOON)
            client:wait()
            assert.is_nil(next(served.server.running))
            assert.same({}, served.lines)
        end)

        it("cancels a handler that streams, by " .. how, function()
            for _, pause in ipairs { 0.005, 30 } do
                local held
                local served <close> = serving.start(function()
                    held = serving.noting()
                    local first = true
                    return 200, nil, setmetatable({}, {
                        __close = getmetatable(held).__close and function() held.ended = sys.monotonic() end,
                        __call = function()
                            task.sleep(first and 0 or pause)
                            first = false
                            return "piece"
                        end,
                    })
                end)
                local client = task.spawn(served.play, served, {
                    { send = get "/" }, { ["until"] = "piece" }, { sleep = 0.1 }, { [how] = true },
                })
                eventually(function() return held end)
                local started = sys.monotonic()
                eventually(function() return held.ended end)
                assert.is_true(held.ended - started < 0.15 + SOON, held.ended - started)
                client:wait()
                assert.same({}, served.lines)
            end
        end)

        it("frees a writer that waits for room, by " .. how, function()
            local held
            local served <close> = serving.start(function()
                held = serving.noting()
                return 200, nil, setmetatable({}, {
                    __close = function() held.ended = sys.monotonic() end,
                    __call = function() return ("x"):rep(200000) end,
                })
            end)
            local client = task.spawn(served.play, served, {
                { send = get "/" }, { take = 10 }, { sleep = 0.3 }, { [how] = true },
            }, { small = 8192 })
            eventually(function() return held end)
            local started = sys.monotonic()
            eventually(function() return held.ended end)
            assert.is_true(held.ended - started < 0.35 + SOON, held.ended - started)
            client:wait()
        end)

        it("in the middle of its request is forgotten soon, by " .. how, function()
            local asked = 0
            local served <close> = serving.start(function()
                asked = asked + 1
                return 200
            end)
            local fds = #assert(sys.list_dir "/proc/self/fd")
            local connections = {}
            for _, bytes in ipairs {
                "", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: local", get "/":sub(1, -3),
                get("/", "Content-Length: 10\r\n", "POST"), get("/", "Content-Length: 10\r\n", "POST") .. "abc",
                get("/", "Transfer-Encoding: chunked\r\n", "POST") .. "5\r\nab",
                get("/", "Transfer-Encoding: chunked\r\n", "POST") .. "5\r\nabcde\r\n0\r\n",
                get("/", "Transfer-Encoding: chunked\r\n", "POST") .. "ffffffffffffffff\r\nabc",
                get("/", "Expect: 100-continue\r\nContent-Length: 10\r\n", "POST"),
            } do
                connections[#connections + 1] = { { send = bytes }, { [how] = true } }
                connections[#connections + 1] = { { send = bytes }, { sleep = 0.05 }, { [how] = true } }
            end
            served:play_all(connections)
            eventually(function() return #assert(sys.list_dir "/proc/self/fd") == fds end, 3)
            assert.equal(0, asked)
        end)
    end

    it("does not hold up others while its handler closes what it has", function()
        local closing
        local served <close> = serving.start(function(request)
            if request.path == "/slow" then
                local _ <close> = setmetatable({}, { __close = function()
                    closing = true
                    task.sleep(2)
                    closing = false
                end })
                task.sleep(30)
            end
            return 200
        end)
        served:play { { send = get "/slow" }, { sleep = 0.05 }, { close = true } }
        eventually(function() return closing end)
        local started = sys.monotonic()
        assert.equal(200, assert(http.request { url = served.url }).status)
        assert.is_true(sys.monotonic() - started < 1)
        assert.is_true(closing)
        eventually(function() return not closing end)
    end)

    it("may fail to be noticed by a handler that fails while it is cancelled", function()
        local ended = 0
        local served <close> = serving.start(function()
            local _ <close> = setmetatable({}, { __close = function()
                ended = ended + 1
                error "while it closes"
            end })
            task.sleep(30)
        end)
        for i = 1, 3 do
            served:play { { send = get "/" }, { sleep = 0.05 }, { reset = true } }
            eventually(function() return ended == i end)
        end
        assert.is_nil(next(served.server.running))
    end)

    it("behind its request gets its answer, which nobody reads", function()
        local asked = 0
        local served <close> = serving.start(function()
            asked = asked + 1
            return 200, nil, ("x"):rep(100000)
        end)
        served:play { { send = get "/" }, { close = true } }
        served:play { { send = get "/" .. get "/" .. get "/" }, { close = true } }
        served:play { { send = get "/" .. get "/" .. get "/" }, { reset = true } }
        task.sleep(0.1)
        assert.is_nil(next(served.server.running))
        assert.equal(200, assert(http.request { url = served.url }).status)
        assert.same({}, served.lines)
        assert.is_true(asked >= 1)
    end)
end)

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
