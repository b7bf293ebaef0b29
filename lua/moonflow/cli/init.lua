--- The command line: reads the words, sets up what the general options say, and runs the command.
local auth = require "moonflow.auth"
local commands = require "moonflow.cli.commands"
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"

local rethrow = _G.error

local cli = {}

local DEBUG_LEVEL = 3
local IN_ORDER = { sort = true }

-- Words that src/main.c runs, besides the names of scripts.
local HOST_WORDS = { ["run"] = true, ["serve"] = true, ["-"] = true, ["-e"] = true, ["-p"] = true }

-- The fields of an error object that -o json prints.
local FIELDS = {
    "kind", "error_code", "message", "http_status", "body", "request_id", "target", "operation", "attempts",
    "retryable", "hint", "where",
}

--- Sets up what the general options say.
local function apply(values)
    local host = require "moonflow.host"
    for _, dir in ipairs(values.plugin_dir or {}) do
        host.plugin_dirs[#host.plugin_dirs + 1] = dir
    end
    if values.quiet then
        function notice.write() end
    end
    local level = values.debug and DEBUG_LEVEL or values.verbose
    if level or values.curl or values.dry_run then
        require("moonflow.wire").start {
            level = math.min(level or 0, DEBUG_LEVEL), curl = values.curl, dry_run = values.dry_run,
        }
    end
end

local function call(run, ...)
    return require(run[1])[run[2]](...)
end

--- The command of this name that takes its words as they are.
local function find_raw(name)
    for _, command in ipairs(commands.list) do
        if command.name == name and command.host and command.run then
            return command
        end
    end
end

local function run(words)
    local raw = words[1] and find_raw(words[1])
    if raw then
        return call(raw.run, table.move(words, 2, #words, 1, {}))
    end
    local values, command = require("moonflow.cli.parser").parse(words)
    if values.help and not values.command[1] then
        return cli.help()
    elseif values.help then
        return require("moonflow.cli.help").run { topic = values.command, command = { "help" } }
    end
    apply(values)
    return call(command.run, values)
end

--- Whether the words ask for JSON: an error of their parsing is told so too.
local function wants_json(words)
    for i, word in ipairs(words) do
        if word == "--" then
            return false
        elseif word == "-ojson" or word == "--output=json"
            or (word == "-o" or word == "--output") and words[i + 1] == "json" then
            return true
        end
    end
    return false
end

--- An error as JSON: the fields that are set, and the exit code.
---@param failure any
---@return string
function cli.describe_error(failure)
    local fields = { exit = error.exit_code(failure) }
    if error.is(failure) then
        for _, name in ipairs(FIELDS) do
            fields[name] = failure[name]
        end
        fields.cause = failure.cause and auth.redact(tostring(failure.cause))
    else
        fields.message = auth.redact(tostring(failure))
    end
    local encoded = json.encode({ error = fields }, IN_ORDER)
    if not encoded then
        fields.body, fields.cause = nil, nil
        encoded = assert(json.encode({ error = fields }, IN_ORDER))
    end
    return encoded
end

--- Says what to try where an endpoint is not there.
local function add_hint(failure)
    local is_missing = error.is(failure) and failure.http_status == 404 and not failure.hint
    local operation = is_missing and failure.operation
    if operation == "get_endpoint" or operation == "predict" or operation == "predict_stream" then
        failure.hint = "moonflow endpoints list"
    end
end

--- Runs a command line.
---@async
---@param ... string its words
function cli.main(...)
    local words = { ... }
    local ok, failure = pcall(run, words)
    if ok then
        return
    end
    add_hint(failure)
    if not wants_json(words) or error.is(failure) and failure.kind == "cancelled" then
        rethrow(failure, 0)
    end
    io.stdout:flush()
    io.stderr:write(cli.describe_error(failure), "\n")
    os.exit(error.exit_code(failure), true)
end

--- Prints the general help, with the forms of the command line that are no commands.
function cli.help()
    io.write(commands.root.usage, "\n")
    require("moonflow.cli.help").run { command = { "help" } }
end

--- The place of the first word that is no general option nor the value of one, or nil.
local function first_word(words)
    local takes_value = {}
    for _, option in ipairs(commands.globals) do
        for _, name in ipairs(option.names) do
            takes_value[name] = option.metavar ~= nil
        end
    end
    local i = 1
    while words[i] and words[i]:find("^%-.") and words[i] ~= "-e" and words[i] ~= "-p" do
        i = i + (takes_value[words[i]] and 2 or 1)
    end
    return words[i] and i
end

--- Takes the general options in front of a script, for the program: src/main.c knows few of them.
---@param ... string all words
---@return integer? place of the first word behind them, where it is no command of this module
function cli.lead(...)
    local words = { ... }
    local place = first_word(words)
    local word = place and words[place]
    if not word or not HOST_WORDS[word] and not word:find("/", 1, true) and not word:find(".%.lua$") then
        return nil
    end
    local root = { full_name = "moonflow", summary = commands.root.summary }
    local values = require("moonflow.cli.parser").parse(table.move(words, 1, place - 1, 1, {}), root)
    if values.help then
        return nil
    end
    apply(values)
    if values.target then
        require("moonflow.deployments").set_deployments_target(values.target)
    end
    return place
end

--- Prints the value of a Lua expression.
---@async
---@param expression string
---@param ... string arguments
function cli.evaluate(expression, ...)
    local chunk, message = load("return " .. expression, "=(command line)", "t")
    if not chunk then
        rethrow(message, 0)
    end
    local results = table.pack(chunk(...))
    local out <close> = require("moonflow.cli.output").open {}
    for i = 1, math.max(results.n, 1) do
        local value = results[i]
        if type(value) == "string" then
            out:text(value)
        elseif type(value) == "table" and json.encode(value) then
            out:result(value)
        else
            out:text(tostring(value))
        end
    end
end

--- The command version.
function cli.version(values)
    local sys = require "moonflow.sys"
    local out <close> = require("moonflow.cli.output").open(values)
    if values.output or values.query then
        out:result { name = "moonflow", version = sys.version, lua = _VERSION }
    else
        out:text(("moonflow %s (%s)"):format(sys.version, _VERSION))
    end
end

return cli
