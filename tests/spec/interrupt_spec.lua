--- Ctrl-C, wherever it meets a script: the program ends with 130 within a second, and what the script
-- held is closed.
local probe = require "support.probe"
local process = require "support.process"
local raw = require "support.raw"

local BEFORE = 0.7 -- seconds after which the interrupt comes: the script must be where it is to be met
local AT_MOST = 1  -- seconds until the program has ended

local HEAD = [[
local deployments, sys, task = require "moonflow.deployments", require "moonflow.sys", require "moonflow.task"
local function hold(name)
    return setmetatable({}, { __close = function() print("closed " .. name) end })
end
io.stdout:setvbuf("no")
print("begun")
]]

--- Runs a script that must not end by itself, and interrupts it. Returns what it printed.
local function interrupt(code, ...)
    local seconds, result = probe.timed(process.run, {
        args = { "-e", HEAD .. code, ... }, interrupt = BEFORE, timeout = 20,
    })
    assert.equal(130, result.code, result.stdout .. result.stderr)
    assert.is_nil(result.signal)
    assert.is_true(seconds >= BEFORE, "it ended by itself: " .. result.stdout .. result.stderr)
    assert.is_true(seconds <= BEFORE + AT_MOST, seconds)
    assert.falsy(result.stdout:find("must not", 1, true), result.stdout)
    assert.truthy(result.stdout:find("^begun\n"))
    return result.stdout:sub(#"begun\n" + 1), result.stderr
end

local function closes(names, code, ...)
    local shown = interrupt(code, ...)
    local expected = ""
    for name in names:gmatch("%S+") do
        expected = expected .. "closed " .. name .. "\n"
    end
    assert.equal(expected, shown)
end

describe("an interrupt", function()
    it("ends a loop, and says what it was", function()
        local shown, told = interrupt("local x <close> = hold 'x'\nwhile true do end")
        assert.equal("closed x\n", shown)
        assert.matches("^error: .*interrupted", told)
    end)

    it("ends a loop that catches errors", function()
        closes("x", [[
            local x <close> = hold "x"
            while true do
                pcall(function() while true do end end)
            end]])
    end)

    it("ends a loop that catches errors round a wait", function()
        closes("x", [[
            local x <close> = hold "x"
            while true do
                pcall(task.sleep, 30)
            end]])
    end)

    it("ends a coroutine, and closes from the inside out", function()
        closes("inner outer", [[
            local outer <close> = hold "outer"
            coroutine.wrap(function()
                local inner <close> = hold "inner"
                while true do end
            end)()]])
    end)

    it("ends coroutines that catch errors within one another", function()
        closes("outer", [[
            local outer <close> = hold "outer"
            while true do
                pcall(coroutine.wrap(function()
                    while true do
                        pcall(coroutine.wrap(function() while true do end end))
                    end
                end))
            end]])
    end)

    it("ends a sleep", function()
        closes("x", "local x <close> = hold 'x'\ntask.sleep(30)\nprint('must not come here')")
    end)

    it("ends a wait for the first byte, and its connection", function()
        local server <close> = raw.listen { connections = { { { read = "request" }, { stall = true } } } }
        closes("x", [[
            local x <close> = hold "x"
            deployments.get_deploy_client(arg[1]):predict{ endpoint = "e" }
            print("must not come here")]], server.url)
        assert.equal(1, #server:requests())
        assert.is_false(server:connections()[1].open)
    end)

    it("ends the wait before a repetition", function()
        local server <close> = raw.listen { raw.reply { status = 503, headers = { ["Retry-After"] = "30" } } }
        closes("x", [[
            local x <close> = hold "x"
            deployments.get_deploy_client(arg[1]):predict{ endpoint = "e" }]], server.url)
        assert.equal(1, #server:requests())
    end)

    it("ends the wait for a connection", function()
        local server <close> = raw.listen { backlog = true }
        closes("x", [[
            local x <close> = hold "x"
            deployments.get_deploy_client(arg[1]):predict{ endpoint = "e" }]], server.url)
    end)

    it("ends a wait where Lua can not yield", function()
        closes("x", [[
            local x <close> = hold "x"
            table.sort({ 3, 2, 1 }, function() task.sleep(30) end)]])
        closes("x", [[
            local x <close> = hold "x"
            string.gsub("abc", ".", function() while true do pcall(task.sleep, 30) end end)]])
    end)

    it("ends all that task.map runs", function()
        local server <close> = raw.listen { connections = { { { read = "request" }, { stall = true } } } }
        local shown = interrupt([[
            local main <close> = hold "main"
            local client = deployments.get_deploy_client(arg[1])
            task.map({ 1, 2, 3, 4 }, function()
                local one <close> = hold "one"
                client:predict{ endpoint = "e" }
            end)]], server.url)
        assert.equal(4, select(2, shown:gsub("closed one\n", "")))
        assert.equal(1, select(2, shown:gsub("closed main\n", "")))
        assert.equal(4, #server:connections())
        for _, connection in ipairs(server:connections()) do
            assert.is_false(connection.open)
        end
    end)

    it("ends a task in the background, beside a script that waits or has ended", function()
        local loop = [[
            task.spawn(function()
                local x <close> = hold "x"
                while true do pcall(task.sleep, 0) end
            end)]]
        closes("x", loop)
        closes("x", loop .. "\ntask.sleep(30)")
        closes("x", (loop:gsub("pcall%(task.sleep, 0%)", "local y = 1")))
    end)

    it("ends a plugin that loops while it is loaded", function()
        local dir = os.tmpname()
        os.remove(dir)
        assert(os.execute("mkdir -m 700 " .. dir))
        local file = assert(io.open(dir .. "/slow.lua", "w"))
        file:write("while true do pcall(function() while true do end end) end")
        file:close()
        local seconds, result = probe.timed(process.run, {
            args = { "--plugin-dir", dir, "-e", 'require("moonflow.deployments").get_deploy_client("slow")' },
            interrupt = BEFORE, timeout = 20,
        })
        os.execute("rm -r " .. dir)
        assert.equal(130, result.code, result.stderr)
        assert.is_true(seconds >= BEFORE and seconds <= BEFORE + AT_MOST, seconds)
    end)

    it("ends a script that comes through a pipe", function()
        local seconds, result = probe.timed(process.run, {
            args = {}, stdin = "print('begun') while true do end", interrupt = BEFORE, timeout = 20,
        })
        assert.equal(130, result.code)
        assert.equal("begun\n", result.stdout)
        assert.is_true(seconds <= BEFORE + AT_MOST, seconds)
    end)

    it("lets the script clean up, with what waits", function()
        local server <close> = raw.listen { raw.reply { json = { ok = true } } }
        local shown = interrupt([[
            local x <close> = setmetatable({}, { __close = function()
                local sum = 0
                for i = 1, 100 do sum = sum + i end
                print("cleaned up", sum)
            end })
            while true do end]], server.url)
        assert.equal("cleaned up\t5050\n", shown)
    end)

    it("is an error like any other to one who looks", function()
        local shown = interrupt([[
            local error = require "moonflow.error"
            local ok, err = pcall(task.sleep, 30)
            print(ok, error.is(err), err.kind, err.error_code)]])
        assert.equal("false\ttrue\tcancelled\tCANCELLED\n", shown)
    end)
end)

describe("three interrupts", function()
    it("end what one can not stop", function()
        local line = ("a"):rep(30)
        local code = ('print("begun") io.stdout:flush() string.find("%s", "%sb")'):format(line, ("a*"):rep(30))
        local seconds, result = probe.timed(process.run, {
            "bash", "-c", [["$@" & pid=$!
                for _ in 1 2 3; do sleep 0.4; kill -INT $pid; done
                wait $pid; exit $?]], "bash", process.moonflow(), "-e", code, timeout = 20,
        })
        assert.equal(130, result.code, result.stderr)
        assert.equal("begun\n", result.stdout)
        assert.is_true(seconds < 3, seconds)
    end)
end)
