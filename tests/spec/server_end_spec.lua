--- moonflow.server: how it ends, by close and stop, by the collector and with its script.
local http = require "moonflow.http"
local process = require "support.process"
local server = require "moonflow.server"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local get, eventually = serving.get, serving.eventually

local function ok()
    return 200, nil, "ok"
end

describe("the end of a server", function()
    it("by close cancels what runs and closes every connection", function()
        local noted = {}
        local served = serving.start(function(request)
            local held <close> = serving.noting()
            noted[#noted + 1] = held
            if request.path == "/stream" then
                return 200, nil, function()
                    task.sleep(#noted < 2 and 0.01 or 30)
                    return "piece"
                end
            end
            task.sleep(30)
        end)
        local asked = task.spawn(served.play_all, served, {
            { { send = get "/wait" }, { ["end"] = true } }, { { send = get "/stream" }, { ["end"] = true } },
            { { ["end"] = true } }, { { send = "GET / HT" }, { ["end"] = true } },
            { { send = get("/", "Content-Length: 9\r\n", "POST") .. "abc" }, { ["end"] = true } },
        })
        eventually(function() return #noted == 2 end)
        task.sleep(0.1)
        local took = sys.monotonic()
        served:close()
        took = sys.monotonic() - took
        assert.is_true(took < (serving.is_slow() and 2 or 0.2), took)
        assert.is_truthy(noted[1].ended)
        for _, got in ipairs(asked:wait()) do
            assert.is_true(got["end"] == "eof" or got["end"] == "reset", got["end"])
            assert.is_nil(got.answers[1] and got.answers[1].whole or nil)
        end
        served:close()
        served.server:wait()
        local response, err = http.request { url = served.url }
        assert.is_nil(response)
        assert.equal("network", err.kind)
        assert.same({}, served.lines)
    end)

    it("by stop waits for what runs, and takes nothing more", function()
        local served = serving.start(function(request)
            task.sleep(0.3)
            return 200, nil, request.path
        end)
        local asked = task.spawn(http.request, { url = served.url .. "/asked" })
        eventually(function() return next(served.server.running) ~= nil end)
        local stopped = task.spawn(served.server.stop, served.server)
        task.sleep(0.05)
        assert.is_nil((http.request { url = served.url .. "/late" }))
        stopped:wait()
        assert.equal("/asked", assert(asked:wait()).body)
        served.server:wait()
    end)

    it("by stop cancels what takes longer than it may", function()
        local held
        local served = serving.start(function()
            held = serving.noting()
            local _ <close> = held
            task.sleep(30)
        end)
        local asked = task.spawn(http.request, { url = served.url })
        eventually(function() return held end)
        local started = sys.monotonic()
        served.server:stop(0.1)
        assert.is_true(sys.monotonic() - started < 1)
        assert.is_truthy(held.ended)
        assert.is_nil((asked:wait()))
    end)

    it("by stop waits for all, also where a handler fails meanwhile", function()
        local served = serving.start(function(request)
            task.sleep(request.path == "/fails" and 0.1 or 0.4)
            if request.path == "/fails" then
                error(setmetatable({}, { __tostring = function() error "twice" end }))
            end
            return 200, nil, "whole"
        end)
        local asked = task.spawn(http.request, { url = served.url })
        local failing = task.spawn(http.request, { url = served.url .. "/fails" })
        eventually(function()
            local first = next(served.server.running)
            return first and next(served.server.running, first)
        end)
        served.server:stop()
        assert.equal(500, assert(failing:wait()).status)
        assert.equal("whole", assert(asked:wait()).body)
    end)

    it("may come from its own handler", function()
        for _, how in ipairs { "close", "stop" } do
            local served
            served = serving.start(function()
                served.server[how](served.server, 0.1)
                task.sleep(30)
            end)
            local response = http.request { url = served.url, total_timeout = 5 }
            assert.is_nil(response)
            served.server:wait()
        end
    end)

    it("ends the tasks that wait for it", function()
        local served = serving.start(ok)
        local waiting = task.spawn(served.server.wait, served.server)
        task.sleep(0.01)
        assert.equal("waiting", waiting:status())
        served:close()
        waiting:wait()
    end)

    it("frees its port", function()
        local first = server.start { handler = ok }
        assert(http.request { url = first.url })
        first:close()
        local second <close> = server.start { handler = ok, port = first.port }
        assert.equal("ok", assert(http.request { url = second.url }).body)
    end)

    it("leaves no descriptor behind", function()
        local function count()
            return #assert(sys.list_dir "/proc/self/fd")
        end
        local function once()
            local served <close> = serving.start(ok)
            served:play { { send = get "/" }, { answers = 1 } }
            pcall(server.start, { handler = ok, port = served.port })
            pcall(server.start, { handler = ok, host = "192.0.2.1" })
        end
        once()
        local before = count()
        for _ = 1, 5 do
            once()
        end
        assert.equal(before, count())
    end)

    it("comes when the collector takes one that nobody holds", function()
        local _server = require "moonflow._server"
        local function serve_one()
            local listener = assert(_server.listen {})
            local port = listener:port()
            local waiting = task.spawn(serving.play_all, port, { { { send = get "/" }, { ["end"] = true } } })
            local _, exchange = listener:next()
            assert.equal("waiting", exchange:state())
            return port, waiting
        end
        local port, waiting = serve_one()
        collectgarbage()
        collectgarbage()
        assert.equal("", waiting:wait()[1].received)
        local again <close> = server.start { handler = ok, port = port }
        assert.equal(port, again.port)
    end)

    it("comes with the end of the script, however that ends", function()
        local start = [[
            local task, server = require "moonflow.task", require "moonflow.server"
            local http = require "moonflow.http"
            local started = server.start { handler = function(request)
                if request.path == "/stream" then
                    return 200, nil, function() task.sleep(0.01) return ("x"):rep(100000) end
                elseif request.path == "/wait" then
                    local _ <close> = setmetatable({}, { __close = function() print "closed" end })
                    task.sleep(30)
                end
                return 200, nil, "ok"
            end }
            task.spawn(http.request, { url = started.url .. "/stream" })
            task.spawn(http.request, { url = started.url .. "/wait" })
            task.sleep(0.2)
            print(http.request { url = started.url }.body)]]
        local ends = {
            { "os.exit(3, true)", 3 }, { "os.exit(3)", 3 }, { "error 'the end'", 1 },
            { "started:close()", 0 }, { "started:stop(0.1)", 0 },
        }
        for _, case in ipairs(ends) do
            local result = process.run { args = { "-e", start .. "\n" .. case[1] }, timeout = 20 }
            assert.equal(case[2], result.code, case[1] .. "\n" .. result.stderr)
            assert.matches("^ok\n", result.stdout)
            assert.is_nil(result.stderr:find("Sanitizer", 1, true), result.stderr)
        end
    end)

    it("is not the end of the script: it goes on serving until it is interrupted", function()
        local script = [[
            local started = require("moonflow.server").start { handler = function() return 200 end }
            print(started.port)
            io.stdout:flush()]]
        local result = process.run { args = { "-e", script }, timeout = 20, interrupt = 0.7 }
        assert.matches("^%d+\n$", result.stdout, nil, nil, result.stderr)
        assert.is_true(result.code == 130 or result.signal == 2, tostring(result.code))
    end)
end)
