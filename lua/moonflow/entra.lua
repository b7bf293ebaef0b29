--- Tokens of Microsoft Entra ID for Azure OpenAI. The ways to get one are tried in Azure's usual
-- order: an application's secret, a federated token, a managed identity, the Azure CLI. One whose
-- variables are all set is used and no other; the last two need none, so that where they have
-- nothing to give is only a reason.
local auth = require "moonflow.auth"
local azure = require "moonflow.azure"
local env = require "moonflow.env"
local error = require "moonflow.error"
local grants = require "moonflow.grants"
local sys = require "moonflow.sys"
local text = require "moonflow.text"
local token_cache = require "moonflow.token_cache"
local tokens = require "moonflow.tokens"
local url = require "moonflow.url"

local entra = {}

local AUTHORITY = "https://login.microsoftonline.com"
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

local FILE_MAX = 16 * 1024 -- bytes of a federated token

local VARIABLES = {
    "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST", "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_CONFIG_DIR",
}
local SECRETS = { AZURE_CLIENT_SECRET = true, IDENTITY_HEADER = true }

--- The variables that are set, read at once: tasks that change some meanwhile do not mix them.
local function read_variables()
    local values = {}
    for _, name in ipairs(VARIABLES) do
        local value = env[name]
        if value ~= "" then
            values[name] = value
        end
    end
    for name in pairs(SECRETS) do
        if values[name] then
            auth.secret(values[name]) -- so that no message shows it
        end
    end
    return values
end

