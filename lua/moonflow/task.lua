--- Tasks: coroutines that the runtime parks while bytes move.
--
-- Scripts, REPL lines and plugins run as tasks already, so a request in one simply lets the others
-- go on. A call that waits may switch tasks: `list[#list + 1] = get(x)` computes the index first;
-- use a local.
local _task = require "moonflow._task"
local error = require "moonflow.error"
local sys = require "moonflow.sys"

local raise = _G.error

local task = {}

--- Starts `fn(...)` as a task. It runs when the current one waits or ends; a script ends when all
-- its tasks have ended. A task has the methods `wait()` (its results, or raises what it raised),
-- `cancel()` and `status()`; as a `<close>` variable it is cancelled when the variable ends.
-- @tparam function fn
-- @return the task
function task.spawn(fn, ...)
    return _task.spawn(fn, ...)
end

--- Waits for a number of seconds, while other tasks run.
-- @tparam number seconds negative is 0
function task.sleep(seconds)
    return _task.sleep(seconds)
end

local group_metatable = {
    __close = function(group)
        for _, member in ipairs(group) do
            member:cancel()
        end
    end,
}

--- Runs functions at once and waits for all of them. The first failure cancels the others and is
-- raised.
-- @tparam table list functions, and tasks that are running already (these are not cancelled)
-- @treturn table the first result of each, in order
function task.all(list)
    local own <close> = setmetatable({}, group_metatable)
    local members = {}
    for i, item in ipairs(list) do
        if type(item) == "function" then
            item = _task.spawn(item)
            own[#own + 1] = item
        end
        members[i] = item
    end
    _task.join(members)
    local results = {}
    for _, member in ipairs(members) do
        if member:status() == "failed" then
            member:wait()
        end
    end
    for i, member in ipairs(members) do
        results[i] = member:wait()
    end
    return results
end

--- Calls `fn(item, index)` for each item of a list, at most `limit` at once. The first failure
-- cancels the others and is raised.
-- @tparam table list
-- @tparam function fn
-- @tparam[opt] table options `limit`: how many run at once, default 16
-- @treturn table the first result of each call, in the order of the list
function task.map(list, fn, options)
    local limit = options and options.limit or 16
    if math.type(limit) ~= "integer" or limit < 1 then
        error.raise { kind = "usage", message = "limit must be an integer of at least 1" }
    end
    local results, position, count = {}, 0, #list
    local function worker()
        while position < count do
            position = position + 1
            local index = position
            local result = fn(list[index], index)
            results[index] = result
        end
    end
    local workers = {}
    for i = 1, math.min(limit, count) do
        workers[i] = worker
    end
    task.all(workers)
    return results
end

--- Calls `fn(...)` and waits for its end for so many seconds at the most; then it is cancelled and
-- an error of kind "timeout" is raised.
-- @tparam number seconds
-- @tparam function fn
-- @return what fn returns
function task.timeout(seconds, fn, ...)
    local child <close> = _task.spawn(fn, ...)
    if not _task.join({ child }, seconds) then
        error.raise {
            kind = "timeout",
            message = ("not done within %g s"):format(seconds),
        }
    end
    return child:wait()
end

--- Calls `fn(...)` so that a Ctrl-C ends it and not the script. For the script's own task, the one
-- that an interrupt wakes.
-- @tparam function fn
-- @treturn boolean true; or false where it was interrupted: what it held in variables is closed then
-- @return what fn returns; another error is raised
function task.interruptible(fn, ...)
    local results = table.pack(pcall(fn, ...))
    if results[1] then
        return table.unpack(results, 1, results.n)
    elseif _task.acknowledge() then
        return false
    end
    return raise(results[2], 0)
end

-- An interrupt is raised in Lua code, so that has to go on behind the wait.
local function wait_input()
    local is_there = _task.wait_input()
    return is_there
end

--- Reads a line of standard input. On a terminal a Ctrl-C ends the waiting and not the script.
-- @treturn string|nil|boolean the line; nil at the end; false where it was interrupted
function task.read_line()
    if sys.isatty(0) then
        local ok, is_there = task.interruptible(wait_input)
        if not (ok and is_there) then
            _task.acknowledge()
            return false
        end
    end
    return io.read()
end

return task
