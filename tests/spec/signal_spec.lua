--- moonflow._signal: a task waits for signals, and everything else keeps its usual handling.
local _process = require "moonflow._process"
local _signal = require "moonflow._signal"
local process = require "support.process"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local pid = sys.read_file("/proc/self/stat"):match("^%d+")

local function send(name)
    assert(assert(_process.run({ "sh", "-c", ("kill -%s %s"):format(name, pid) }, { timeout = 10 })).code == 0)
end

--- The blocked signals of a process, from its status.
local function blocked(status)
    return tonumber(status:match("SigBlk:%s*(%x+)"), 16)
end

local function own_blocked()
    return blocked(sys.read_file("/proc/self/status"))
end

describe("_signal", function()
    it("gives the names of signals as they come", function()
        local signals <close> = _signal.open("HUP", "USR1", "USR2", "TERM")
        for _, name in ipairs { "USR1", "HUP", "USR1", "TERM", "USR2" } do
            send(name)
            assert.equal(name, signals:next())
        end
    end)

    it("keeps what comes while nobody waits", function()
        local signals <close> = _signal.open("USR1", "USR2")
        send "USR2"
        send "USR1"
        task.sleep(0.05)
        local names = { signals:next(), signals:next() }
        table.sort(names)
        assert.same({ "USR1", "USR2" }, names)
    end)

    it("lets other tasks run while one waits", function()
        local signals <close> = _signal.open "USR1"
        local waiting = task.spawn(signals.next, signals)
        task.sleep(0.05)
        assert.equal("waiting", waiting:status())
        send "USR1"
        assert.equal("USR1", waiting:wait())
    end)

    it("ends a wait when it is closed", function()
        local signals = _signal.open "USR1"
        local waiting = task.spawn(function() return "none", signals:next() end)
        task.sleep(0.01)
        signals:close()
        assert.same({ "none", n = 1 }, table.pack(waiting:wait()))
        assert.same({ n = 0 }, table.pack(signals:next()))
        signals:close()
    end)

    it("goes on when the task that waits is cancelled", function()
        local signals <close> = _signal.open "USR1"
        local waiting = task.spawn(signals.next, signals)
        task.sleep(0.01)
        waiting:cancel()
        send "USR1"
        assert.equal("USR1", signals:next())
    end)

    it("lets one task wait at a time", function()
        local signals <close> = _signal.open "USR1"
        local waiting = task.spawn(signals.next, signals)
        task.sleep(0.01)
        local ok, err = pcall(signals.next, signals)
        assert.is_false(ok)
        assert.equal("usage", err.kind)
        send "USR1"
        assert.equal("USR1", waiting:wait())
    end)

    it("blocks what it takes, and gives it back when it is closed or collected", function()
        local before = own_blocked()
        local signals = _signal.open("USR1", "HUP")
        assert.not_equal(before, own_blocked())
        signals:close()
        assert.equal(before, own_blocked())
        local function drop() _signal.open "USR2" end
        drop()
        collectgarbage()
        collectgarbage()
        assert.equal(before, own_blocked())
    end)

    it("does not change what programs get that are started", function()
        local function child()
            return blocked(assert(_process.run({ "cat", "/proc/self/status" }, { timeout = 10 })).stdout)
        end
        local before = child()
        local signals <close> = _signal.open("USR1", "HUP", "TERM")
        assert.equal(before, child())
        assert.is_not_nil(signals)
    end)

    it("refuses what it does not know", function()
        local fds = #assert(sys.list_dir "/proc/self/fd")
        local before = own_blocked()
        for _, name in ipairs { "INT", "KILL", "STOP", "CHLD", "usr1", "SIGHUP", "", "SEGV" } do
            assert.has_error(function() _signal.open("USR1", name) end)
        end
        assert.has_error(function() _signal.open(1) end)
        assert.has_error(function() _signal.open {} end)
        assert.has_error(function() _signal.open("USR1").next({}) end)
        collectgarbage()
        collectgarbage()
        assert.equal(before, own_blocked())
        assert.equal(fds, #assert(sys.list_dir "/proc/self/fd"))
    end)

    it("waits beside a server", function()
        local served <close> = serving.start(function() return 200, nil, "served" end)
        local signals <close> = _signal.open "HUP"
        local got
        local waiting = task.spawn(function() got = signals:next() end)
        assert.equal("served", served:play({ { send = serving.get "/" }, { answers = 1 } }).answers[1].body)
        assert.is_nil(got)
        send "HUP"
        waiting:wait()
        assert.equal("HUP", got)
    end)

    it("keeps a script alive, which a signal that it did not take still ends", function()
        local script = [[
            local signals = require("moonflow._signal").open("HUP", "TERM")
            print "ready"
            io.stdout:flush()
            print(signals:next())]]
        local command = ([[%s -e '%s' & pid=$!; sleep 0.5; kill -%%s $pid; wait $pid; echo code $?]]):format(
            process.moonflow(), script)
        local taken = process.run { "sh", "-c", command:format "HUP" }
        assert.equal("ready\nHUP\ncode 0\n", taken.stdout, taken.stderr)
        local other = process.run { "sh", "-c", command:format "USR1" }
        assert.matches("^ready\ncode 138\n", other.stdout, nil, nil, other.stderr)
    end)
end)
