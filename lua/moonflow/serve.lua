--- The command `moonflow serve`: MLflow's deployments server, with the endpoints that a Lua file
-- describes or, without one, a demonstration. The same port has OpenAI's API and that of Databricks.
local _signal = require "moonflow._signal"
local _task = require "moonflow._task"
local check = require "moonflow.check"
local env = require "moonflow.env"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local server = require "moonflow.server"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"

local raise = _G.error

local serve = {}

local HELP = [[
moonflow serve: MLflow's deployments server, for MLflow's, OpenAI's and Databricks' clients

usage: moonflow serve [FILE.lua] [options]

FILE.lua returns a list of endpoints (see scripts/serve.lua). Without it a demonstration is served.
SIGHUP reads the file again; where it is wrong, what is there stays.

options:
  --host HOST        the address to listen on (default 127.0.0.1). Any other than this machine's own
                     needs a token
  --port PORT        the port (default 5000; 0: any that is free)
  --token-file FILE  clients must send "Authorization: Bearer TOKEN", with the first line of this file;
                     else the variable MOONFLOW_SERVE_TOKEN is the token
  --fault FAULT      something that goes wrong, to try a workflow with (may be repeated):
                     [ENDPOINT:]WORD[,WORD...] of latency=SECONDS, a status, retry-after=SECONDS,
                     cut=PIECES, lose, every=N, rate=0..1, times=N
  --deploy RULE      how endpoints deploy that are created as in Databricks (may be repeated; the first that
                     fits counts): [ENDPOINT:]WORD[,WORD...] of seconds=N (default 0.5), reads=N, fail,
                     fail=MESSAGE, version=N (of the configuration)
  --log              a line for each request, on standard error
  --help             print this
]]

local VALUES = { ["--host"] = "host", ["--port"] = "port", ["--token-file"] = "token_file", ["--fault"] = "fault",
    ["--deploy"] = "deploy" }
local LISTS = { ["--fault"] = "faults", ["--deploy"] = "deploy" }
local FLAGS = { ["--log"] = "log", ["--help"] = "help", ["-h"] = "help" }
local DEFAULT_PORT = 5000
local TOKEN_MAX = 4096 -- bytes
local SHOWN = 40       -- endpoints at the start: a reader that stops behind the URL must not hold it up
local NAME_MAX = 60    -- bytes of a model's or a provider's name there
local HANDLER_CPU = 5  -- seconds that a handler may compute without a wait: all others stand still

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint or "moonflow serve --help" }
end

