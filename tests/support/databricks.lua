--- Databricks clients for specs: of a raw server, with nothing of the user's own environment.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local raw = require "support.raw"

local databricks = { token = "dapi0123456789abcdef" }

local function concerns(name)
    return name:find("^DATABRICKS_") or name:find("^MLFLOW_") or name == "XDG_CACHE_HOME"
end

local Hidden = {
    __close = function(hidden)
        for name in pairs(env) do
            if concerns(name) then
                env[name] = nil
            end
        end
        for name, value in pairs(hidden) do
            env[name] = value
        end
    end,
}

--- Hides the variables that a client looks at, until a `<close>` variable with the result ends.
function databricks.hide_environment()
    local hidden = { HOME = env.HOME }
    for name, value in pairs(env) do
        if concerns(name) then
            hidden[name] = value
            env[name] = nil
        end
    end
    env.HOME = "/nonexistent"
    return setmetatable(hidden, Hidden)
end

--- A client of a server, which repeats nothing unless the options say so.
---@param server table
---@param options? table
function databricks.client_of(server, options)
    local all = { host = server.url, token = databricks.token, max_retries = 0 }
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    return deployments.get_deploy_client("databricks", all)
end

--- A server that answers with these tables of raw.reply, and a client of it.
---@return table server
---@return table client
function databricks.serve(replies, options)
    local steps = {}
    for i, reply in ipairs(replies) do
        steps[i] = raw.reply(reply)
    end
    local server = raw.listen(steps)
    return server, databricks.client_of(server, options)
end

--- The error object that a call raises.
function databricks.failure(fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok, "it did not fail")
    return err
end

return databricks
