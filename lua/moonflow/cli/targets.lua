--- `moonflow targets`: what can be spoken to, and how it is written.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local json = require "moonflow.json"
local plugins = require "moonflow.plugins"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local targets = {}

local function is_set(name)
    return (env[name] or "") ~= ""
end

local function has_file(path)
    return env.HOME ~= nil and sys.stat(env.HOME .. path) ~= nil
end

--- What says that a built-in target is configured, or nil; an MLflow server needs nothing.
local signs = {}

function signs.databricks()
    if is_set "DATABRICKS_HOST" then
        return "DATABRICKS_HOST"
    end
    return is_set "DATABRICKS_CONFIG_FILE" and "DATABRICKS_CONFIG_FILE"
        or has_file "/.databrickscfg" and "~/.databrickscfg" or nil
end

function signs.openai()
    for _, name in ipairs { "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_BASE" } do
        if is_set(name) then
            return name
        end
    end
end

function signs.http()
    for _, name in ipairs { "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET" } do
        if (env[name] or ""):find("^https?://") then
            return name
        end
    end
end

signs.https = signs.http

local EXAMPLES = {
    databricks = { "databricks", "databricks://PROFILE" },
    http = { "http://localhost:5000" },
    https = { "https://gateway.example.com" },
    openai = { "openai", "openai:http://localhost:8000/v1" },
}

--- All targets, with what is known of them without a request.
---@return table list of {name, kind, configured?, examples, file?, problem?}
function targets.list()
    local list = json.array {}
    for i, entry in ipairs(plugins.list()) do
        local sign = entry.builtin and signs[entry.name]
        list[i] = {
            name = entry.name,
            kind = entry.builtin and "built in" or "plugin",
            configured = sign and sign() or nil,
            examples = json.array(EXAMPLES[entry.name] or { entry.name .. "://HOST" }),
            file = entry.file,
            problem = entry.problem,
        }
    end
    return list
end

local function row_of(entry)
    local state = entry.problem and "not used: " .. text.one_line(entry.problem, 200)
        or entry.configured and "by " .. entry.configured or entry.file or "-"
    return { entry.name, entry.kind, state, table.concat(entry.examples, ", ") }
end

local function print_table(list)
    local rows, widths = { { "NAME", "KIND", "CONFIGURED", "EXAMPLES" } }, { 0, 0, 0, 0 }
    for _, entry in ipairs(list) do
        rows[#rows + 1] = row_of(entry)
    end
    for _, row in ipairs(rows) do
        for i, cell in ipairs(row) do
            row[i] = text.one_line(cell, 400)
            widths[i] = math.max(widths[i], utf8.len(row[i]) or #row[i])
        end
    end
    for _, row in ipairs(rows) do
        for i = 1, 3 do
            row[i] = row[i] .. (" "):rep(widths[i] - (utf8.len(row[i]) or #row[i]))
        end
        print(table.concat(row, "  "))
    end
end

--- The command.
---@param arguments table action, scheme, output, target
function targets.run(arguments)
    if arguments.action == "help" then
        local scheme = arguments.scheme or arguments.target or deployments.get_deployments_target()
        print((text.clean(deployments.target_help(scheme), 64 * 1024):gsub("%s+$", "")))
        return
    end
    local list, output = targets.list(), arguments.output
    if output == "json" or not output and not sys.isatty(1) then
        print((assert(json.encode(list, { sort = true }))))
    elseif output == "jsonl" then
        for _, entry in ipairs(list) do
            print((assert(json.encode(entry, { sort = true }))))
        end
    elseif output == "name" then
        for _, entry in ipairs(list) do
            print(entry.name)
        end
    else
        print_table(list)
    end
end

return targets
