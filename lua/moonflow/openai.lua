--- Where an OpenAI target is, and who asks it: base URL, Azure's forms of URLs, and credentials, out of
-- the target, the client's options and the environment. What requests say is src/backend/openai.c's.
--
-- The base URL, first found: the target's own (`openai:https://host/v1`), OPENAI_API_BASE (MLflow's),
-- OPENAI_BASE_URL (OpenAI's), and AZURE_OPENAI_ENDPOINT, which for Azure comes before OPENAI_BASE_URL.
-- Whether that is Azure: the option api_type; OPENAI_API_TYPE, where the target names no URL; the host.
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
local notice = require "moonflow.notice"
local settings = require "moonflow.settings"
local target = require "moonflow.target"
local text = require "moonflow.text"
local url = require "moonflow.url"

local openai = {}

local DEFAULT_BASE = "https://api.openai.com/v1"

local API_TYPES = { openai = "openai", azure = "azure", azure_ad = "azure_ad", azuread = "azure_ad" }

--- Options of an OpenAI client besides the usual ones.
---@type moonflow.Param[]
openai.options = {
    { name = "api_key", type = "secret", doc = "key: a bearer token for OpenAI, the header api-key for Azure" },
    { name = "api_type", type = "string", doc = "openai, azure or azure_ad; else OPENAI_API_TYPE, or by the URL" },
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

--- Raises for a target that names no URL. User names, passwords, and what may be a key, are not repeated.
local function refuse_target(rest)
    local address = auth.redact(rest):gsub("^%a[%w+.-]*://", ""):gsub("^.*@", "")
    local is_address = address:find("[.:/]")
    local shown = is_address and "openai:" .. address or "openai"
    error.raise {
        kind = "config",
        target = shown,
        message = ("%s names no base URL\nwhat follows \"openai:\" is a URL that begins with http:// or https://")
            :format(is_address and check.show(shown) or "the target"),
        hint = "openai:http://" .. (is_address and url.parse("http://" .. address) and address or "HOST:PORT/v1"),
    }
end

--- The URL that a target names, or nil. MLflow ignores a suffix such as `openai:/x`, and so does this.
local function target_url(uri)
    local rest = text.trim(assert(target.parse(uri)).rest or "")
    if rest == "" or rest:find("^/") and not uri:find("^%s*%a+://") then
        return nil
    elseif not rest:lower():find("^https?://") then
        refuse_target(rest)
    end
    return rest
end

--- Lets no message show the keys of the environment, wherever they were put by mistake.
local function hide_keys()
    for _, name in ipairs { "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN" } do
        auth.secret(text.trim(env[name] or ""))
    end
end

--- A type of API for messages: a word; what may be a key is not shown.
local function shown_type(given)
    return given:find("^[%a_]+$") and check.show(given) or "something else"
end

--- Checks a new client's target and options.
---@param self table
function openai.init(self)
    hide_keys()
    local base = target_url(self.target_uri)
    if base then
        local parts, err = url.parse(base)
        if not parts then
            err.kind = "config"
            err.target = "openai:" .. auth.redact(base):gsub("//.*@", "//")
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
                shown_type(options.api_type)),
        }
    end
end

--- What the options or, for a target that names no URL, the environment say that the API is, or nil.
local function api_type_of(options, own)
    local given = options.api_type or not own and config.get("OPENAI_API_TYPE")
    local kind = given and API_TYPES[given:lower()]
    if given and not kind then
        misconfigured(("environment variable OPENAI_API_TYPE must be openai, azure or azure_ad, got %s"):format(
            shown_type(given)), "unset it for OpenAI and servers like it")
    end
    return kind
end

--- The base URL that the environment names or that is the default, where it comes from, and whether it
-- is an Azure resource's endpoint, which has its API below /openai.
local function find_base(kind)
    local names = { "OPENAI_API_BASE", "OPENAI_BASE_URL" }
    -- without a word on Azure, a key of OpenAI's speaks against an endpoint that merely is set
    local is_openai = kind == "openai" or not kind and config.get("OPENAI_API_KEY")
    if not is_openai then
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
    elseif not kind and config.get("AZURE_OPENAI_ENDPOINT") then
        notice.once("AZURE_OPENAI_ENDPOINT is not used, because OPENAI_API_KEY is set: requests go to OpenAI; "
            .. "OPENAI_API_TYPE=azure sends them to Azure")
    end
    return DEFAULT_BASE, "the default", false
end

local AZURE_HOSTS = { "%.openai%.azure%.com$", "%.services%.ai%.azure%.com$", "%.cognitiveservices%.azure%.com$" }

--- The domain of Azure that a host is in: "com", or that of a sovereign cloud.
local function azure_domain(host)
    return host:match("%.azure%.(us)$") or host:match("%.azure%.(cn)$") or "com"
end

local function is_azure_host(host)
    for _, pattern in ipairs(AZURE_HOSTS) do
        if host:find(pattern) then
            return true
        end
    end
    return azure_domain(host) ~= "com"
end

