--- The ways to log in to Databricks, which of them fits, and what each lacks that does not.
local auth = require "moonflow.auth"
local check = require "moonflow.check"
local config = require "moonflow.databricks.config"
local credentials = require "moonflow.credentials"
local env = require "moonflow.env"
local error = require "moonflow.error"
local hosts = require "moonflow.databricks.hosts"
local sys = require "moonflow.sys"
local tokens = require "moonflow.tokens"

local environment = getmetatable(env)

local chain = {}

--- A way to log in.
---@class moonflow.DatabricksWay
---@field name string as DATABRICKS_AUTH_TYPE has it
---@field needs string[] attributes
---@field fits? fun(config: moonflow.DatabricksConfig): string? what else is missing
---@field header? fun(config: moonflow.DatabricksConfig): userdata of one that needs no request
---@field module? string that gives tokens, and the name of the function in it
---@field fetch? string
---@field soft? boolean it is tried though nobody asked for it: that it fails is only a reason

local function lacks_azure(found)
    return not hosts.is_azure(found) and "the host is no workspace of Azure's" or nil
end

--- In the order in which they are tried: that of Databricks' SDK for Python, and before its programs
-- the identity of a machine in Azure, which it does not have.
---@type moonflow.DatabricksWay[]
local WAYS = {
    {
        name = "pat", needs = { "token" }, header = function(found)
            return auth.bearer(found.values.token, found.origin)
        end,
    },
    {
        name = "basic", needs = { "username", "password" }, header = function(found)
            return auth.basic(found.values.username, found.values.password, found.origin)
        end,
    },
    { name = "metadata-service", needs = { "metadata_service_url" }, module = "metadata", fetch = "token" },
    { name = "oauth-m2m", needs = { "client_id", "client_secret" }, module = "oauth", fetch = "machine" },
    {
        name = "env-oidc", needs = {}, module = "oidc", fetch = "from_variable", fits = function(found)
            local name = require("moonflow.databricks.oidc").variable(found)
            return (env[name] or "") == "" and ("%s is not set"):format(check.show(name):gsub("\"", "")) or nil
        end,
    },
    { name = "file-oidc", needs = { "oidc_token_filepath" }, module = "oidc", fetch = "from_file" },
    {
        name = "github-oidc", needs = { "actions_id_token_request_url", "actions_id_token_request_token" },
        module = "oidc", fetch = "from_github", soft = true,
    },
    {
        name = "azure-client-secret", needs = { "azure_client_id", "azure_client_secret" }, fits = lacks_azure,
        module = "azure", fetch = "client_secret",
    },
    {
        name = "azure-msi", needs = { "azure_use_msi" }, module = "azure", fetch = "machine", fits = function(found)
            return not config.is_true(found.values.azure_use_msi) and "azure_use_msi is not true" or lacks_azure(found)
        end,
    },
    { name = "azure-cli", needs = {}, fits = lacks_azure, module = "azure", fetch = "cli", soft = true },
    {
        name = "azure-devops-oidc", needs = {}, module = "oidc", fetch = "from_devops", soft = true, fits = function()
            local missing = require("moonflow.databricks.oidc").missing_of_devops()
            return missing and missing .. " is not set"
        end,
    },
    { name = "databricks-cli", needs = {}, module = "cli", fetch = "token", soft = true },
    {
        name = "model-serving", needs = {}, module = "model_serving", fetch = "token", fits = function()
            return require("moonflow.databricks.model_serving").missing()
        end,
    },
}

local DOCUMENTATION = "https://docs.databricks.com/en/dev-tools/auth.html#databricks-client-unified-authentication"

