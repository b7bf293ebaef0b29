--- moonflow._server: what its objects allow in which state, used in the wrong order too.
local _server = require "moonflow._server"
local error_object = require "moonflow.error"
local serving = require "support.serving"
local task = require "moonflow.task"

local get = serving.get

--- Calls a function that must raise a usage error.
local function misuse(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, "nothing was raised")
    assert.is_true(error_object.is(err) and err.kind == "usage" or type(err) == "string", tostring(err))
end

describe("_server's objects", function()
    local listener, client

    --- Asks, and returns the exchange of that.
    local function asked(steps)
        client = task.spawn(serving.play_all, listener:port(), { steps or { { send = get "/" }, { ["end"] = true } } },
            { patience = 3 })
        local id, exchange = listener:next()
        assert.equal("integer", math.type(id))
        return exchange, id
    end

    before_each(function()
        listener = assert(_server.listen {})
    end)

    after_each(function()
        listener:close()
    end)

    it("give the request once more where it is asked for again, without the body", function()
        local exchange <close> = asked { { send = serving.post("/x?y", "body") }, { ["end"] = true } }
        assert.equal("body", exchange:request().body)
        assert.equal("/x", exchange:request().path)
        assert.equal("", exchange:request().body)
    end)

    it("take one answer", function()
        local exchange <close> = asked { { send = get "/" }, { answers = 1 } }
        assert.equal("waiting", exchange:state())
        assert.is_true(exchange:respond(200, nil, "one"))
        assert.equal("ended", exchange:state())
        misuse(exchange.respond, exchange, 200, nil, "two")
        misuse(exchange.start, exchange, 200)
        misuse(exchange.write, exchange, "three")
        exchange:finish()
        exchange:cut()
        local got = client:wait()[1]
        assert.equal("one", got.answers[1].body)
        assert.equal("", got.rest)
    end)

    it("take pieces of an answer between its start and its end", function()
        local exchange <close> = asked { { send = get "/" }, { answers = 1 } }
        misuse(exchange.write, exchange, "early")
        exchange:finish() -- nothing has begun: nothing happens
        assert.equal("waiting", exchange:state())
        assert.is_true(exchange:start(201, { ["X-A"] = "b" }))
        assert.equal("stream", exchange:state())
        misuse(exchange.start, exchange, 200)
        misuse(exchange.respond, exchange, 200)
        assert.is_true(exchange:write "one")
        assert.is_true(exchange:write "")
        assert.is_true(exchange:write "two")
        exchange:finish()
        misuse(exchange.write, exchange, "late")
        local got = client:wait()[1]
        assert.equal("onetwo", got.answers[1].body)
        assert.is_true(got.answers[1].whole)
    end)

    it("may be wrong about an answer, and give another one then", function()
        local exchange <close> = asked { { send = get "/" }, { answers = 1 } }
        for _, status in ipairs { 99, 100, 199, 600, -1, 1.5, 1 << 40 } do
            misuse(exchange.respond, exchange, status)
            misuse(exchange.start, exchange, status)
        end
        misuse(exchange.respond, exchange, 200, { ["A B"] = "x" })
        misuse(exchange.start, exchange, 200, { A = "x\ny" })
        misuse(exchange.respond, exchange, 200, "headers")
        misuse(exchange.respond, exchange, 200, nil, {})
        assert.equal("waiting", exchange:state())
        exchange:respond(200, nil, "right")
        assert.equal("right", client:wait()[1].answers[1].body)
    end)

    it("end without an answer when they are cut, closed or dropped", function()
        local ways = {
            function(exchange) exchange:cut() end, function(exchange) exchange:close() end,
            function() collectgarbage() collectgarbage() end,
        }
        for _, way in ipairs(ways) do
            way((asked()))
            collectgarbage()
            collectgarbage()
            local got = client:wait()[1]
            assert.equal("", got.received)
            assert.equal("eof", got["end"])
        end
    end)

    it("end in the middle of an answer when they are cut, closed or dropped, with all that was written", function()
        local ways = {
            function(exchange) exchange:cut() end, function(exchange) exchange:close() end,
            function() collectgarbage() collectgarbage() end,
        }
        for _, way in ipairs(ways) do
            local function begin()
                local exchange = asked()
                exchange:start(200)
                exchange:write(("x"):rep(30000))
                way(exchange)
            end
            begin()
            collectgarbage()
            collectgarbage()
            local got = client:wait()[1]
            assert.equal(30000, #got.answers[1].body)
            assert.is_false(got.answers[1].whole)
            assert.equal("eof", got["end"])
        end
    end)

    it("are of no use when they are closed", function()
        local exchange = asked()
        exchange:close()
        exchange:close()
        for _, name in ipairs { "request", "respond", "start", "write", "finish", "cut", "state" } do
            misuse(exchange[name], exchange, 200)
        end
        for _, name in ipairs { "request", "close", "state" } do
            misuse(exchange[name], listener)
            misuse(exchange[name], {})
        end
        misuse(listener.next, exchange)
        misuse(listener.close, exchange)
        assert.equal("moonflow", getmetatable(exchange))
        assert.equal("moonflow", getmetatable(listener))
    end)

    it("know when their client has left", function()
        local exchange <close>, id = asked { { send = get "/" }, { sleep = 0.05 }, { close = true } }
        local gone, why = listener:next()
        assert.equal(id, gone)
        assert.equal("gone", why)
        assert.is_false(exchange:respond(200, nil, "nobody"))
        assert.is_false(exchange:start(200))
        assert.is_false(exchange:write "nothing")
        exchange:finish()
        exchange:cut()
    end)

    it("know when their server is closed", function()
        local exchange <close> = asked()
        local streaming <close> = asked()
        streaming:start(200)
        streaming:write "one"
        listener:close()
        assert.is_false(exchange:respond(200, nil, "nobody"))
        assert.is_false(streaming:write "two")
        assert.is_nil(exchange:request())
        assert.same({ n = 0 }, table.pack(listener:next()))
        listener:stop_listening()
        listener:close()
    end)

    it("wake a writer whose server is closed", function()
        local exchange <close> = asked { { send = get "/" }, { sleep = 1 } }
        exchange:start(200)
        local writing = task.spawn(function()
            local n = 0
            while exchange:write(("x"):rep(1000000)) do
                n = n + 1
            end
            return n
        end)
        serving.eventually(function() return writing:status() == "waiting" end)
        task.sleep(0.1)
        local other = task.spawn(exchange.write, exchange, ("x"):rep(100000))
        assert.is_false((pcall(other.wait, other))) -- one writer at a time
        listener:close()
        assert.is_true(writing:wait() < 30)
    end)

    it("wake the task that waits for requests when the server is closed", function()
        local waiting = task.spawn(function() return "end", listener:next() end)
        task.sleep(0.01)
        misuse(listener.next, listener)
        listener:close()
        assert.same({ "end", n = 1 }, table.pack(waiting:wait()))
    end)

    it("answer requests that are there after it stopped to listen", function()
        local exchange <close> = asked { { send = get "/" }, { answers = 1 } }
        listener:stop_listening()
        listener:stop_listening()
        exchange:respond(200, nil, "still")
        assert.equal("still", client:wait()[1].answers[1].body)
    end)

    it("may outlive their server", function()
        local exchange = asked()
        listener:close()
        listener = assert(_server.listen {})
        collectgarbage()
        collectgarbage()
        assert.equal("waiting", exchange:state())
        exchange = nil -- luacheck: ignore 311
        collectgarbage()
        collectgarbage()
    end)

    it("may be closed in any order, with many requests under way", function()
        local steps = {}
        for i = 1, 30 do
            steps[i] = { { send = get("/" .. i) }, { ["end"] = true } }
        end
        client = task.spawn(serving.play_all, listener:port(), steps, { patience = 3 })
        local exchanges = {}
        for i = 1, 30 do
            local _, exchange = listener:next()
            exchanges[i] = exchange
            if i % 3 == 0 then
                exchange:start(200)
                exchange:write "piece"
            elseif i % 5 == 0 then
                exchange:respond(200, nil, "whole")
            end
        end
        for i = 1, 30, 7 do
            exchanges[i]:close()
        end
        listener:close()
        for i = 30, 1, -2 do
            exchanges[i]:close()
        end
        exchanges = nil -- luacheck: ignore 311
        collectgarbage()
        client:wait()
    end)
end)
