--- moonflow._process: what a program gets and gives back, and that nothing of it is left behind.
local _process = require "moonflow._process"
local error = require "moonflow.error"
local process = require "support.process"
local skip = require "support.skip"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local function run(argv, options)
    options = options or {}
    options.timeout = options.timeout or 20
    return _process.run(argv, options)
end

local function shell(script, options)
    return run({ "sh", "-c", script }, options)
end

local function failure(...)
    local result, err = run(...)
    assert.is_nil(result)
    assert.is_true(error.is(err))
    return err
end

local function count_fds()
    return #assert(sys.list_dir("/proc/self/fd"))
end

--- The processes that this one has not waited for.
local function children()
    local list = assert(sys.read_file("/proc/self/task/" .. sys.read_file("/proc/self/stat"):match("^%d+")
        .. "/children"))
    return list
end

--- Whether a process is there that is no zombie.
local function is_alive(pid)
    local stat = sys.read_file("/proc/" .. pid .. "/stat")
    return stat ~= nil and stat:match("%) (%a)") ~= "Z"
end

--- Waits for something to hold, for two seconds at the most.
local function eventually(holds)
    local deadline = sys.monotonic() + 2
    while not holds() do
        assert(sys.monotonic() < deadline, "it did not come true")
        task.sleep(0.005)
    end
end