--- The version that Azure's URLs carry, or nil.
local function api_version_of(options)
    local version = options.api_version or config.get("OPENAI_API_VERSION")
    if version and (#version > 64 or not version:find("^[%w._-]+$")) then
        misconfigured((options.api_version and "the option api_version" or "OPENAI_API_VERSION")
            .. " is no version of Azure's API\nit has at most 64 letters, digits, \".\", \"_\" and \"-\"",
            "such as 2024-10-21")
    end
    return version
end

--- Where an Azure resource's routes are (spec/openai.md 1.3): the v1 API, or the older one, whose
-- routes of a deployment stand below its name and all of whose URLs carry the version.
local function place_azure(place, base, options, is_endpoint)
    local version = api_version_of(options)
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
---@field origin string the only one that the credential is for
---@field source string what named it
---@field azure boolean
---@field entra boolean only Entra ID will do
---@field resource string what Entra ID's token is for
---@field version? string Azure's api-version, for every URL
---@field deployment? string URL of Azure's deployment that has the routes of models, where one was named
---@field deployments? string URL below which each model is a deployment, where none was
---@field model? string the deployment's name, for routes whose URL does not name it

---@param self table
---@return moonflow.OpenAIPlace
function openai.find_place(self)
    hide_keys()
    local options, own = self.config, target_url(self.target_uri)
    local kind = api_type_of(options, own)
    local base, source, is_endpoint = own, "the target", false
    if not own then
        base, source, is_endpoint = find_base(kind)
    end
    local parts, err = url.parse(base)
    if not parts or (parts.scheme ~= "http" and parts.scheme ~= "https") then
        misconfigured(("%s is no base URL: %s"):format(source, err and err.message or "it must be http:// or https://"),
            "such as " .. DEFAULT_BASE)
    elseif parts.query then
        misconfigured(source .. " is no base URL: it has a query", "set OPENAI_API_VERSION for Azure's api-version")
    end
    base = base:gsub("#.*$", ""):match("^(.*[^/])/*$")
    local place = {
        base = base,
        origin = parts.origin,
        source = source,
        azure = kind == "azure" or kind == "azure_ad"
            or not kind and (source == "AZURE_OPENAI_ENDPOINT" or is_azure_host(parts.host)),
        entra = kind == "azure_ad",
        resource = "https://cognitiveservices.azure." .. azure_domain(parts.host),
    }
    return place.azure and place_azure(place, base, options, is_endpoint) or place
end

--- The value of the header api-key: a secret, or a text without the white space around it.
local function api_key(given, origin)
    local key = type(given) == "string" and text.trim(given)
    if key and key:find("%c") then
        error.raise { kind = "auth", message = "the key holds a control byte, such as a line break" }
    end
    return auth.secret(key or given, origin)
end

--- A credential of Entra ID, which is renewed before it expires.
local function find_entra(place, seconds)
    local entra = require "moonflow.entra"
    local secret, source, key = entra.token(place.resource, seconds)
    local found = credentials.build(auth.bearer, source, "Authorization", secret, place.origin)
    function found.is_current(left)
        return entra.token(place.resource, left) == secret
    end
    function found.forget()
        require("moonflow.tokens").forget(key, secret)
    end
    return found
end

local function find_azure(place, options, seconds)
    local build, origin = credentials.build, place.origin
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
    return find_entra(place, seconds)
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
            .. "given either"):format(env.OPENAI_API_KEY and "is empty" or "not set", (origin:gsub(":443$", ""))),
        hint = "export OPENAI_API_KEY=...\nin a script: require(\"moonflow.env\").OPENAI_API_KEY = \"...\"",
    }
end

local function find_credential(place, options, seconds)
    local origin = place.origin
    if options.token then
        return credentials.build(auth.bearer, "the option token", "Authorization", options.token, origin)
    elseif options.username then
        return credentials.build(auth.basic, "the options username and password", "Authorization", options.username,
            options.password, origin)
    elseif place.azure then
        return find_azure(place, options, seconds)
    end
    return find_key(options, origin)
end

--- The value of a header, out of the first source that has one.
local function header_of(option, value, ...)
    local source = "the option " .. option
    for _, name in ipairs { ... } do
        if not value then
            source, value = name, config.get(name)
        end
    end
    if value and value:find("%c") then
        misconfigured(source .. " holds a control byte, such as a line break")
    end
    return value
end

--- The credential of requests; see `moonflow.credentials`. It is for the origin of the client's place,
-- so that the transport sends it to no other.
---@async
---@param self table
---@param _ string the origin that is asked
---@param seconds? number how long a token may be waited for
---@return moonflow.Credential
function openai.credential(self, _, seconds)
    local options, place = self.config, settings.place(self)
    local found = find_credential(place, options, seconds)
    if not place.azure then
        found.headers["OpenAI-Organization"] =
            header_of("organization", options.organization, "OPENAI_ORG_ID", "OPENAI_ORGANIZATION")
        found.headers["OpenAI-Project"] = header_of("project", options.project, "OPENAI_PROJECT_ID")
    end
    return found
end

return openai
