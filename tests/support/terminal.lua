--- Sessions on a terminal of their own (tests/servers/keys.py, whose head describes the steps), with a home
-- of their own, so that nothing of the user's is read or written.
local json = require "moonflow.json"
local process = require "support.process"
local skip = require "support.skip"

local terminal = {}

--- The prompt as it comes where pastes are marked, which nothing that is typed looks like.
terminal.PROMPT = "\27[?2004h> "

--- A directory that is removed where the variable ends.
---@return table with path
function terminal.home()
    local path = os.tmpname()
    os.remove(path)
    assert(os.execute("mkdir -m 700 " .. path))
    return setmetatable({ path = path }, {
        __close = function()
            os.execute("rm -rf '" .. path .. "'")
        end,
    })
end

local function environment(home, more)
    local env = {
        HOME = home, TERM = "xterm", LC_ALL = "C.UTF-8", NO_COLOR = "1", XDG_STATE_HOME = json.null,
        XDG_CONFIG_HOME = json.null, XDG_DATA_HOME = json.null, MLFLOW_DEPLOYMENTS_TARGET = json.null,
        MLFLOW_DEPLOYMENT_TARGET = json.null, DATABRICKS_RUNTIME_VERSION = json.null,
    }
    for name, value in pairs(more or {}) do
        env[name] = value or json.null
    end
    return env
end

--- Plays steps to a session.
---@param steps table list of texts to type and {expect=} and the like
---@param options? table args, env, home (a directory), columns, rows
---@return table result shown, times, code
function terminal.play(steps, options)
    skip.unless(os.execute("command -v python3 >/dev/null"), "python3 is not there")
    options = options or {}
    local own <close> = not options.home and terminal.home() or nil
    local command = { process.moonflow() }
    table.move(options.args or {}, 1, #(options.args or {}), 2, command)
    local script = {
        command = json.array(command), env = environment(options.home or own.path, options.env),
        steps = json.array(steps), columns = options.columns, rows = options.rows,
    }
    local result = process.run {
        "python3", "-B", "tests/servers/keys.py", stdin = assert(json.encode(script)), timeout = 120,
    }
    assert(result.code == 0, result.stderr)
    result = assert(json.decode(result.stdout))
    if result.failed ~= json.null then
        error(("%q did not come; shown: %s"):format(result.failed, result.shown), 2)
    end
    return result
end

--- What a session shows without the sequences that move the cursor, and with one kind of line end.
---@param shown string
---@return string
function terminal.plain(shown)
    return (shown:gsub("\27%[[%d;?]*[A-Za-z]", ""):gsub("\r+\n", "\n"))
end

return terminal