describe("_process.run", function()
    local dir

    setup(function()
        dir = os.tmpname()
        os.remove(dir)
        assert(os.execute("mkdir " .. dir))
    end)

    teardown(function()
        os.execute("rm -r " .. dir)
    end)

    local function write_program(name, text)
        local file = assert(io.open(dir .. "/" .. name, "w"))
        file:write(text)
        file:close()
        assert(os.execute("chmod 755 " .. dir .. "/" .. name))
        return dir .. "/" .. name
    end

    it("gives exit code and outputs, each its own", function()
        local result = assert(shell "printf 'a\\0b'; printf err >&2; exit 3")
        assert.same({ code = 3, stdout = "a\0b", stderr = "err" }, result)
    end)

    it("passes arguments as they are", function()
        local result = assert(run { "printf", "%s|", "a b", "", "$HOME", "'\"*" })
        assert.equal("a b||$HOME|'\"*|", result.stdout)
    end)

    it("names the signal that ended a program", function()
        assert.same({ signal = 9, stdout = "", stderr = "" }, shell "kill -9 $$")
    end)

    it("gives nothing on standard input", function()
        assert.equal("", assert(run { "cat" }).stdout)
        assert.equal("/dev/null\n", assert(run { "readlink", "/proc/self/fd/0" }).stdout)
    end)

    it("gives the environment that it is told, and else this process's", function()
        local result = assert(run({ "env" }, { env = { ONE = "1", PATH = "/usr/bin:/bin" } }))
        local lines = {}
        for line in result.stdout:gmatch("[^\n]+") do
            lines[#lines + 1] = line
        end
        table.sort(lines)
        assert.same({ "ONE=1", "PATH=/usr/bin:/bin" }, lines)
        assert.equal(os.getenv "PATH", assert(shell "printf %s \"$PATH\"").stdout)
    end)

    it("looks in the PATH of the environment that the program gets", function()
        write_program("hello", "#!/bin/sh\necho mine\n")
        assert.equal("RESOURCE_DOES_NOT_EXIST", failure({ "hello" }).error_code)
        assert.equal("mine\n", assert(run({ "hello" }, { env = { PATH = "/nonesuch:" .. dir } })).stdout)
    end)

    it("looks nowhere in the current directory", function()
        write_program("hello", "#!/bin/sh\necho mine\n")
        local program = write_program("inner.lua", [[
            local _process = require "moonflow._process"
            for _, path in ipairs { ":/bin", "", "/bin:" } do
                local result, err = _process.run({ "hello" }, { timeout = 5, env = { PATH = path } })
                print(result and result.stdout or err.error_code)
            end]])
        local result = process.run { args = { program }, dir = dir }
        assert.equal(("RESOURCE_DOES_NOT_EXIST\n"):rep(3), result.stdout, result.stderr)
    end)

    it("takes a name with a slash as a path", function()
        assert.equal(0, assert(run({ "/bin/true" }, { env = {} })).code)
    end)

    it("tells of a program that is not there", function()
        for _, name in ipairs { "moonflow-nonesuch", "/nonesuch/program" } do
            local err = failure { name }
            assert.equal("config", err.kind)
            assert.equal("RESOURCE_DOES_NOT_EXIST", err.error_code)
            assert.matches(name, err.message, 1, true)
        end
    end)

    it("tells of a file that is no program", function()
        local path = write_program("garbage", "\1\2\3")
        assert.equal("config", failure({ path }).kind)
        assert(os.execute("chmod 644 " .. path))
        assert.equal("PERMISSION_DENIED", failure({ path }).error_code)
    end)

    it("takes output up to the limit, and ends a program that passes it", function()
        local result = assert(run({ "head", "-c", "200000", "/dev/zero" }, { max_output = 200000 }))
        assert.equal(200000, #result.stdout)
        local err = failure({ "head", "-c", "200001", "/dev/zero" }, { max_output = 200000 })
        assert.equal("decode", err.kind)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.matches("head printed more than 200000 bytes", err.message)
        assert.equal("decode", failure({ "yes" }, { max_output = 1000 }).kind)
        assert.equal("", children())
    end)

    it("counts both outputs together", function()
        local script = "head -c 600 /dev/zero; head -c 600 /dev/zero >&2"
        assert.equal(600, #assert(shell(script, { max_output = 1200 })).stderr)
        assert.is_nil((shell(script, { max_output = 1199 })))
    end)

    it("takes all that a program leaves behind", function()
        -- more than is read in one turn, and written before its end is looked for
        local result = assert(run { "head", "-c", "1000000", "/dev/zero" })
        assert.equal(1000000, #result.stdout)
    end)

    it("kills a program that hangs at its deadline, while other tasks run", function()
        local turns = 0
        local _ <close> = task.spawn(function()
            while true do
                task.sleep(0.01)
                turns = turns + 1
            end
        end)
        local started = sys.monotonic()
        local err = failure({ "sh", "-c", "trap '' TERM INT HUP; sleep 30 & echo $!; wait" }, { timeout = 0.3 })
        local took = sys.monotonic() - started
        assert.equal("timeout", err.kind)
        assert.equal("DEADLINE_EXCEEDED", err.error_code)
        assert.matches("sh was not done within 0.3 s", err.message)
        assert.is_true(took >= 0.3 and took < 2, took)
        assert.is_true(turns >= 5, turns)
        assert.equal("", children())
    end)

    it("kills what the program has started, too", function()
        local pid_file = dir .. "/pid"
        local script = ("sleep 30 & echo $! >%s; wait"):format(pid_file)
        assert.equal("timeout", failure({ "sh", "-c", script }, { timeout = 0.3 }).kind)
        local pid = assert(sys.read_file(pid_file)):match("%d+")
        eventually(function()
            return not is_alive(pid)
        end)
    end)

    it("waits for the end of a program that closes its outputs and lives on", function()
        local started = sys.monotonic()
        assert.equal(7, assert(shell "exec >/dev/null 2>&1; sleep 0.2; exit 7").code)
        assert.is_true(sys.monotonic() - started >= 0.2)
        assert.equal("timeout", failure({ "sh", "-c", "exec >&- 2>&-; sleep 30" }, { timeout = 0.2 }).kind)
    end)

    it("does not wait for what the program has left running with its outputs open", function()
        local started = sys.monotonic()
        local result = assert(shell "sleep 3 & echo done")
        assert.equal("done\n", result.stdout)
        assert.is_true(sys.monotonic() - started < 2)
    end)

    it("runs many at once", function()
        local numbers = {}
        for i = 1, 40 do
            numbers[i] = i
        end
        local started = sys.monotonic()
        local results = task.map(numbers, function(i)
            return assert(shell("sleep 0.2; echo " .. i)).stdout
        end, { limit = 40 })
        assert.is_true(sys.monotonic() - started < 4)
        for i = 1, 40 do
            assert.equal(i .. "\n", results[i])
        end
        assert.equal("", children())
    end)

    it("leaves neither zombie nor descriptor, however it ends", function()
        run { "true" }
        local before = count_fds()
        for _ = 1, 5 do
            run { "true" }
            run({ "sleep", "30" }, { timeout = 0.02 })
            run({ "yes" }, { max_output = 10 })
            run { "/nonesuch/program" }
            local child = task.spawn(run, { "sleep", "30" })
            task.sleep(0.02)
            child:cancel()
        end
        assert.equal(before, count_fds())
        assert.equal("", children())
    end)

    it("ends the program of a task that is cancelled", function()
        local pid_file = dir .. "/cancelled"
        os.remove(pid_file)
        local child = task.spawn(shell, ("echo $$ >%s.new; mv %s.new %s; exec sleep 30"):format(pid_file, pid_file,
            pid_file))
        eventually(function()
            return sys.stat(pid_file) ~= nil
        end)
        local pid = assert(sys.read_file(pid_file)):match("%d+")
        assert.is_true(is_alive(pid))
        child:cancel()
        assert.is_nil(sys.stat("/proc/" .. pid))
    end)

    it("waits in places that can not yield", function()
        local results = {}
        table.sort({ 1, 2 }, function(a, b)
            results[#results + 1] = assert(shell "sleep 0.05; echo x").stdout
            return a < b
        end)
        assert.equal("x\n", results[1])
    end)

    it("does not let a program have the host's descriptors, signals or terminal", function()
        local file <close> = assert(io.open("/dev/zero"))
        local result = assert(shell "ls /proc/self/fd; ps -o pid=,pgid=,sid= $$")
        local fds, ids = result.stdout:match("^(.-)\n%s*(%d+%s+%d+%s+%d+)%s*$")
        assert.equal("0\n1\n2\n3", fds) -- 3: the directory that ls reads
        local pid, group, session = ids:match("(%d+)%s+(%d+)%s+(%d+)")
        assert.equal(pid, group)
        assert.equal(pid, session)
        assert.is_truthy(file)
        local program = write_program("signals.lua", [[
            local _process = require "moonflow._process"
            print(_process.run({ "grep", "Sig", "/proc/self/status" }, { timeout = 5 }).stdout)]])
        local command = "trap '' INT TERM PIPE; exec " .. process.moonflow() .. " " .. program
        local signals = process.run { "sh", "-c", command }
        local ignored = assert(signals.stdout:match("SigIgn:%s*(%x+)"), signals.stderr)
        assert.equal(0, tonumber(ignored, 16) & 0x7fffffff)
        assert.matches("SigBlk:%s*0+\n", signals.stdout)
    end)

    it("works in a host whose own outputs are closed", function()
        local result_file = dir .. "/result"
        local program = write_program("closed.lua", ([[
            local _process = require "moonflow._process"
            local result = assert(_process.run({ "sh", "-c", "echo out; echo err >&2; cat" }, { timeout = 5 }))
            local file = assert(io.open(%q, "w"))
            file:write(result.code, result.stdout, result.stderr)
            file:close()]]):format(result_file))
        process.run { "sh", "-c", ("exec %s %s <&- >&- 2>&-"):format(process.moonflow(), program) }
        assert.equal("0out\nerr\n", sys.read_file(result_file))
    end)

    it("tells of an exit status that the host does not get", function()
        skip.unless(os.execute("command -v python3 >/dev/null"), "python3 is not there")
        local program = write_program("ignoring.lua", [[
            local result, err = require("moonflow._process").run({ "true" }, { timeout = 5 })
            print(result, err.kind, err.message)]])
        local python = ("import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(%q, [%q, %q])")
            :format(process.moonflow(), "moonflow", program)
        local result = process.run { "python3", "-c", python }
        assert.matches("^nil\tconfig\thow true ended is not known", result.stdout, nil, nil, result.stderr)
    end)

    it("refuses what is no command", function()
        for _, argv in ipairs { {}, { 1 }, { "a\0b" }, { "true", {} } } do
            assert.is_false((pcall(run, argv)))
        end
        for _, options in ipairs {
            { timeout = 0 }, { timeout = -1 }, { timeout = 0 / 0 }, { timeout = math.huge }, { timeout = "1" }, {},
            { timeout = 1, max_output = -1 }, { timeout = 1, max_output = 1.5 }, { timeout = 1, env = "A=1" },
            { timeout = 1, env = { ["A=B"] = "1" } }, { timeout = 1, env = { [""] = "1" } },
            { timeout = 1, env = { A = 1 } }, { timeout = 1, env = { A = "a\0b" } }, { timeout = 1, env = { "A" } },
        } do
            local ok, err = pcall(_process.run, { "true" }, options)
            assert.is_false(ok)
            assert.equal("usage", err.kind)
        end
    end)
end)
