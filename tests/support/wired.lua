--- A program that sends one request with moonflow.wire, for tests: its arguments are the mode (a level,
-- "curl" or "dry"), the target, and what is sent, in JSON.
local json = require "moonflow.json"
local process = require "support.process"

local wired = {}

local PROGRAM = [=[
local json = require "moonflow.json"
local wire = require "moonflow.wire"
local mode, target = arg[1], arg[2]
local given = assert(json.decode(arg[3]))
wire.start { level = tonumber(mode), curl = mode == "curl", dry_run = mode == "dry" }
if given.plain then
    given.plain.url = target .. given.plain.url
    if given.secret_header then
        given.plain.headers[given.secret_header] = require("moonflow.auth").secret(require("moonflow.env").MY_SECRET)
    end
    assert(require("moonflow.http").request(given.plain))
else
    local client = require("moonflow.deployments").get_deploy_client(target, given.options)
    if given.stream then
        for _ in client:predict_stream { endpoint = "chat", inputs = given.inputs } do end
    else
        client:predict { endpoint = "chat", inputs = given.inputs, options = given.call }
    end
end
print("after the request")
]=]

--- What no test's environment may have by accident.
local CLEAN = {
    "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "OPENAI_API_KEY",
    "OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_API_TYPE", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "http_proxy",
    "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "AZURE_OPENAI_ENDPOINT",
}

---@param mode string|integer
---@param target string
---@param given table
---@param more? table<string, string> environment
---@return table result of support.process
function wired.run(mode, target, given, more)
    local environment = { HOME = "/nonexistent" }
    for _, name in ipairs(CLEAN) do
        environment[name] = false
    end
    for name, value in pairs(more or {}) do
        environment[name] = value
    end
    return process.run {
        args = { "-e", PROGRAM, mode, target, assert(json.encode(given)) }, env = environment, timeout = 30,
    }
end

return wired
