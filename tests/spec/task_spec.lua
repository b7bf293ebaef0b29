-- Tasks: waiting, joining, cancelling, and a script's own coroutines inside them.
local error_object = require "moonflow.error"
local task = require "moonflow.task"

--- A value whose end as a <close> variable is noted.
local function noting(list, name)
    return setmetatable({}, { __close = function() list[#list + 1] = name end })
end

--- Collects what an iterator gives.
local function collect(iterator)
    local list = {}
    for value in iterator do
        list[#list + 1] = value
    end
    return list
end

describe("task.spawn", function()
    it("hands over arguments and results, nil included", function()
        local t = task.spawn(function(...)
            task.sleep(0)
            return select("#", ...), ...
        end, 1, nil, 3)
        assert.same({ 3, 1, nil, 3, n = 4 }, table.pack(t:wait()))
    end)

    it("does not run before its parent waits", function()
        local ran = false
        local t = task.spawn(function() ran = true end)
        assert.is_false(ran)
        assert.equal("ready", t:status())
        t:wait()
        assert.is_true(ran)
        assert.equal("done", t:status())
    end)

    it("gives its results to every one that waits", function()
        local t = task.spawn(function() task.sleep(0.01) return {} end)
        local results = task.all { function() return t:wait() end, function() return t:wait() end }
        assert.equal(results[1], results[2])
        assert.equal(results[1], t:wait())
    end)

    it("raises the very value that the task raised", function()
        local value = {}
        local t = task.spawn(function() error(value) end)
        local ok, raised = pcall(t.wait, t)
        assert.is_false(ok)
        assert.equal(value, raised)
    end)

    it("refuses what is no function", function()
        assert.has_error(function() task.spawn(1) end)
    end)
end)

describe("task.sleep", function()
    it("lets the shorter sleeper go on first", function()
        local order = {}
        local tasks = {}
        for _, seconds in ipairs { 0.03, 0.01, 0.02 } do
            tasks[#tasks + 1] = function()
                task.sleep(seconds)
                order[#order + 1] = seconds
            end
        end
        task.all(tasks)
        assert.same({ 0.01, 0.02, 0.03 }, order)
    end)

    it("takes negative numbers as none and refuses NaN", function()
        task.sleep(-1)
        assert.has_error(function() task.sleep(0 / 0) end)
    end)

    it("keeps a thousand sleepers apart", function()
        local list = {}
        for i = 1, 1000 do
            list[i] = (i * 7919) % 100
        end
        local results = task.map(list, function(n)
            task.sleep(n / 10000)
            return n
        end, { limit = 1000 })
        assert.same(list, results)
    end)
end)

describe("task.all and task.map", function()
    it("keep the order of the list", function()
        assert.same({ "a", "b" }, task.all {
            function() task.sleep(0.02) return "a" end,
            function() return "b" end,
        })
    end)

    it("run no more than the limit at once", function()
        local running, most = 0, 0
        task.map({ 1, 2, 3, 4, 5, 6, 7 }, function()
            running = running + 1
            most = math.max(most, running)
            task.sleep(0.002)
            running = running - 1
        end, { limit = 3 })
        assert.equal(3, most)
    end)

    it("raise the first failure at once and close what the others hold", function()
        local closed = {}
        local ok, err = pcall(task.all, {
            function()
                local _ <close> = noting(closed, "sleeper")
                task.sleep(60)
            end,
            function()
                task.sleep(0.01)
                error("boom", 0)
            end,
        })
        assert.is_false(ok)
        assert.equal("boom", err)
        assert.same({ "sleeper" }, closed)
    end)

    it("leave a task alone that was running before", function()
        local t = task.spawn(function() task.sleep(0.02) return "mine" end)
        pcall(task.all, { t, function() error "boom" end })
        assert.equal("mine", t:wait())
    end)

    it("take an empty list", function()
        assert.same({}, task.all {})
        assert.same({}, task.map({}, function() end))
    end)

    it("refuse a limit that is no positive integer", function()
        for _, limit in ipairs { 0, -1, 1.5, "2" } do
            local ok, err = pcall(task.map, { 1 }, function() end, { limit = limit })
            assert.is_false(ok)
            assert.equal("usage", err.kind)
        end
    end)
end)

describe("task.timeout", function()
    it("returns what the function returns", function()
        assert.same({ 1, 2 }, { task.timeout(5, function(...) return ... end, 1, 2) })
    end)

    it("raises kind timeout and closes what the function holds", function()
        local closed = {}
        local ok, err = pcall(task.timeout, 0.01, function()
            local _ <close> = noting(closed, "held")
            task.sleep(60)
        end)
        assert.is_false(ok)
        assert.equal("timeout", err.kind)
        assert.equal("DEADLINE_EXCEEDED", err.error_code)
        assert.same({ "held" }, closed)
    end)

    it("passes the function's own error on", function()
        local ok, err = pcall(task.timeout, 5, function() error("own", 0) end)
        assert.is_false(ok)
        assert.equal("own", err)
    end)
end)

describe("cancel", function()
    it("ends a task that has not begun, without running it", function()
        local ran = false
        local t = task.spawn(function() ran = true end)
        t:cancel()
        local ok, err = pcall(t.wait, t)
        assert.is_false(ok)
        assert.is_true(error_object.is(err))
        assert.equal("cancelled", err.kind)
        task.sleep(0)
        assert.is_false(ran)
    end)

    it("closes a chain of coroutines from the inside out", function()
        local closed = {}
        local t = task.spawn(function()
            local _ <close> = noting(closed, "base")
            coroutine.wrap(function()
                local _ <close> = noting(closed, "outer")
                coroutine.wrap(function()
                    local _ <close> = noting(closed, "inner")
                    task.sleep(60)
                end)()
            end)()
        end)
        task.sleep(0.01)
        assert.equal("waiting", t:status())
        t:cancel()
        assert.same({ "inner", "outer", "base" }, closed)
    end)

    it("wakes those who wait for the task", function()
        local t = task.spawn(function() task.sleep(60) end)
        local waiter = task.spawn(function() return pcall(t.wait, t) end)
        task.sleep(0.01)
        t:cancel()
        local ok, err = waiter:wait()
        assert.is_false(ok)
        assert.equal("cancelled", err.kind)
    end)

    it("leaves a finished task alone", function()
        local t = task.spawn(function() return 7 end)
        t:wait()
        t:cancel()
        assert.equal(7, t:wait())
    end)

    it("stops a task that waits in a place that can not yield", function()
        local t = task.spawn(function()
            table.sort({ 1, 2, 3 }, function()
                task.sleep(0.02)
                return false
            end)
        end)
        local canceller = task.spawn(function()
            task.sleep(0.01)
            t:cancel()
        end)
        local ok, err = pcall(t.wait, t)
        canceller:wait()
        assert.is_false(ok)
        assert.equal("cancelled", err.kind)
    end)
end)

describe("a script's own coroutines", function()
    it("wait inside coroutine.wrap, and yield their own values", function()
        local values = collect(coroutine.wrap(function()
            for i = 1, 3 do
                task.sleep(0.001)
                coroutine.yield(i)
            end
        end))
        assert.same({ 1, 2, 3 }, values)
    end)

    it("let other tasks run meanwhile", function()
        local order = {}
        task.all {
            function()
                for value in coroutine.wrap(function()
                    task.sleep(0.02)
                    coroutine.yield("slow")
                end) do
                    order[#order + 1] = value
                end
            end,
            function()
                task.sleep(0.005)
                order[#order + 1] = "fast"
            end,
        }
        assert.same({ "fast", "slow" }, order)
    end)

    it("wait three deep, through pcall and metamethods", function()
        local object = setmetatable({}, {
            __index = function(_, key)
                task.sleep(0.001)
                return key .. "!"
            end,
        })
        local outer = coroutine.wrap(function()
            local inner = coroutine.wrap(function()
                coroutine.yield(select(2, pcall(function() return object.deep end)))
            end)
            coroutine.yield(inner())
        end)
        assert.equal("deep!", outer())
    end)

    it("hand values through resume in both directions", function()
        local co = coroutine.create(function(a)
            task.sleep(0.001)
            local b = coroutine.yield(a + 1)
            task.sleep(0.001)
            return b + 1
        end)
        assert.same({ true, 2 }, { coroutine.resume(co, 1) })
        assert.same({ true, 11 }, { coroutine.resume(co, 10) })
        assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
    end)

    it("report errors as Lua does", function()
        local co = coroutine.create(function()
            task.sleep(0.001)
            error({ code = 1 })
        end)
        local ok, err = coroutine.resume(co)
        assert.is_false(ok)
        assert.equal(1, err.code)
        local wrapped = coroutine.wrap(function() error("bad", 0) end)
        local message = select(2, pcall(function() wrapped() end))
        assert.matches("bad$", message)
    end)

    it("are not resumed by somebody else while they wait", function()
        local co = coroutine.create(function() task.sleep(0.02) return "end" end)
        local t = task.spawn(function() return coroutine.resume(co) end)
        task.sleep(0.005)
        local ok, err = coroutine.resume(co)
        assert.is_false(ok)
        assert.equal("cannot resume a coroutine that is waiting in another task", err)
        assert.same({ true, "end" }, { t:wait() })
    end)

    it("can not yield out of a task", function()
        local t = task.spawn(function() coroutine.yield(1) end)
        local ok, err = pcall(t.wait, t)
        assert.is_false(ok)
        assert.matches("attempt to yield from outside a coroutine", err)
    end)
end)

describe("where Lua can not yield", function()
    it("table.sort waits in place", function()
        local list = { 3, 1, 2 }
        table.sort(list, function(a, b)
            task.sleep(0.001)
            return a < b
        end)
        assert.same({ 1, 2, 3 }, list)
    end)

    it("a chain of coroutines waits in place", function()
        local text = ("abc"):gsub(".", function(letter)
            return coroutine.wrap(function()
                return coroutine.wrap(function()
                    task.sleep(0.001)
                    return letter:upper()
                end)()
            end)()
        end)
        assert.equal("ABC", text)
    end)

    it("other tasks go on", function()
        local ticks = 0
        local ticker = task.spawn(function()
            for _ = 1, 5 do
                task.sleep(0.002)
                ticks = ticks + 1
            end
        end)
        assert.equal("x", (("x"):gsub(".", function()
            task.sleep(0.05)
        end)))
        assert.equal(5, ticks)
        ticker:wait()
    end)

    it("waits within waits end in an error, not in a crash", function()
        local function nest()
            local text = "x"
            return text:gsub(".", function()
                local inner <close> = task.spawn(nest)
                inner:wait()
            end)
        end
        local ok, err = pcall(nest)
        assert.is_false(ok)
        local message = tostring(err)
        assert.is_truthy(message:find("C stack overflow", 1, true) or message:find("waits within one another", 1, true))
        assert.equal("x", (("x"):gsub(".", function() task.sleep(0) end)))
    end)
end)

describe("a deadlock", function()
    it("is an error", function()
        local a
        a = task.spawn(function()
            local b = task.spawn(function() a:wait() end)
            b:wait()
        end)
        local ok, err = pcall(string.gsub, "x", ".", function() a:wait() end)
        assert.is_false(ok)
        assert.matches("deadlock", tostring(err))
        a:cancel()
    end)
end)

describe("the collector", function()
    it("frees finished tasks and their values", function()
        local weak = setmetatable({}, { __mode = "v" })
        for _ = 1, 100 do
            local t = task.spawn(function() return {} end)
            weak[#weak + 1] = t:wait()
        end
        collectgarbage()
        collectgarbage()
        assert.is_nil(next(weak))
    end)

    it("does not grow over many tasks", function()
        local function run(n)
            for _ = 1, n do
                task.spawn(function() task.sleep(0) end):wait()
            end
            collectgarbage()
            collectgarbage()
            return collectgarbage "count"
        end
        run(200)
        local before = run(1000)
        assert.is_true(run(5000) < before + 64)
    end)
end)

describe("the module", function()
    it("has one runtime, however often it is loaded", function()
        local loaded = package.loaded["moonflow._task"]
        package.loaded["moonflow._task"] = nil
        local again = require "moonflow._task"
        package.loaded["moonflow._task"] = loaded
        local order = {}
        local t = task.spawn(function()
            order[#order + 1] = "task"
        end)
        again.sleep(0.001)
        assert.same({ "task" }, order)
        t:wait()
    end)
end)
