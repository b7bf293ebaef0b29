--- The read-eval-print loop: expression first, several lines until a chunk is complete, an error
-- does not end it. Each line runs as a task, so requests work at the prompt.
local _task = require "moonflow._task"
local error = require "moonflow.error"

local repl = {}

--- Compiles what was typed so far.
-- @treturn function|nil the chunk
-- @treturn string|nil the message
-- @treturn boolean whether more lines could complete it
local function compile(source)
    local chunk = load("return " .. source, "=stdin", "t")
    if chunk then
        return chunk
    end
    local message
    chunk, message = load(source, "=stdin", "t")
    return chunk, message, message ~= nil and message:find("<eof>$") ~= nil
end

--- Reads lines until they make a chunk.
-- @treturn function|nil the chunk; nil at the end of input
local function read_chunk()
    local source
    while true do
        io.write(source and ">> " or "> ")
        io.flush()
        local line = _task.wait_input() and io.read("L")
        if _task.acknowledge() then
            source = nil -- Ctrl-C: a new prompt
            print()
        elseif not line then
            return nil
        else
            source = (source or "") .. line
            local chunk, message, incomplete = compile(source)
            if chunk then
                return chunk
            elseif not incomplete then
                io.stderr:write("error: ", message, "\n")
                source = nil
            end
        end
    end
end

local function show(...)
    if select("#", ...) > 0 then
        print(...)
    end
end

--- Runs until the end of input. Background tasks of a line go on while later lines wait.
function repl.run()
    print(("moonflow %s (%s). Ctrl-D leaves."):format(require("moonflow.sys").version, _VERSION))
    for name, module in pairs { deployments = "moonflow.deployments", task = "moonflow.task",
        json = "moonflow.json", env = "moonflow.env" } do
        _G[name] = require(module)
    end
    for chunk in read_chunk do
        local ok, err, traceback = _task.run(function()
            show(chunk())
        end)
        if not ok then
            io.stderr:write(error.format(err, traceback), "\n")
        end
        _task.acknowledge()
    end
    print()
    _task.close()
end

return repl
