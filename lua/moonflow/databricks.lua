--- Which Databricks workspace a target means, and how requests to it are signed. What is configured is
-- read in moonflow.databricks.config, the ways to log in are in moonflow.databricks.chain.
local chain = require "moonflow.databricks.chain"
local config = require "moonflow.databricks.config"
local error = require "moonflow.error"
local settings = require "moonflow.settings"
local target = require "moonflow.target"

local databricks = {}

--- Options of a Databricks client besides the usual ones. Those of logging in have the names of the
-- configuration file.
---@type moonflow.Param[]
databricks.options = {
    { name = "host", type = "string", doc = "URL of the workspace, with a way to log in" },
    { name = "profile", type = "string", doc = "profile of the configuration file" },
    { name = "auth_type", type = "string", doc = "the one way to log in that is used" },
    { name = "client_id", type = "string", doc = "application of OAuth, with client_secret" },
    { name = "client_secret", type = "secret", doc = "its secret" },
    { name = "scopes", type = "string", doc = "what OAuth's tokens are for, with spaces between; else all-apis" },
    { name = "account_id", type = "string", doc = "Databricks account" },
    { name = "workspace_id", type = "string", doc = "workspace, of a host that has several" },
    { name = "discovery_url", type = "string", doc = "OAuth's discovery document" },
    { name = "token_audience", type = "string", doc = "whom an ID token is for" },
    { name = "oidc_token_env", type = "string", doc = "variable that holds an ID token" },
    { name = "oidc_token_filepath", type = "string", doc = "file that holds an ID token" },
    { name = "metadata_service_url", type = "string", doc = "service on this machine that gives tokens" },
    { name = "databricks_cli_path", type = "string", doc = "the Databricks CLI" },
    { name = "azure_workspace_resource_id", type = "string", doc = "the workspace in Azure" },
    { name = "azure_client_id", type = "string", doc = "application of Entra ID, or identity of the machine" },
    { name = "azure_client_secret", type = "string", doc = "its secret" },
    { name = "azure_tenant_id", type = "string", doc = "its tenant" },
    { name = "azure_use_msi", type = "boolean", doc = "use the identity of the machine" },
    { name = "azure_environment", type = "string", doc = "PUBLIC, USGOVERNMENT or CHINA" },
}

local function misconfigured(message, hint)
    error.raise { kind = "config", message = message, hint = hint }
end

--- Refuses a name with a character that MLflow's names can not have.
local function check_name(name, what, names)
    local bad = name:match("[/: ]")
    if bad then
        misconfigured(("Unsupported Databricks %s: %s. %s cannot contain '%s'."):format(what, name, names, bad),
            "databricks, or databricks://PROFILE with a profile of ~/.databrickscfg")
    end
end

--- The profile that a target names: databricks://PROFILE. MLflow's databricks://SCOPE:PREFIX names
-- secrets that only a notebook can read.
local function profile_of(uri)
    local rest = assert(target.parse(uri)).rest
    if not uri:find("^%s*%a+:") then
        return nil
    elseif not uri:find("^%s*%a+://") or not rest or rest == "" then
        misconfigured(("URI is formatted incorrectly: no netloc in URI '%s'. This may be the case if there is only one "
            .. "slash in the URI."):format(uri))
    end
    local scope, prefix = rest:match("^([^:]*):(.*)$")
    check_name(scope or rest, "profile name", "Profile names")
    if not scope then
        return rest
    end
    check_name(prefix, "profile key prefix", "Key prefixes")
    if prefix == "" then
        misconfigured(("Unsupported Databricks profile key prefix: '%s'. Key prefixes cannot be empty."):format(prefix))
    end
    local put = "databricks secrets put-secret " .. scope .. " " .. prefix
    return misconfigured(("The hostname and credentials configured by %s is invalid. Please create valid hostname "
        .. "secret by command '%s-host' and create valid token secret by command '%s-token'."):format(uri, put, put),
        "only code inside Databricks can read a secret scope; moonflow takes databricks://PROFILE")
end

--- What logs in, of the options.
local LOGINS = {
    "token", "username", "client_id", "client_secret", "oidc_token_env", "oidc_token_filepath", "metadata_service_url",
    "azure_workspace_resource_id", "azure_client_id", "azure_client_secret", "azure_use_msi",
}

local function has_login(options)
    for _, name in ipairs(LOGINS) do
        if options[name] ~= nil then
            return true
        end
    end
    return false
end

--- Checks a new client's target and options.
---@param self table
function databricks.init(self)
    local options, profile = self.config, profile_of(self.target_uri)
    if profile and options.profile and profile ~= options.profile then
        error.raise { kind = "usage", message = "the option profile is another one than the target's" }
    end
    local login, named = has_login(options), profile or options.profile
    local is_half = options.host and not (login or options.auth_type) or login and not options.host
    if is_half and not named then
        error.raise {
            kind = "usage",
            message = "options \"host\" and \"token\" belong together",
            hint = "or host with another way to log in: username and password, client_id and client_secret, auth_type",
        }
    elseif (options.client_id == nil) ~= (options.client_secret == nil) and options.client_secret then
        error.raise { kind = "usage", message = "options \"client_id\" and \"client_secret\" belong together" }
    end
end

--- Where a client's requests go, and what is configured to log in there.
---@class moonflow.DatabricksPlace
---@field base string URL of the workspace, without a slash at its end
---@field origin string the only one that the credential is for
---@field source string what named both
---@field config moonflow.DatabricksConfig

--- The workspace's host, where only its id in Azure is configured. Where that leads to none, the error
--- that no host is set says why.
local function find_in_azure(found)
    local host, err = require("moonflow.databricks.azure").find_host(found)
    if host then
        config.set_host(found, host, found.sources.azure_workspace_resource_id)
    else
        found.no_host = err.message
    end
end

--- Asks nobody, unless a workspace is named by its id in Azure alone. Raises where no workspace or no way
--- to log in is configured.
---@param self table
---@return moonflow.DatabricksPlace
function databricks.find_place(self)
    local found = config.read(self.config, profile_of(self.target_uri) or self.config.profile)
    if not found.base and found.values.azure_workspace_resource_id then
        find_in_azure(found)
    end
    chain.candidates(found)
    return { base = found.base, origin = found.origin, source = found.source, config = found }
end

--- The credential of requests; see `moonflow.credentials`. It is for the workspace that it was configured
-- with, so that the transport sends it to no other.
---@async
---@param self table
---@param _ string the origin of the request
---@param seconds? number that are left for it
---@return moonflow.Credential
function databricks.credential(self, _, seconds)
    local found = chain.login(settings.place(self).config, seconds)
    found.headers["X-Databricks-Endpoints-API-Client"] = "Databricks Deployment Client"
    return found
end

return databricks
