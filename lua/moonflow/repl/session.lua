--- A session: the globals of what is typed, its last values, and running a line as a task. It knows
-- nothing of the terminal.
local _task = require "moonflow._task"
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local names = require "moonflow.repl.names"
local result = require "moonflow.repl.result"
local source = require "moonflow.repl.source"
local sys = require "moonflow.sys"

local Session = {}
Session.__index = Session

local session = {}

local ENTRIES_MAX = 10000 -- lines that `,save` and `,history` remember

-- Modules that are globals here, loaded when they are first named.
local MODULES = {
    auth = "moonflow.auth", chat = "moonflow.chat", deployments = "moonflow.deployments", env = "moonflow.env",
    http = "moonflow.http", json = "moonflow.json", task = "moonflow.task",
}

--- The globals of a session: its own names over those of Lua.
local function new_env()
    local env = setmetatable({}, {
        __index = function(self, name)
            local module = MODULES[name]
            if not module then
                return _G[name]
            end
            local loaded = require(module)
            rawset(self, name, loaded)
            return loaded
        end,
    })
    rawset(env, "_G", env)
    return env
end

---@return table session fields env, target, entries, failure
function session.new()
    return setmetatable({ env = new_env(), entries = {} }, Session)
end

--- The names that exist without being written in `env`: modules, and Lua's own.
---@return table<string, any>
function Session:known_names()
    local known = {}
    for name in next, MODULES do
        known[name] = true
    end
    for name, value in next, _G do
        known[name] = value
    end
    for name, value in next, self.env do
        known[name] = value
    end
    return known
end

--- What a path of names such as "client.predict" or "client:predict" leads to, without running anybody's
-- code.
---@param path string
---@return any
function Session:lookup(path)
    local first = path:match("^[%a_][%w_]*")
    if MODULES[first] and rawget(self.env, first) == nil then
        rawset(self.env, first, require(MODULES[first]))
    end
    return names.resolve(self:known_names(), path)
end

--- Makes a target the one of this session: the global `client`, and what `get_deploy_client()` takes.
---@param uri string
function Session:use_target(uri)
    local deployments = require "moonflow.deployments"
    local client = deployments.get_deploy_client(uri)
    pcall(deployments.set_deployments_target, uri)
    self.target = uri
    rawset(self.env, "client", client)
end

--- Takes the target of the environment where there is one.
function Session:use_usual_target()
    local ok, uri = pcall(require("moonflow.deployments").get_deployments_target)
    if ok then
        return pcall(self.use_target, self, uri)
    end
    return true
end

--- Moves the values on: `_` is the last, `_2` and `_3` those before.
function Session:keep_value(value)
    local env = self.env
    rawset(env, "_3", rawget(env, "_2"))
    rawset(env, "_2", rawget(env, "_"))
    rawset(env, "_", value)
end

--- Whether what an expression returned is to be seen: nothing where a call returned nil.
local function is_worth_showing(line, results)
    if results.n < 2 or line.muted then
        return false
    end
    return results.n > 2 or results[2] ~= nil or not source.is_call(line.text)
end

--- Shows and keeps what a line returned. As part of its task, so that this can be interrupted too.
function Session:finish_line(line, results)
    local first = results[2]
    if result.is_stream(first) and not line.muted then
        self.stream = first
        first = result.print(first)
        self.stream = nil
    elseif is_worth_showing(line, results) then
        result.print(table.unpack(results, 2, results.n))
    end
    if first ~= nil then
        self:keep_value(first)
    end
end

--- Runs a compiled line as the task that this is.
local function evaluate(self, line)
    local results = table.pack(line.run())
    if results[1] then
        self:finish_line(line, results)
        return true
    end
    return false, results[2], results[3]
end

--- What came of a stream before it was broken off is the last value.
local function keep_partial(self)
    local stream = self.stream
    self.stream = nil
    if stream then
        local ok, partial = pcall(function()
            return stream:collected():result()
        end)
        if ok and partial then
            io.write("\n")
            self:keep_value(partial)
        end
    end
