--- Logging in to a workspace of Azure's with tokens of Entra ID: an application's secret, the machine's
-- identity, the Azure CLI.
local auth = require "moonflow.auth"
local azure = require "moonflow.azure"
local config = require "moonflow.databricks.config"
local error = require "moonflow.error"
local grants = require "moonflow.grants"
local hosts = require "moonflow.databricks.hosts"
local http = require "moonflow.http"
local token_cache = require "moonflow.token_cache"
local url = require "moonflow.url"

local ways = {}

--- The addresses of each of Azure's clouds.
local CLOUDS = {
    PUBLIC = {
        authority = "https://login.microsoftonline.com", management = "https://management.core.windows.net/",
        resources = "https://management.azure.com/",
    },
    USGOVERNMENT = {
        authority = "https://login.microsoftonline.us", management = "https://management.core.usgovcloudapi.net/",
        resources = "https://management.usgovcloudapi.net/",
    },
    CHINA = {
        authority = "https://login.chinacloudapi.cn", management = "https://management.core.chinacloudapi.cn/",
        resources = "https://management.chinacloudapi.cn/",
    },
}

local MANAGEMENT_HEADER = "X-Databricks-Azure-SP-Management-Token"
local TENANT_TIMEOUT = 10   -- seconds
local RESOURCE_TIMEOUT = 30 -- seconds
local RESOURCE_VERSION = "2018-04-01"

--- Hosts of workspaces that Azure named, by their resource ids.
local named = {}

local failure = grants.failure

--- The addresses of the workspace's cloud. Raises where there is no such cloud.
local function cloud_of(found)
    local given = found.values.azure_environment
    if not given and not found.origin then
        return CLOUDS.PUBLIC
    elseif not given then
        local host = url.parse(found.origin).host
        return CLOUDS[host:find("%.azure%.us$") and "USGOVERNMENT" or host:find("%.azure%.cn$") and "CHINA" or "PUBLIC"]
    end
    return CLOUDS[given:upper():gsub("^AZURE", ""):gsub("CLOUD$", "")] or error.raise {
        kind = "config",
        message = ("azure_environment of %s is none of PUBLIC, USGOVERNMENT and CHINA"):format(
            found.sources.azure_environment),
    }
end

--- The tenant that the workspace itself names in the redirect of its login page.
local function discover_tenant(found)
    local response = http.request {
        url = found.base .. "/aad/auth", proxy = found.options.proxy, ca_file = found.options.ca_file,
        timeout = TENANT_TIMEOUT, total_timeout = TENANT_TIMEOUT, max_body = 65536,
    }
    local location = response and response.status >= 300 and response.status < 400 and response.headers.location
    local parts = location and #location < 8192 and url.parse(location)
    return parts and parts.path:match("^/([%w.-]+)")
end

local function ask_authority(found, address, resource)
    local values = found.values
    local response, err = grants.post(address, {
        { "grant_type", "client_credentials" },
        { "client_id", values.azure_client_id },
        { "client_secret", values.azure_client_secret },
        { "resource", resource },
    }, { proxy = found.options.proxy })
    if not response then
        return nil, err
    end
    return grants.read_answer(response)
end

--- An application's token for a resource. It outlives the program.
local function secret_token(found, tenant, resource)
    local values = found.values
    local address = url.join(cloud_of(found).authority, tenant, "oauth2", "token")
    local whose = { "azure-client-secret", address, values.azure_client_id, resource }
    return token_cache.get(whose, values.azure_client_secret, function()
        return ask_authority(found, address, resource)
    end)
end

--- Adds what a workspace of Azure's is told beside the token: its resource id, and a token that an
--- application manages it with. The shorter life of the two counts.
local function complete(found, token, management)
    token.headers = { ["X-Databricks-Azure-Workspace-Resource-Id"] = found.values.azure_workspace_resource_id }
    if management then
        token.headers[MANAGEMENT_HEADER] = management.secret
        token.expires_in = math.min(token.expires_in, management.expires_in)
        token.lifetime = nil -- which is of one of them
        local drop = token.drop
        token.drop = function()
            for _, remove in pairs { drop, management.drop } do
                remove()
            end
        end
    end
    return token
