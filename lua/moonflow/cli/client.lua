--- The client of a command: the target and what the general options say of its requests.
local deployments = require "moonflow.deployments"
local error = require "moonflow.error"

local rethrow = _G.error

local client = {}

--- The target that is named, or that the environment names.
---@param values table
---@return string
function client.target(values)
    if values.target and values.target ~= "" then
        return values.target
    end
    local ok, found = pcall(deployments.get_deployments_target)
    if ok then
        return found
    elseif error.is(found) and found.kind == "config" then
        found.message = found.message:gsub("set_deployments_target was not called", "there is no --target")
        found.hint = "moonflow -t http://localhost:5000 ...\nexport MLFLOW_DEPLOYMENTS_TARGET=http://localhost:5000"
    end
    return rethrow(found, 0)
end

--- The client of a command.
---@param values table
---@return table
function client.open(values)
    return deployments.get_deploy_client(client.target(values), {
        timeout = values.timeout,
        total_timeout = values.timeout,
        connect_timeout = values.connect_timeout,
        max_retries = values.retries,
    })
end

return client