end

--- Runs a function as a task, from the host.
---@return boolean ok
---@return any value the error's
---@return string? traceback
---@return boolean interrupted
local function run_task(fn, ...)
    local ran, ok, value, traceback = _task.run(fn, ...)
    local interrupted = _task.acknowledge()
    if not ran then
        return false, ok, value, interrupted
    end
    return ok, value, traceback, interrupted
end

session.run_task = run_task

--- Takes frames out of a traceback that say nothing: those of the line itself.
local function user_frames(traceback)
    return traceback and traceback:gsub("\n[^\n]*: in main chunk", ""):gsub("\n[^\n]*moonflow/repl/[^\n]*", "")
        :gsub("\n[^\n]*in function <stdin:1>", "")
end

--- Notes and tells a failure.
function Session:fail(value, traceback, interrupted)
    self.failure = { value = value, traceback = traceback }
    rawset(self.env, "_err", value)
    if interrupted and (not error.is(value) or value.kind == "cancelled") then
        io.stderr:write("\ninterrupted\n")
    else
        self:tell(error.format(value, user_frames(traceback)))
    end
end

--- Writes a message to stderr. A terminal gets no control characters.
function Session:tell(message)
    message = require("moonflow.show").text(auth.redact(message))
    if self.color then
        message = message:gsub("^error:", "\27[31merror:\27[0m")
    end
    io.stderr:write(message, "\n")
end

local function remember(self, line, failed, seconds)
    local entries = self.entries
    if #entries >= ENTRIES_MAX then
        table.remove(entries, 1)
    end
    entries[#entries + 1] = {
        text = line.text, failed = failed, expression = line.expression, muted = line.muted, seconds = seconds,
    }
end

--- Runs a text. Errors are told and noted, never raised.
---@param text string
---@return boolean ok
function Session:run(text)
    local line, message = source.compile(text, self.env)
    if not line then
        self:fail(message)
        remember(self, { text = text }, true)
        return false
    end
    local started = sys.monotonic()
    local ok, value, traceback, interrupted = run_task(evaluate, self, line)
    self.seconds = sys.monotonic() - started
    io.flush()
    if not ok then
        keep_partial(self)
        self:fail(value, traceback, interrupted)
    end
    remember(self, line, not ok, self.seconds)
    return ok
end

--- Runs a Lua file with the session's globals, as a task.
---@param file string
---@return boolean ok
function Session:load(file)
    local chunk, message = loadfile(file, "t", self.env)
    if not chunk then
        self:fail(message)
        return false
    end
    local ok, value, traceback, interrupted = run_task(function()
        return xpcall(chunk, function(value)
            return { value = value, traceback = debug.traceback(nil, 2) }
        end)
    end)
    if not ok and type(value) == "table" and value.traceback then
        value, traceback = value.value, value.traceback
    end
    if not ok then
        self:fail(value, traceback, interrupted)
    end
    return ok
end

--- The last failure in full.
---@return string?
function Session:why()
    local failure = self.failure
    if not failure then
        return nil
    end
    local lines = { error.format(failure.value, failure.traceback) }
    if error.is(failure.value) then
        for _, name in ipairs { "kind", "error_code", "http_status", "request_id", "target", "operation", "attempts",
            "phase", "where" } do
            if failure.value[name] ~= nil then
                lines[#lines + 1] = ("  %-12s %s"):format(name, tostring(failure.value[name]))
            end
        end
        if failure.value.body ~= nil then
            lines[#lines + 1] = "  body         " .. require("moonflow.show").value(failure.value.body)
        end
        if failure.value.cause ~= nil then
            lines[#lines + 1] = "  cause        " .. tostring(failure.value.cause)
        end
    end
    if failure.traceback and failure.traceback ~= "" then
        lines[#lines + 1] = failure.traceback:gsub("^%s+", "")
    end
    return table.concat(lines, "\n")
end

return session
