--- moonflow.server: answers that are streamed, to clients that read slowly, and clients that leave.
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
