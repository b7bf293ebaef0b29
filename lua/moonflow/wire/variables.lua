--- The shell variables that stand for the credentials of a request that is shown: the one where a
-- credential came from, or a well named one for what came from elsewhere.
local base64 = require "moonflow.base64"
local env = require "moonflow.env"
local headers = require "moonflow.wire.headers"
local target = require "moonflow.target"
local text = require "moonflow.text"

local variables = {}

-- Variables that make a pair for basic authentication.
local LOGINS = {
    { "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD" },
    { "DATABRICKS_USERNAME", "DATABRICKS_PASSWORD" },
}

-- How the variables of a target begin, by its name; of a plugin's, with the plugin's name.
local PREFIXES = { http = "MLFLOW_TRACKING", https = "MLFLOW_TRACKING", openai = "OPENAI", databricks = "DATABRICKS" }
local KEYS = { OPENAI = true } -- whose bearer tokens are called keys

local NAME = "^[%a_][%w_]*$"

--- The variable that holds a credential, or nil.
local function holder(value)
    for name, content in pairs(env) do
        if name:find(NAME) and headers.holds(value, content) then
            return name
        end
    end
end

--- The variables that hold a user name and the password that belongs to it, or nil.
local function login_holder(value)
    for _, names in ipairs(LOGINS) do
        local user, password = env[names[1]], env[names[2]]
        if user and password and headers.holds(value, base64.encode(user .. ":" .. password)) then
            return names
        end
    end
end

local function prefix_of(exchange)
    local parts = exchange.target and target.parse(exchange.target)
    local name = parts and parts.name
    if not name then
        return nil
    end
    return PREFIXES[name] or name:upper():gsub("[^%w]", "_")
end

local function with_prefix(prefix, word)
    return prefix and prefix .. "_" .. word or word
end

--- A name that the shell does not know with another value already.
local function unused(name)
    while env[name] do
        name = "MOONFLOW_" .. name
    end
    return name
end

--- A name for what no variable holds.
local function new_name(exchange, header, scheme)
    local prefix = prefix_of(exchange)
    local source = exchange.credential and exchange.credential.source or ""
    local lower = header:lower()
    if scheme == "Bearer" and (source:find("Entra ID", 1, true) or source:find("^the managed identity")
        or source:find("^az ")) and prefix == "OPENAI" then
        return unused "AZURE_OPENAI_AD_TOKEN"
    elseif scheme == "Bearer" then
        return unused(with_prefix(prefix, KEYS[prefix] and "API_KEY" or "TOKEN"))
    elseif lower == "api-key" or lower == "x-api-key" then
        return unused(with_prefix(prefix == "OPENAI" and "AZURE_OPENAI" or prefix, "API_KEY"))
    end
    return unused(with_prefix(prefix, (header:upper():gsub("[^%w]", "_"))))
end

--- What a person has to put where the shell does not have it.
local function explain(name, source)
    if os.getenv(name) and os.getenv(name) == env[name] then
        return nil
    elseif env[name] then
        return ("%s is set by the script: export it before you run the command"):format(name)
    end
    return ("%s stands for the credential from %s: export it before you run the command"):format(name,
        text.one_line(source or "the request's own headers", 512))
end

--- What stands for a credential in a header.
---@param exchange table
---@param header string its name
---@param value string|userdata
---@return table scheme, and `name` of the one variable or `login`, two for user name and password
---@return string[] comments what to put into those that the shell does not have
function variables.of(exchange, header, value)
    local scheme = headers.scheme(value)
    local source = exchange.credential and exchange.credential.headers[header] and exchange.credential.source
    local name = holder(value)
    local login = not name and scheme == "Basic" and header:lower() == "authorization"
    if login then
        local prefix = prefix_of(exchange)
        login = login_holder(value)
            or { unused(with_prefix(prefix, "USERNAME")), unused(with_prefix(prefix, "PASSWORD")) }
    else
        name = name or new_name(exchange, header, scheme)
    end
    local comments = {}
    for _, used in ipairs(login or { name }) do
        comments[#comments + 1] = explain(used, source)
    end
    return { scheme = scheme, name = name, login = login or nil }, comments
end

return variables
