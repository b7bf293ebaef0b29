--- Where an OpenAI target is, and who asks it: base URL, Azure's forms of URLs, and credentials, out of
-- the target, the client's options and the environment. What requests say is src/backend/openai.c's.
--
-- The base URL, first found: the target's own (`openai:https://host/v1`), OPENAI_API_BASE (MLflow's),
-- OPENAI_BASE_URL (OpenAI's), and AZURE_OPENAI_ENDPOINT, which for Azure comes before OPENAI_BASE_URL.
-- The credential, first found: the option api_key or token; for Azure AZURE_OPENAI_AD_TOKEN,
-- AZURE_OPENAI_API_KEY, OPENAI_API_KEY, Entra ID (with api type azure_ad no key, only the token and
-- Entra ID); else OPENAI_API_KEY.
local auth = require "moonflow.auth"
local check = require "moonflow.check"
local client = require "moonflow.client"
local config = require "moonflow.config"
local credentials = require "moonflow.credentials"
local env = require "moonflow.env"
local error = require "moonflow.error"
local settings = require "moonflow.settings"
local target = require "moonflow.target"
local url = require "moonflow.url"

local openai = {}

local DEFAULT_BASE = "https://api.openai.com/v1"
local ENTRA_RESOURCE = "https://cognitiveservices.azure.com"

local API_TYPES = { openai = "openai", azure = "azure", azure_ad = "azure_ad", azuread = "azure_ad" }

--- Options of an OpenAI client besides the usual ones.
---@type moonflow.Param[]
openai.options = {
    { name = "api_key", type = "secret", doc = "key: a bearer token for OpenAI, the header api-key for Azure" },
    { name = "api_type", type = "string", doc = "openai, azure or azure_ad; else OPENAI_API_TYPE, else by the URL" },
    { name = "api_version", type = "string", doc = "Azure's api-version; else OPENAI_API_VERSION, else the v1 API" },
    { name = "deployment", type = "string", doc = "Azure's deployment; else OPENAI_DEPLOYMENT_NAME" },
    { name = "organization", type = "string", doc = "header OpenAI-Organization" },
    { name = "project", type = "string", doc = "header OpenAI-Project" },
}

local TASK = {
    name = "task",
    type = "string",
    doc = "llm/v1/chat, llm/v1/completions, llm/v1/embeddings or llm/v1/responses; else the inputs tell",
}

--- predict and predict_stream, which take a task as well.
---@type moonflow.Signature[]
openai.signatures = {}
for _, signature in ipairs(client.signatures) do
    if signature.name == "predict" or signature.name == "predict_stream" then
        local params = table.move(signature.params, 1, 3, 1, {}) -- without the options of a call
        params[4] = TASK
        openai.signatures[#openai.signatures + 1] = { name = signature.name, params = params, doc = signature.doc }
    end
end

local function misconfigured(message, hint)
    error.raise { kind = "config", message = message, hint = hint }
end

--- The URL that a target names, or nil. MLflow ignores a suffix such as `openai:/x`, and so does this.
local function target_url(uri)
    local rest = assert(target.parse(uri)).rest or ""
    if rest == "" or rest:find("^/") and not uri:find("^%s*%a+://") then
        return nil
    elseif not rest:lower():find("^https?://") then
        local address = rest:gsub("^%a+://", "")
        local pair, host = address:match("^([^/?#]*)@(.*)$")
        if pair then
            auth.secret(pair) -- a user name and a password: so that no message shows them
        end
        misconfigured(("%s names no base URL\nwhat follows \"openai:\" is a URL that begins with http:// or https://")
            :format(check.show(uri)), "openai:http://" .. (host or address))
    end
    return rest
end

--- Checks a new client's target and options.
---@param self table
function openai.init(self)
    local base = target_url(self.target_uri)
    if base then
        local parts, err = url.parse(base)
        if not parts then
            err.kind = "config"
            error.raise(err)
        elseif parts.query then
            misconfigured("a base URL has no query", "the option api_version says which version of Azure's API")
        end
    end
    local options = self.config
    if options.api_key and (options.token or options.username) then
        error.raise { kind = "usage", message = "give one of the options api_key, token, and username with password" }
    elseif options.api_type and not API_TYPES[options.api_type:lower()] then
        error.raise {
            kind = "usage",
            message = ("option \"api_type\" must be openai, azure or azure_ad, got %s"):format(
                check.show(options.api_type)),
        }
    end
end

--- What the options or the environment say that the API is, or nil.
local function api_type_of(options)
    local given = options.api_type or config.get("OPENAI_API_TYPE")
    local kind = given and API_TYPES[given:lower()]
    if given and not kind then
        misconfigured(("environment variable OPENAI_API_TYPE must be openai, azure or azure_ad, got %s"):format(
            check.show(given)), "unset it for OpenAI and servers like it")
    end
    return kind
end

--- The base URL, where it comes from, and whether it is an Azure resource's endpoint, which has its
-- API below /openai.
local function find_base(uri, kind)
    local own = target_url(uri)
    if own then
        return own, "the target", false
    end
    local names = { "OPENAI_API_BASE", "OPENAI_BASE_URL" }
    -- without a word on Azure, a key of OpenAI's speaks against an endpoint that merely is set
    if kind ~= "openai" and (kind or not config.get("OPENAI_API_KEY")) then
        table.insert(names, 2, "AZURE_OPENAI_ENDPOINT")
    end
    for _, name in ipairs(names) do
        local value = config.get(name)
        if value then
            return value, name, name ~= "OPENAI_BASE_URL"
        end
    end
    if kind and kind ~= "openai" then
        misconfigured("no endpoint of Azure\nneither the target nor OPENAI_API_BASE, AZURE_OPENAI_ENDPOINT or "
            .. "OPENAI_BASE_URL names one", "export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com")
    end
    return DEFAULT_BASE, "the default", false
end

local AZURE_HOSTS = { "%.openai%.azure%.com$", "%.services%.ai%.azure%.com$", "%.cognitiveservices%.azure%.com$" }

local function is_azure_host(host)
    for _, pattern in ipairs(AZURE_HOSTS) do
        if host:find(pattern) then
            return true
        end
    end
    return false
end

--- Where an Azure resource's routes are (spec/openai.md 1.3): the v1 API, or the older one, whose
-- routes of a deployment stand below its name and all of whose URLs carry the version.
local function place_azure(place, base, options, is_endpoint)
    local version = options.api_version or config.get("OPENAI_API_VERSION")
    local path = base:match("^%a+://[^/]*(.*)$")
    place.model = options.deployment or config.get("OPENAI_DEPLOYMENT_NAME")
    if path:find("/openai/v1$") or not version and path == "" then
        place.base = path == "" and base .. "/openai/v1" or base
        if version == "preview" or version == "latest" then
            place.version = version
        end
        return place
    elseif not version then
        misconfigured(("no api-version for Azure at %s"):format(place.source),
            "set OPENAI_API_VERSION or the option api_version, or let the base URL end in /openai/v1")
    end
    place.version = version
    local before, after = (path .. "/"):match("^(.-)/deployments/(.*)$")
    if before then
        place.base = base:sub(1, #base - #path) .. before
    elseif (path == "" or is_endpoint) and not path:find("/openai$") then
        place.base = base .. "/openai"
    else
        place.base = base
    end
    if after and after ~= "" then
        place.deployment = base
    elseif place.model then
        place.deployment = url.join(place.base, "deployments", place.model) or misconfigured(
            ("%s is no name of a deployment"):format(check.show(place.model)))
    else
        place.deployments = place.base .. "/deployments"
    end
    return place
end

--- Where a client's requests go.
---@class moonflow.OpenAIPlace
---@field base string URL below which the routes are, without a slash at its end
---@field source string what named it
---@field azure boolean
---@field entra boolean only Entra ID will do
---@field version? string Azure's api-version, for every URL
---@field deployment? string URL of Azure's deployment that has the routes of models, where one was named
---@field deployments? string URL below which each model is a deployment, where none was
---@field model? string the deployment's name, for routes whose URL does not name it

---@param self table
---@return moonflow.OpenAIPlace
function openai.find_place(self)
    local options = self.config
    local kind = api_type_of(options)
    local base, source, is_endpoint = find_base(self.target_uri, kind)
    local parts, err = url.parse(base)
    if not parts or (parts.scheme ~= "http" and parts.scheme ~= "https") then
        misconfigured(("%s is no base URL: %s"):format(source, err and err.message or "it must be http:// or https://"),
            "such as " .. DEFAULT_BASE)
    elseif parts.query then
        misconfigured(source .. " is no base URL: it has a query", "set OPENAI_API_VERSION for Azure's api-version")
    end
    base = base:gsub("#.*$", ""):gsub("/+$", "")
    local place = {
        base = base,
        source = source,
        azure = kind == "azure" or kind == "azure_ad"
            or not kind and (source == "AZURE_OPENAI_ENDPOINT" or is_azure_host(parts.host)),
        entra = kind == "azure_ad",
    }
    return place.azure and place_azure(place, base, options, is_endpoint) or place
end

--- The value of the header api-key: a secret, or a text without the white space around it.
local function api_key(given, origin)
    local text = type(given) == "string" and given:match("^%s*(.-)%s*$")
    if text and text:find("%c") then
        error.raise { kind = "auth", message = "the key holds a control byte, such as a line break" }
    end
    return auth.secret(text or given, origin)
end

--- A credential of Entra ID, which is renewed before it expires.
local function find_entra(origin)
    local entra = require "moonflow.entra"
    local secret, source, key = entra.token(ENTRA_RESOURCE)
    local found = credentials.build(auth.bearer, source, "Authorization", secret, origin)
    function found.is_current()
        return entra.token(ENTRA_RESOURCE) == secret
    end
    function found.forget()
        require("moonflow.tokens").forget(key, secret)
    end
    return found
end

local function find_azure(place, options, origin)
    local build = credentials.build
    local token, azure_key = config.get("AZURE_OPENAI_AD_TOKEN"), config.get("AZURE_OPENAI_API_KEY")
    if options.api_key then
        return build(api_key, "the option api_key", "api-key", options.api_key, origin)
    elseif token then
        return build(auth.bearer, "AZURE_OPENAI_AD_TOKEN", "Authorization", token, origin)
    elseif azure_key and not place.entra then
        return build(api_key, "AZURE_OPENAI_API_KEY", "api-key", azure_key, origin)
    elseif config.get("OPENAI_API_KEY") and not place.entra then
        return build(api_key, "OPENAI_API_KEY", "api-key", config.get("OPENAI_API_KEY"), origin)
    elseif url.is_loopback(url.parse(origin).host) and not place.entra then
        return {
            headers = {}, anonymous = true, source = "AZURE_OPENAI_AD_TOKEN, AZURE_OPENAI_API_KEY and OPENAI_API_KEY",
        }
    end
    return find_entra(origin)
end

local function find_key(options, origin)
    if options.api_key then
        return credentials.build(auth.bearer, "the option api_key", "Authorization", options.api_key, origin)
    end
    local key = config.get("OPENAI_API_KEY")
    if key then
        return credentials.build(auth.bearer, "OPENAI_API_KEY", "Authorization", key, origin)
    elseif url.is_loopback(url.parse(origin).host) then
        return { headers = {}, anonymous = true, source = "the options api_key and token, and OPENAI_API_KEY" }
    end
    return error.raise {
        kind = "auth",
        message = ("OPENAI_API_KEY environment variable %s\n%s needs a key; the options api_key and token were not "
            .. "given either"):format(env.OPENAI_API_KEY and "is empty" or "not set", origin),
        hint = "export OPENAI_API_KEY=...\nin a script: require(\"moonflow.env\").OPENAI_API_KEY = \"...\"",
    }
end

local function find_credential(place, options, origin)
    if options.token then
        return credentials.build(auth.bearer, "the option token", "Authorization", options.token, origin)
    elseif options.username then
        return credentials.build(auth.basic, "the options username and password", "Authorization", options.username,
            options.password, origin)
    elseif place.azure then
        return find_azure(place, options, origin)
    end
    return find_key(options, origin)
end

--- The credential of requests to an origin; see `moonflow.credentials`.
---@async
---@param self table
---@param origin string
---@return moonflow.Credential
function openai.credential(self, origin)
    local options, place = self.config, settings.place(self)
    local found = find_credential(place, options, origin)
    if not place.azure then
        found.headers["OpenAI-Organization"] = options.organization or config.get("OPENAI_ORG_ID")
            or config.get("OPENAI_ORGANIZATION")
        found.headers["OpenAI-Project"] = options.project or config.get("OPENAI_PROJECT_ID")
    end
    return found
end

return openai