end

--- With an application's secret.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function ways.client_secret(found)
    local tenant = found.values.azure_tenant_id or discover_tenant(found)
    if not tenant then
        return nil, failure("auth", "azure_tenant_id is not set, and %s names no tenant at /aad/auth", found.base)
    elseif not tenant:find("^%w[%w.-]*$") then
        return nil, failure("config", "the azure_tenant_id of %s is no tenant's number or domain name",
            found.sources.azure_tenant_id)
    end
    local token, err = secret_token(found, tenant, hosts.azure_app(found))
    if not token then
        return nil, err
    end
    local management
    management, err = secret_token(found, tenant, cloud_of(found).management)
    if not management then
        return nil, err
    end
    return complete(found, token, management)
end

--- With the identity of the machine.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function ways.machine(found)
    local client, source = found.values.azure_client_id, found.sources.azure_client_id
    local token, err = azure.machine_token(hosts.azure_app(found), client, source)
    if not token then
        return nil, err
    end
    local management
    management, err = azure.machine_token(cloud_of(found).management, client, source)
    if not management then
        return nil, err
    end
    return complete(found, token, management)
end

--- A token of the Azure CLI: where the workspace's subscription is known, of that one if there is one.
local function ask_cli(found, resource)
    local tenant = found.values.azure_tenant_id
    local id = found.values.azure_workspace_resource_id
    local subscription = id and id:match("^/subscriptions/([^/]+)")
    if subscription then
        local token, err = azure.cli_token(resource, tenant, subscription)
        if token or err.message == "az is not installed" then
            return token, err
        end
    end
    return azure.cli_token(resource, tenant)
end

--- With the login of the Azure CLI.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function ways.cli(found)
    local token, err = ask_cli(found, hosts.azure_app(found))
    if not token then
        return nil, err
    end
    -- people have no such token, and need none
    return complete(found, token, (ask_cli(found, cloud_of(found).management)))
end

--- A token to look at resources with, by the way to log in that is configured.
local function resources_token(found, resource)
    local values = found.values
    local only = values.auth_type
    local has_secret = values.azure_client_id and values.azure_client_secret and values.azure_tenant_id
    if has_secret and (not only or only == "azure-client-secret") then
        return secret_token(found, values.azure_tenant_id, resource)
    elseif config.is_true(values.azure_use_msi) and (not only or only == "azure-msi") then
        return azure.machine_token(resource, values.azure_client_id, found.sources.azure_client_id)
    elseif not only or only == "azure-cli" then
        return ask_cli(found, resource)
    end
    return nil, failure("auth", "the way %s does not tell where the workspace is", only)
end

local function look_for_host(found)
    local manager, id = cloud_of(found).resources, found.values.azure_workspace_resource_id
    if not id:find("^/[%w/._()-]+$") or id:find("..", 1, true) then
        return nil, failure("config", "the azure_workspace_resource_id of %s is no resource's id",
            found.sources.azure_workspace_resource_id)
    end
    local token, err = resources_token(found, manager)
    if not token then
        return nil, err
    end
    local response
    response, err = grants.ask {
        url = manager .. id:sub(2) .. "?" .. url.query { { "api-version", RESOURCE_VERSION } },
        headers = { Authorization = auth.bearer(token.secret, manager), Accept = "application/json" },
        proxy = found.options.proxy, timeout = RESOURCE_TIMEOUT, total_timeout = RESOURCE_TIMEOUT,
    }
    local value
    if response then
        value, err = grants.read_object(response, "a workspace")
    end
    if not value then
        return nil, err
    end
    local host = type(value.properties) == "table" and value.properties.workspaceUrl
    if type(host) ~= "string" or not hosts.is_in_azure(host) then
        return nil, failure("auth", "%s names no host of a workspace", manager)
    end
    return host
end

--- The host of the workspace that only its id in Azure tells of; asked once.
---@async
---@param found moonflow.DatabricksConfig
---@return string? host
---@return table? err
function ways.find_host(found)
    local id = found.values.azure_workspace_resource_id
    if not named[id] then
        local host, err = look_for_host(found)
        if not host then
            return nil, err
        end
        named[id] = host
    end
    return named[id]
end

return ways