--- Names the token by all that decides whose it is; of secrets, only whether they are set.
local function key_of(values, resource)
    local parts = { "entra", resource }
    for _, name in ipairs(VARIABLES) do
        parts[#parts + 1] = SECRETS[name] and tostring(values[name] ~= nil) or values[name] or ""
    end
    return table.concat(parts, "\n")
end

local failure = grants.failure

--- The authority: an application's secret, or a federated token

--- The address where the tenant's tokens are given, or nil and an error.
local function authority_address(values)
    local base = values.AZURE_AUTHORITY_HOST or AUTHORITY
    if not base:find("://", 1, true) then
        base = "https://" .. base
    end
    local parts = url.parse(base)
    if not parts or parts.query then
        return nil, failure("config", "AZURE_AUTHORITY_HOST is no host name and no URL of one")
    elseif parts.scheme ~= "https" and not (parts.scheme == "http" and url.is_loopback(parts.host)) then
        return nil, failure("config", "AZURE_AUTHORITY_HOST must be https://, as secrets are sent there")
    elseif not values.AZURE_TENANT_ID:find("^%w[%w.-]*$") then
        return nil, failure("config", "AZURE_TENANT_ID is no tenant's number or domain name")
    end
    return url.join(base, values.AZURE_TENANT_ID, "oauth2", "v2.0", "token")
end

--- Asks the authority; `proof` are the pairs of the form that show who asks.
local function ask_authority(values, resource, proof)
    local address, err = authority_address(values)
    if not address then
        return nil, err
    end
    local form = {
        { "grant_type", "client_credentials" },
        { "client_id", values.AZURE_CLIENT_ID },
        { "scope", resource .. "/.default" },
    }
    table.move(proof, 1, #proof, #form + 1, form)
    local response
    response, err = grants.post(address, form)
    if not response then
        return nil, err
    end
    return grants.read_answer(response)
end

--- This token outlives the program.
local function by_client_secret(values, resource)
    local secret = values.AZURE_CLIENT_SECRET
    local whose = {
        "entra", values.AZURE_AUTHORITY_HOST or AUTHORITY, values.AZURE_TENANT_ID, values.AZURE_CLIENT_ID, resource,
    }
    return token_cache.get(whose, secret, function()
        return ask_authority(values, resource, { { "client_secret", secret } })
    end)
end

--- The file is read for each token, as its content is replaced every hour or so.
local function by_federated_token(values, resource)
    local content, err = sys.read_file(values.AZURE_FEDERATED_TOKEN_FILE, FILE_MAX)
    if not content then
        return nil, err
    end
    local assertion = text.trim(content)
    if assertion == "" then
        return nil, failure("config", "%s: the file is empty", values.AZURE_FEDERATED_TOKEN_FILE)
    end
    auth.secret(assertion)
    return ask_authority(values, resource, {
        { "client_assertion_type", ASSERTION_TYPE }, { "client_assertion", assertion },
    })
end

--- Managed identities

local function by_app_service(values, resource)
    local address, err = azure.metadata_address("IDENTITY_ENDPOINT", values.IDENTITY_ENDPOINT, "", "2019-08-01",
        resource, values.AZURE_CLIENT_ID)
    if not address then
        return nil, err
    end
    local headers = { ["X-IDENTITY-HEADER"] = auth.secret(values.IDENTITY_HEADER) }
    local response
    response, err = azure.ask_metadata(address, headers)
    if not response then
        return nil, err
    end
    return grants.read_answer(response)
end

local function by_machine(values, resource)
    return azure.machine_token(resource, values.AZURE_CLIENT_ID, "AZURE_CLIENT_ID")
end

local function by_cli(values, resource)
    return azure.cli_token(resource, values.AZURE_TENANT_ID)
end

--- The ways

---@class moonflow.EntraWay
---@field name string
---@field source string for error texts of what the token is used for
---@field needs string[] variables; where all are set this is the way, without any it is tried
---@field fetch fun(values: table, resource: string): table?, table? a token, or nil and an error

---@type moonflow.EntraWay[]
local WAYS = {
    {
        name = "client secret", source = "Entra ID, with AZURE_CLIENT_SECRET", fetch = by_client_secret,
        needs = { "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET" },
    },
    {
        name = "federated token", source = "Entra ID, with AZURE_FEDERATED_TOKEN_FILE", fetch = by_federated_token,
        needs = { "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE" },
    },
    {
        name = "managed identity of App Service", source = "the managed identity at IDENTITY_ENDPOINT",
        fetch = by_app_service, needs = { "IDENTITY_ENDPOINT", "IDENTITY_HEADER" },
    },
    {
        name = "managed identity of a virtual machine", source = "the managed identity of this machine",
        fetch = by_machine, needs = {},
    },
    { name = "Azure CLI", source = "az account get-access-token", fetch = by_cli, needs = {} },
}

local function enumerate(names)
    if #names < 2 then
        return names[1]
    end
    return table.concat(names, ", ", 1, #names - 1) .. " and " .. names[#names]
end

local function lacks(way, values)
    local names = {}
    for _, name in ipairs(way.needs) do
        if not values[name] then
            names[#names + 1] = name
        end
    end
    return names[1] and ("%s %s not set"):format(enumerate(names), names[2] and "are" or "is")
end

--- Raises the failure of a way that the variables ask for. A new error, as fields such as
--- request_sent do not speak of the request that the token is for.
local function raise_failure(way, err)
    error.raise {
        kind = err.kind,
        error_code = err.error_code,
        message = ("no Entra ID token with the %s: %s\nthis way is used because %s are set"):format(way.name,
            err.message, enumerate(way.needs)),
        hint = err.hint,
        cause = err,
    }
end

local function fetch(values, resource)
    local reasons = {}
    for _, way in ipairs(WAYS) do
        local reason = lacks(way, values)
        if not reason then
            local token, err = way.fetch(values, resource)
            if token then
                token.source = way.source
                return token
            elseif way.needs[1] then
                raise_failure(way, err)
            end
            reason = err.message
        end
        reasons[#reasons + 1] = ("%s: %s"):format(way.name, reason:gsub("\n", "; "))
    end
    return error.raise {
        kind = "auth",
        message = ("no Entra ID token for %s\n%s"):format(resource, table.concat(reasons, "\n")),
        hint = "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or log in with `az login`",
    }
end

--- A token for a resource, kept until shortly before its end. Raises where there is none: kind "auth",
--- "config" for a variable that can not be used, "network" or "timeout" where the server that the
--- variables name can not be reached.
---@async
---@param resource string "https://cognitiveservices.azure.com"
---@param seconds? number how long to wait for it, where it has to be fetched; kind "timeout" after that
---@return userdata secret the token itself, for any origin: bind it with auth.bearer(secret, origin)
---@return string source for error texts
---@return string key for tokens.forget(key, secret), where a server does not take the token
function entra.token(resource, seconds)
    local values = read_variables()
    local key = key_of(values, resource)
    local token = tokens.get(key, function()
        return fetch(values, resource)
    end, seconds, "the Entra ID token for " .. resource)
    return token.secret, token.source, key
end

return entra
