--- `moonflow doctor`: which target, as whom and from which source, whether it answers and how fast; what
-- is wrong, and what to try. One request or two, with a limit in time. It ends with the exit code that
-- the failure found would have anywhere else.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local error = require "moonflow.error"
local headers = require "moonflow.wire.headers"
local json = require "moonflow.json"
local plugins = require "moonflow.plugins"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"
local wire = require "moonflow.wire"

local doctor = {}

local SECONDS = 15 -- for all that is asked
local ATTEMPT = { max_retries = 0, connect_timeout = 5, timeout = 10, total_timeout = 10 }
local LINE_MAX = 2000

local function shown(value)
    return value and (text.clean(tostring(value), LINE_MAX))
end

--- Versions of what the program is made of; "missing" where a part does not load.
local function versions()
    local found = { moonflow = sys.version, lua = _VERSION:match("%d.*") }
    local ok, transport = pcall(require, "moonflow._http")
    local curl = ok and transport.version() or ""
    found.libcurl = curl:match("libcurl/(%S+)") or "missing"
    found.tls = curl:match(" (%a+SSL/%S+)") or curl:match(" (GnuTLS/%S+)") or "missing"
    found.server = pcall(require, "moonflow._server") and "present" or "missing"
    return found
end

local function source_of_target(arguments)
    if arguments.target then
        return "--target"
    end
    for _, name in ipairs { "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET" } do
        if (env[name] or "") ~= "" then
            return name
        end
    end
    return "DATABRICKS_RUNTIME_VERSION"
end

--- Who the credential says it is, as far as that can be known without asking.
local function identity(exchange)
    local credential = exchange and exchange.credential
    if not credential then
        return nil
    elseif credential.anonymous then
        return "nobody: no credential is sent"
    end
    local scheme = credential.headers.Authorization and headers.scheme(credential.headers.Authorization)
    local user = credential.source:find("MLFLOW_TRACKING_USERNAME", 1, true) and env.MLFLOW_TRACKING_USERNAME
    local who = scheme == "Basic" and (user and ("user " .. user) or "a user name and password")
        or scheme == "Bearer" and "the holder of a bearer token" or "the holder of a key"
    return credential.way and ("%s (%s)"):format(who, credential.way) or who
end

--- Asks Databricks whom the credential belongs to; nil where it does not say.
local function ask_name(client, exchange)
    local origin = exchange.url:match("^%a+://[^/?#]*")
    local ok, me = pcall(client.send, client, {
        method = "GET", url = origin .. "/api/2.0/preview/scim/v2/Me", options = ATTEMPT,
    })
    return ok and type(me) == "table" and type(me.userName) == "string" and text.one_line(me.userName, 200) or nil
end

--- Asks for the list of endpoints, which needs an address and a credential, and changes nothing.
local function ask(report, client)
    if not client.implemented.list_endpoints then
        report.reachable = nil
        report.note = "this target lists no endpoints, so nothing was asked"
        return
    end
    wire.record(true)
    local ok, result = pcall(client.list_endpoints, client, { options = ATTEMPT })
    local exchange = wire.last()
    if exchange then
        report.url = shown(exchange.url)
        report.credential = exchange.credential and shown(exchange.credential.source)
        report.anonymous = exchange.credential and exchange.credential.anonymous
        report.reachable = exchange.answer ~= nil
        report.status = exchange.answer and exchange.answer.status
        report.latency_ms = exchange.answer and math.floor((exchange.answer.total or 0) * 1e4 + 0.5) / 10
        report.as = identity(exchange)
    end
    if ok and client.name == "DatabricksDeploymentClient" and exchange then
        report.as = ask_name(client, exchange) or report.as
    end
    wire.record(false)
    if not ok then
        error.raise(error.is(result) and result
            or error.new { kind = "plugin", message = "the client failed\n" .. tostring(result) })
    end
    report.endpoints = #result
end

local function add_problem(report, failure)
    if not error.is(failure) then
        failure = error.new { kind = "plugin", message = tostring(failure) }
    end
    report.problems[#report.problems + 1] = { problem = shown(failure.message), try = shown(failure.hint) }
    if report.exit == 0 then
        report.exit = error.exit_code(failure)
    end
end

--- Plugins that can not be used; they harm nothing else, so they do not change the exit code.
local function look_at_plugins(report)
    for _, entry in ipairs(plugins.list()) do
        if entry.problem then
            report.problems[#report.problems + 1] = {
                problem = ("the plugin %s is not used: %s"):format(shown(entry.file), shown(entry.problem)),
            }
        end
    end
end

--- All that is found out.
---@async
---@param arguments table target
---@return table report
function doctor.examine(arguments)
    local report = { versions = versions(), problems = json.array {}, exit = 0 }
    local ok, failure = pcall(function()
        look_at_plugins(report)
        local target = arguments.target or deployments.get_deployments_target()
        local client = deployments.get_deploy_client(target)
        report.target = shown(tostring(client):match('%("(.*)"%)$') or target)
        report.target_source = source_of_target(arguments)
        task.timeout(SECONDS, function()
            ask(report, client)
        end)
    end)
    if not ok then
        add_problem(report, failure)
    end
    if report.versions.libcurl == "missing" then
        report.problems[#report.problems + 1] = {
            problem = "the transport does not load: no request can be sent", try = "install libcurl4, or build again",
        }
        report.exit = report.exit == 0 and 1 or report.exit
    end
    return report
end

local function print_report(report)
    local function line(label, value)
        if value ~= nil then
            print(("%-11s %s"):format(label, (tostring(value):gsub("\n", "\n" .. (" "):rep(12)))))
        end
    end
    local found = report.versions
    line("moonflow", ("%s, Lua %s, libcurl %s, %s, server %s"):format(found.moonflow, found.lua, found.libcurl,
        found.tls, found.server))
    line("target", report.target and ("%s (from %s)"):format(report.target, report.target_source))
    line("as", report.as)
    line("credential", report.credential and not report.anonymous and "from " .. report.credential or nil)
    line("asked", report.url)
    line("answer", report.reachable and ("%d in %.4g ms"):format(report.status, report.latency_ms)
        or report.reachable == false and "none" or nil)
    line("endpoints", report.endpoints)
    line("note", report.note)
    for _, problem in ipairs(report.problems) do
        local first, why = problem.problem:match("^([^\n]*)\n?(.*)$")
        print("\nproblem: " .. first)
        if why ~= "" then
            print("  why:   " .. why:gsub("\n", "\n         "))
        end
        if problem.try then
            print("  try:   " .. problem.try:gsub("\n", "\n         "))
        end
    end
    if not report.problems[1] then
        print("\nall is well")
    end
end

--- The command. Ends the program where something is wrong.
---@async
---@param arguments table target, output
function doctor.run(arguments)
    local report = doctor.examine(arguments)
    local output = arguments.output
    if output == "json" or output == "jsonl" or not output and not sys.isatty(1) then
        report.anonymous = nil
        print((assert(json.encode(report, { sort = true }))))
    else
        print_report(report)
    end
    if report.exit ~= 0 then
        os.exit(report.exit)
    end
end

return doctor
