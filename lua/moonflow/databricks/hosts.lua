--- Hosts of Databricks workspaces: the forms in which people write them, what cloud they are in, and
-- which other hosts may be told a secret of theirs.
local check = require "moonflow.check"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local text = require "moonflow.text"
local url = require "moonflow.url"

local hosts = {}

local ADDRESS_MAX = 2048 -- bytes

--- The domains that workspaces are in, and Azure's application that tokens for them are for.
local APP = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
local DOMAINS = {
    { ".dev.databricks.com" },
    { ".staging.cloud.databricks.com" },
    { ".cloud.databricks.us" },
    { ".cloud.databricks.com" },
    { ".dev.azuredatabricks.net", "62a912ac-b58e-4c1d-89ea-b2dbfc7358fc" },
    { ".staging.azuredatabricks.net", "4a67d088-db5c-48f1-9ff2-0aace800ae68" },
    { ".azuredatabricks.net", APP },
    { ".databricks.azure.us", APP },
    { ".databricks.azure.cn", APP },
    { ".dev.gcp.databricks.com" },
    { ".staging.gcp.databricks.com" },
    { ".gcp.databricks.com" },
}

local CLOUDS = { AWS = true, AZURE = true, GCP = true }

local function domain_of(host)
    for _, domain in ipairs(DOMAINS) do
        if host:sub(-#domain[1]) == domain[1] then
            return domain
        end
    end
end

--- What the query of a URL out of a browser says of the workspace.
local PROMOTED = {
    { "w", "workspace_id" }, { "o", "workspace_id", "^%d+$" }, { "workspace_id", "workspace_id", "^%d+$" },
    { "a", "account_id" }, { "account_id", "account_id" },
}

local function promote(query)
    local given, found = {}, {}
    for name, value in query:gmatch("([^&=]+)=([^&]+)") do
        given[name] = given[name] or value
    end
    for _, rule in ipairs(PROMOTED) do
        local value = given[rule[1]]
        if value and not found[rule[2]] and value:find(rule[3] or "^[%w_-]+$") then
            found[rule[2]] = value
        end
    end
    return found
end

local function refuse(source, why)
    error.raise {
        kind = "config",
        message = ("the Databricks host of %s is no host: %s"):format(source, why),
        hint = "such as https://dbc-a1b2345c-d6e7.cloud.databricks.com",
    }
end

--- A host as somebody wrote it, in one form. Raises kind "config" where it is none.
---@param given string "dbc-x.cloud.databricks.com", or a URL, as it is in a browser
---@param source string what named it, for messages
---@return string base URL without a slash at its end and without https's usual port
---@return string origin
---@return table promoted workspace_id and account_id, where the URL's query names them
function hosts.read(given, source)
    local address = text.trim(given)
    if #address > ADDRESS_MAX then
        refuse(source, "it is too long")
    elseif address:find("%s") then
        refuse(source, ("there is white space in %s"):format(check.show(address)))
    end
    local parts, err = url.parse(address:find("://", 1, true) and address or "https://" .. address)
    if not parts then
        return refuse(source, err.message)
    elseif parts.scheme ~= "https" and parts.scheme ~= "http" then
        return refuse(source, "it must be https://")
    end
    if parts.path ~= "" and parts.path ~= "/" then
        notice.once(("the path of the Databricks host of %s is not used: it is %s"):format(source, parts.origin))
    end
    return (parts.origin:gsub("^(https:.*):443$", "%1")), parts.origin, promote(parts.query or "")
end

--- Whether a host is one of Azure's workspaces, by its name alone.
---@param host string
---@return boolean
function hosts.is_in_azure(host)
    local domain = host:find("^[%w.-]+$") and domain_of(host:lower())
    return domain and domain[2] ~= nil or false
end

--- Whether a workspace is in Azure, by its host or by what is configured.
---@param config moonflow.DatabricksConfig
---@return boolean
function hosts.is_azure(config)
    local values = config.values
    if values.azure_workspace_resource_id then
        return true
    elseif values.cloud and CLOUDS[values.cloud:upper()] then
        return values.cloud:upper() == "AZURE"
    end
    local domain = domain_of(url.parse(config.origin).host)
    return domain ~= nil and domain[2] ~= nil
end

--- Azure's application that tokens for a workspace are for.
---@param config moonflow.DatabricksConfig
---@return string
function hosts.azure_app(config)
    local domain = domain_of(url.parse(config.origin).host)
    return domain and domain[2] or APP
end

--- Whether a host is one of Databricks' accounts, not of a workspace.
---@param config moonflow.DatabricksConfig
---@return boolean
function hosts.is_account(config)
    local host = url.parse(config.origin).host
    return host:find("^accounts%.") ~= nil or host:find("^accounts%-dod%.") ~= nil
end

--- Whether a URL that an answer named may be told a secret of a workspace: https, and the workspace's
-- host or one of the same domain of Databricks; or http on this machine, as the workspace itself.
---@param address string
---@param config moonflow.DatabricksConfig
---@return boolean
---@return string? why not
function hosts.may_know(address, config)
    local parts, own = url.parse(address), url.parse(config.origin)
    if not parts then
        return false, "it is no URL"
    elseif parts.origin == config.origin then
        return true
    elseif url.is_loopback(own.host) then
        return url.is_loopback(parts.host), "it is not on this machine, as the workspace is"
    elseif parts.scheme ~= "https" then
        return false, "it is not https"
    end
    local domain = domain_of(own.host)
    if parts.host == own.host or domain and domain == domain_of(parts.host) then
        return true
    end
    return false, "it is not in the domain of " .. own.host
end

return hosts
