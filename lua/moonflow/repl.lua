--- The session at the terminal: reads, evaluates, prints. Each line runs as a task, so requests work
-- at the prompt and tasks of earlier lines go on behind it; Ctrl-C ends what runs and keeps the rest.
--
-- It runs in the host, outside every task: an interrupt is raised in tasks only.
local _task = require "moonflow._task"
local env = require "moonflow.env"
local input = require "moonflow.repl.input"
local session = require "moonflow.repl.session"
local sys = require "moonflow.sys"

local repl = {}

--- The start-up file; nil where the user has no home.
local function rc_path()
    local config = env.XDG_CONFIG_HOME
    if not config or config:sub(1, 1) ~= "/" then -- as its specification says
        config = env.HOME and env.HOME:sub(1, 1) == "/" and env.HOME .. "/.config"
    end
    return config and config .. "/moonflow/repl.lua"
end

local function load_rc(current)
    local path = rc_path()
    local stat = path and sys.stat(path)
    if stat and stat.type == "file" then
        current:load(path)
    end
end

local function banner(current, why)
    local parts = { "moonflow " .. sys.version, _VERSION }
    if current.target then
        local uri = require("moonflow.auth").redact(current.target):gsub("//[^/?#]*@", "//")
        parts[#parts + 1] = "target " .. require("moonflow.show").text(uri)
    end
    print(table.concat(parts, input.is_capable() and " \u{B7} " or ", ") .. "   ,help for commands, Ctrl-D leaves")
    if why then
        print("no editing, no history: " .. why)
    end
end

--- Opens the history's file and gives the editor what is in it.
local function open_history(current, reader, line)
    local history = require "moonflow.repl.history"
    local path = history.path()
    if not path then
        return
    end
    if sys.stat(path) then
        history.trim(line, path)
        for _, text in ipairs(history.load(path)) do
            reader:add(text)
        end
    end
    current.history_file = path
end

--- Adds what was typed to the history. Afterwards: what has become a secret meanwhile is left out.
local function remember(current, reader, line, text)
    local history = require "moonflow.repl.history"
    if not history.wants(text) then
        return
    end
    reader:add(text)
    if current.history_file then
        local ok, err = history.add(line, current.history_file, text)
        if not ok then
            current.history_file = nil
            current:tell("no history: " .. err.message)
        end
    end
end

--- Runs one text: a command with a comma, or Lua. Returns false where the session is to end.
local function act(current, text)
    if text:find("^%s*,") or text:find("^%s*%?") or text:find("^%s*[%a_][%w_.:]*%?%s*$") then
        local ok, what = pcall(require("moonflow.repl.commands").run, current, text)
        if not ok then
            current:fail(what)
        end
        return what ~= "quit"
    elseif text:find("%S") then
        current:run(text)
    end
    return true
end

--- Tells failures of tasks that nobody waits for.
local function tell_background(current)
    while _task.take_failure do
        local failed, value, traceback = _task.take_failure()
        if not failed then
            return
        end
        current:fail(value, traceback)
    end
end

local function read_and_run(current, reader, line)
    while true do
        tell_background(current)
        local text, why = reader:read()
        if _task.acknowledge() then
            why = "interrupted"
        end
        if not text and why == "end" then
            return
        elseif text then
            if line then
                require("moonflow.show").defaults.width = line.width()
            end
            local goes_on = act(current, text)
            remember(current, reader, line, text)
            if not goes_on then
                return
            end
        end
    end
end

--- Sets up a session; what fails is told, and it goes on without.
local function set_up(current, options)
    current.color = input.wants_color()
    local result = require "moonflow.repl.result"
    result.options.color = current.color
    rawset(current.env, "help", function(value)
        io.write(require("moonflow.repl.docs").of_value(current, value), "\n")
    end)
    local ok, err
    if options.target then
        ok, err = pcall(current.use_target, current, options.target)
    else
        ok, err = current:use_usual_target()
    end
    if not ok then
        current:fail(err)
    end
    current.first_target = current.target
    local found, wire = pcall(require, "moonflow.wire")
    if found and wire.record then
        wire.record(true)
    end
end

--- Runs a session until the end of input. Not from within a task.
---@param options? table target, no_rc, no_history
function repl.run(options)
    options = options or {}
    local current = session.new()
    local line, why
    if input.is_capable() then
        line, why = input.library()
    end
    set_up(current, options)
    local reader = input.open(line, function(text, cursor)
        return require("moonflow.repl.complete").at(current, text, cursor)
    end)
    if line and not options.no_history then
        open_history(current, reader, line)
    end
    banner(current, why)
    if not options.no_rc then
        load_rc(current)
    end
    read_and_run(current, reader, line)
    reader:close()
    _task.close()
end

--- The command `moonflow repl`. A command runs as a task: the host runs the session behind its end.
---@param arguments table target, no_rc, no_history
function repl.main(arguments)
    if not sys.isatty(0) then
        return repl.run_piped()
    end
    repl.requested = arguments or {}
end

--- Standard input that is no terminal is a script.
---@async
function repl.run_piped()
    local chunk, message = load(io.read("a"), "=stdin", "t")
    if not chunk then
        _G.error(message, 0)
    end
    chunk()
end

return repl