local function enumerate(names)
    if #names < 2 then
        return names[1]
    end
    return table.concat(names, ", ", 1, #names - 1) .. " and " .. names[#names]
end

--- What a way lacks, or nil where it can be tried.
local function lacks(way, found)
    local names = {}
    for _, key in ipairs(way.needs) do
        if found.values[key] == nil then
            names[#names + 1] = key
        end
    end
    if not found.origin then
        table.insert(names, 1, "host")
    end
    if names[1] then
        return ("%s %s not set"):format(enumerate(names), names[2] and "are" or "is")
    end
    return way.fits and way.fits(found)
end

--- The way that auth_type names. Raises where there is none.
local function named_way(found)
    local name = found.values.auth_type
    local names = {}
    for i, way in ipairs(WAYS) do
        if way.name == name then
            return way
        end
        names[i] = way.name
    end
    return error.raise {
        kind = "config",
        message = ("auth type %s not found\nit comes from %s"):format(check.show(name), found.sources.auth_type),
        hint = check.hint(name, names),
    }
end

--- Says why there is no login: what every way lacks, and where what is there came from.
---@param found moonflow.DatabricksConfig
---@param tried table[] {name =, reason =}, in order
local function refuse(found, tried, cause)
    local values = config.describe(found)
    local half = not found.origin and "host" or "token"
    local lines = { ("no Databricks %s found in %s"):format(half, found.source) }
    if not values[1] then
        lines[1] = ("no Databricks %s found\nlooked at the options host and token, DATABRICKS_HOST and "
            .. "DATABRICKS_TOKEN, and %s"):format(half, found.source)
    end
    if found.no_host then
        lines[#lines + 1] = "azure_workspace_resource_id does not lead to it: " .. found.no_host
    end
    lines[#lines + 1] = "cannot configure default credentials; tried:"
    for _, way in ipairs(tried) do
        lines[#lines + 1] = ("  %s: %s"):format(way.name, (way.reason:gsub("\n", "; ")))
    end
    if values[1] then
        lines[#lines + 1] = "configured:"
        for _, value in ipairs(values) do
            lines[#lines + 1] = "  " .. value
        end
    end
    error.raise {
        kind = "auth",
        message = table.concat(lines, "\n"),
        hint = values[1] and "set both in " .. found.source
            or "export DATABRICKS_HOST=https://...\nexport DATABRICKS_TOKEN=...\nor see " .. DOCUMENTATION,
        ways = tried,
        configured = values,
        cause = cause,
    }
end

--- The ways that may work, in order. Asks nobody. Raises where there is none.
---@param found moonflow.DatabricksConfig
---@return moonflow.DatabricksWay[] candidates
---@return table[] tried those that lack something: {name =, reason =}
function chain.candidates(found)
    local only = found.values.auth_type and named_way(found)
    local candidates, tried = {}, {}
    for _, way in ipairs(only and { only } or WAYS) do
        local reason = lacks(way, found)
        if reason then
            tried[#tried + 1] = { name = way.name, reason = reason }
        else
            candidates[#candidates + 1] = way
        end
    end
    if not candidates[1] then
        refuse(found, tried)
    end
    return candidates, tried
end

--- The ways that read variables which are no attributes.
local OF_ENVIRONMENT = { ["env-oidc"] = true, ["azure-devops-oidc"] = true, ["model-serving"] = true }

--- Names a token by all that decides whose it is; of secrets, only where they came from.
local function key_of(way, found)
    local parts = {
        "databricks", way.name, found.origin, found.profile or "", env.HOME or "", env.PATH or "",
        env.AZURE_CONFIG_DIR or "", env.AZURE_POD_IDENTITY_AUTHORITY_HOST or "",
    }
    for _, attribute in ipairs(config.attributes) do
        local value = found.values[attribute.key]
        local is_hidden = attribute.secret or attribute.key == "azure_client_secret"
        parts[#parts + 1] = value == nil and "" or is_hidden and found.sources[attribute.key] or tostring(value)
    end
    if OF_ENVIRONMENT[way.name] then
        parts[#parts + 1] = tostring(environment.changes) -- another token may be another's
    end
    return table.concat(parts, "\n")
end

local function fetch_with(way, found)
    local token, err = require("moonflow.databricks." .. way.module)[way.fetch](found)
    if token then
        return token
    end
    return error.raise {
        kind = err.kind,
        error_code = err.error_code,
        message = ("%s: %s\nthis way is used because %s\nfor the workspace %s"):format(way.name, err.message,
            found.values.auth_type and "auth_type says so" or "what it needs is set", found.base),
        hint = err.hint,
        reason = err.message,
        cause = err,
    }
end

--- What each request carries besides: which of several workspaces of one host it is for.
local function add_headers(into, found, token)
    for name, value in pairs(token and token.headers or {}) do
        into[name] = value
    end
    into["X-Databricks-Workspace-Id"] = found.values.workspace_id
end

--- The credential of a way that gives tokens. Raises where it gives none.
local function from_token(way, found, seconds)
    local key, what = key_of(way, found), ("the Databricks token of %s"):format(way.name)
    local function fetch()
        return fetch_with(way, found)
    end
    local token = tokens.get(key, fetch, seconds, what)
    local login = credentials.build(auth.bearer, token.source or way.name, "Authorization", token.secret, found.origin)
    add_headers(login.headers, found, token)
    login.key, login.token = key, token.secret
    function login.is_current(left)
        return tokens.get(key, fetch, left, what).secret == token.secret
    end
    function login.forget()
        tokens.forget(key, token.secret)
    end
    return login
end

local function from_header(way, found)
    local login = credentials.build(way.header, found.sources[way.needs[1]] or found.source, "Authorization", found)
    add_headers(login.headers, found)
    return login
end

--- The credential for a workspace, by the first way that works. A way whose attributes are all set and
-- that fails ends the search, as do errors of the one that auth_type names.
---@async
---@param found moonflow.DatabricksConfig
---@param seconds? number that are left for it
---@return moonflow.Credential
function chain.login(found, seconds)
    local deadline = seconds and sys.monotonic() + seconds
    local candidates, tried = chain.candidates(found)
    local cause
    for _, way in ipairs(found.chosen and { found.chosen } or candidates) do
        local ok, login
        if way.header then
            ok, login = true, from_header(way, found)
        else
            ok, login = pcall(from_token, way, found, deadline and deadline - sys.monotonic())
        end
        if ok then
            found.chosen = way
            login.way = way.name
            return login
        end
        local is_late = deadline and sys.monotonic() >= deadline
        if not error.is(login) or found.values.auth_type or found.chosen or not way.soft or is_late then
            error.raise(login)
        end
        tried[#tried + 1] = { name = way.name, reason = login.reason or login.message }
        cause = login
    end
    return refuse(found, tried, cause)
end

return chain