local function option_names()
    local names = check.sorted_keys(VALUES)
    table.move(check.sorted_keys(FLAGS), 1, 3, #names + 1, names)
    return names
end

--- What the words of the command line say.
local function read_words(words)
    local options, position = { faults = {}, deploy = {} }, 1
    while position <= #words do
        local word = words[position]
        local name, value = word:match("^(%-%-[%w%-]+)=(.*)$")
        name = name or word
        if VALUES[name] then
            if not value then
                position = position + 1
                value = words[position] or misuse(name .. " needs a value")
            end
            local list = options[LISTS[name]]
            if list then
                list[#list + 1] = value
            else
                options[VALUES[name]] = value
            end
        elseif FLAGS[name] and not value then
            options[FLAGS[name]] = true
        elseif word:sub(1, 1) == "-" then
            misuse("unknown option " .. check.show(word), check.hint(name, option_names()))
        elseif options.file then
            misuse("one file only, not " .. check.show(word) .. " as well")
        else
            options.file = word
        end
        position = position + 1
    end
    return options
end

local function read_port(given)
    if given == nil then
        return DEFAULT_PORT
    end
    local port = #given <= 5 and given:match("^%d+$") and math.tointeger(tonumber(given))
    if not port or port > 65535 then
        misuse("--port must be a number from 0 to 65535, not " .. check.show(given))
    end
    return port
end

local function read_token(options)
    local token = env.MOONFLOW_SERVE_TOKEN
    if options.token_file then
        local bytes, err = sys.read_file(options.token_file, TOKEN_MAX)
        if not bytes then
            raise(err, 0)
        end
        token = text.trim(bytes:match("^[^\r\n]*"))
    end
    if token == "" or token and #token > TOKEN_MAX then
        error.raise { kind = "config", message = "the token is empty or too long" }
    end
    return token
end

--- Forgets the modules beside the file, so that reading it again reads them again.
local function forget_modules(directory)
    local templates = directory .. "/?.lua;" .. directory .. "/?/init.lua"
    for name in pairs(package.loaded) do
        if not name:find("^moonflow") and package.searchpath(name, templates) then
            package.loaded[name] = nil
        end
    end
end

--- Finds modules beside the file before all others.
local function add_directory(directory)
    package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(directory, directory, package.path)
end

local function directory_of(file)
    return file:match("^(.*)/[^/]*$") or "."
end

local function config_error(message)
    error.raise { kind = "config", message = message }
end

local function read_endpoints(file)
    if not file then
        return require "moonflow.gateway.demo"
    end
    local chunk, message = loadfile(file, "t")
    if not chunk then
        config_error(message) -- Lua names the file in it
    end
    local endpoints, settings = chunk()
    if type(endpoints) ~= "table" then
        config_error(("%s: it must return a list of endpoints, not %s"):format(file, type(endpoints)))
    end
    if settings ~= nil and type(settings) ~= "table" then
        config_error(("%s: what it returns second must be a table, not %s"):format(file, type(settings)))
    end
    return endpoints, settings
end

local function new_gateway(options)
    local endpoints, settings = read_endpoints(options.file)
    return require("moonflow.gateway").new(endpoints, {
        token = options.token, faults = options.faults, warn = notice.say,
        workspace = options.workspace, settings = settings,
    })
end

--- Reads the file again; the old endpoints stay where the new ones are wrong.
local function reload(state)
    if state.options.file then
        forget_modules(directory_of(state.options.file))
    end
    local ok, result = pcall(new_gateway, state.options)
    if ok then
        state.gateway = result
        notice.say("the endpoints were read again")
    else
        notice.say("the endpoints stay as they were: " .. tostring(result))
    end
end

local function log_request(request, status, started)
    notice.say(("%s %s %s %s %.1f ms"):format(request.peer, request.method, text.one_line(request.path, 200),
        status or "-", (sys.monotonic() - started) * 1e3))
end

local function new_handler(state)
    if not state.options.log then
        return function(request)
            return state.gateway:handle(request)
        end
    end
    return function(request)
        local started = sys.monotonic()
        local status, headers, body = state.gateway:handle(request)
        log_request(request, status, started)
        return status, headers, body
    end
end

--- Says where it serves, what, and how to try it. The first line is for programs too.
local function announce(url, gateway, options)
    local lines = { url }
    if not options.file then
        lines[2] = "a demonstration: no model is behind these endpoints, they answer by simple rules"
    end
    local endpoints = gateway.endpoints
    for i = 1, math.min(#endpoints, SHOWN) do
        local endpoint = endpoints[i]
        lines[#lines + 1] = ("  %-20s %-20s %s/%s"):format(endpoint.name, endpoint.endpoint_type,
            text.one_line(endpoint.model.provider, NAME_MAX), text.one_line(endpoint.model.name, NAME_MAX))
    end
    if #endpoints > SHOWN then
        lines[#lines + 1] = ("  and %d more"):format(#endpoints - SHOWN)
    end
    lines[#lines + 1] = "for MLflow's clients: " .. url .. "    for OpenAI's: " .. url .. "/v1"
    lines[#lines + 1] = "for Databricks': DATABRICKS_HOST=" .. url
    print(table.concat(lines, "\n"))
    io.flush()
end

--- Waits for signals until one of them, or an interrupt, says that it is time to stop.
local function serve_until_told(state)
    local signals <close> = _signal.open("HUP", "TERM")
    while true do
        local name = signals:next()
        if name ~= "HUP" then
            return
        end
        reload(state)
    end
end

local function start(options)
    local host = options.host or "127.0.0.1"
    options.token = read_token(options)
    options.workspace = require("moonflow.workspace").new { token = options.token, deploy = options.deploy }
    local state = { options = options }
    if options.file then
        add_directory(directory_of(options.file))
    end
    state.gateway = new_gateway(options)
    local started = server.start { host = host, port = read_port(options.port), handler = new_handler(state) }
    if not started.is_local and not options.token then
        started:close()
        error.raise {
            kind = "config",
            message = ("who can reach %s could use these endpoints: that needs a token"):format(host),
            hint = "set MOONFLOW_SERVE_TOKEN, or --token-file FILE",
        }
    end
    announce(started.url, state.gateway, options)
    return started, state
end

--- Runs the command.
-- @tparam string ... its words
function serve.main(...)
    local options = read_words { ... }
    if options.help then
        io.write(HELP)
        return
    end
    local started <close>, state = start(options)
    _task.watch(HANDLER_CPU)
    local was_told = task.interruptible(function()
        serve_until_told(state)
        return true
    end)
    started:stop()
    if not was_told then
        os.exit(130, true)
    end
end

return serve
