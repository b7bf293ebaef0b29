--- Workload identity federation: a token that somebody else gave, exchanged for one of Databricks.
local auth = require "moonflow.auth"
local config = require "moonflow.databricks.config"
local env = require "moonflow.env"
local grants = require "moonflow.grants"
local oauth = require "moonflow.databricks.oauth"
local sys = require "moonflow.sys"
local text = require "moonflow.text"
local url = require "moonflow.url"
local well_known = require "moonflow.databricks.well_known"

local oidc = {}

local GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
local JWT = "urn:ietf:params:oauth:token-type:jwt"
local USUAL_VARIABLE = "DATABRICKS_OIDC_TOKEN"
local FILE_MAX = 16 * 1024 -- bytes
local PIPELINE_TIMEOUT = 10 -- seconds
local DEVOPS_VERSION = "7.2-preview.1"

--- What a pipeline of Azure DevOps sets; the first is set only where the pipeline says so.
local DEVOPS = {
    "SYSTEM_ACCESSTOKEN", "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", "SYSTEM_TEAMPROJECTID", "SYSTEM_PLANID", "SYSTEM_JOBID",
    "SYSTEM_HOSTTYPE",
}

local failure = grants.failure

--- Exchanges what `subject` returns for the endpoint that is asked.
local function exchange(found, subject)
    return oauth.ask(found, function(endpoint)
        local token, err = subject(endpoint)
        if not token then
            return nil, err
        end
        auth.secret(token) -- so that no message shows it
        local form = {
            { "grant_type", GRANT }, { "scope", config.scopes(found) }, { "subject_token_type", JWT },
            { "subject_token", token },
        }
        form[5] = found.values.client_id and { "client_id", found.values.client_id }
        return form
    end)
end

--- The variable that holds the token.
---@param found moonflow.DatabricksConfig
---@return string
function oidc.variable(found)
    return found.values.oidc_token_env or USUAL_VARIABLE
end

--- With a token out of a variable, which is read for each exchange.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function oidc.from_variable(found)
    return exchange(found, function()
        local name = oidc.variable(found)
        local value = env[name] and text.trim(env[name])
        if not value or value == "" then
            return nil, failure("auth", "missing env var %q", name)
        end
        return value
    end)
end

--- With a token out of a file, which is read for each exchange, as its content is replaced.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function oidc.from_file(found)
    return exchange(found, function()
        local path = found.values.oidc_token_filepath
        local content, err = sys.read_file(path, FILE_MAX)
        if not content then
            return nil, err
        end
        content = text.trim(content)
        if content == "" then
            return nil, failure("auth", "file %q is empty", path)
        end
        return content
    end)
end

--- Whom GitHub's token is for.
local function audience(found, endpoint)
    return found.values.token_audience or well_known.audience(found) or endpoint
end

--- The ID token in a field of an answer, or nil and an error.
local function read_id_token(response, err, field)
    local value
    if response then
        value, err = grants.read_object(response, "a token")
    end
    if not value then
        return nil, err
    elseif type(value[field]) ~= "string" or value[field] == "" then
        return nil, failure("auth", "%s gave no token that can be used", url.parse(response.url).origin)
    end
    return value[field]
end

local function ask_github(found, endpoint)
    local address = found.values.actions_id_token_request_url
    local parts = url.parse(address)
    if not parts or parts.scheme ~= "https" and not url.is_loopback(parts.host) then
        return nil, failure("config", "ACTIONS_ID_TOKEN_REQUEST_URL must be an https:// URL")
    end
    local bearer = auth.bearer(found.values.actions_id_token_request_token, parts.origin)
    local response, err = oauth.insist(function()
        return grants.ask {
            url = ("%s%s%s"):format(address, parts.query and "&" or "?",
                url.query { { "audience", audience(found, endpoint) } }),
            headers = { Authorization = bearer, Accept = "application/json" },
            proxy = found.options.proxy,
            timeout = PIPELINE_TIMEOUT,
            total_timeout = PIPELINE_TIMEOUT,
        }
    end)
    return read_id_token(response, err, "value")
end

--- With a token of the GitHub workflow that this runs in.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function oidc.from_github(found)
    return exchange(found, function(endpoint)
        return ask_github(found, endpoint)
    end)
end

--- The first variable of a pipeline of Azure DevOps that is not set.
---@return string?
function oidc.missing_of_devops()
    for _, name in ipairs(DEVOPS) do
        if (env[name] or "") == "" then
            return name
        end
    end
end

--- Its tokens are all for the same audience.
local function ask_devops(found)
    local missing = oidc.missing_of_devops()
    if missing then
        return nil, failure("auth", "%s is not set", missing)
    end
    local access, collection, project, plan, job, hub = env[DEVOPS[1]], env[DEVOPS[2]], env[DEVOPS[3]], env[DEVOPS[4]],
        env[DEVOPS[5]], env[DEVOPS[6]]
    local parts = url.parse(collection)
    if not parts or parts.query or parts.scheme ~= "https" and not url.is_loopback(parts.host) then
        return nil, failure("config", "%s must be an https:// URL", DEVOPS[2])
    end
    local address, err = url.join(collection, project, "_apis", "distributedtask", "hubs", hub, "plans", plan, "jobs",
        job, "oidctoken")
    if not address then
        return nil, err
    end
    local response
    response, err = oauth.insist(function()
        return grants.ask {
            method = "POST",
            url = address .. "?api-version=" .. DEVOPS_VERSION,
            headers = {
                Authorization = auth.bearer(access, parts.origin), Accept = "application/json",
                ["Content-Type"] = "application/json",
            },
            body = "",
            proxy = found.options.proxy,
            timeout = PIPELINE_TIMEOUT,
            total_timeout = PIPELINE_TIMEOUT,
        }
    end)
    return read_id_token(response, err, "oidcToken")
end

--- With a token of the Azure DevOps pipeline that this runs in.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function oidc.from_devops(found)
    return exchange(found, function()
        return ask_devops(found)
    end)
end

return oidc
