--- Tokens of Microsoft Entra ID for Azure OpenAI. The ways to get one are tried in Azure's usual
-- order: an application's secret, a federated token, a managed identity, the Azure CLI. One whose
-- variables are all set is used and no other; the last two need none, so that where they have
-- nothing to give is only a reason.
local _process = require "moonflow._process"
local auth = require "moonflow.auth"
local env = require "moonflow.env"
local error = require "moonflow.error"
local http = require "moonflow.http"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"
local tokens = require "moonflow.tokens"
local url = require "moonflow.url"

local entra = {}

local AUTHORITY = "https://login.microsoftonline.com"
local MACHINE = "http://169.254.169.254"
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

local WORDS_MAX = 400             -- bytes of somebody's words in a message
local ANSWER_MAX = 1024 * 1024    -- bytes
local FILE_MAX = 16 * 1024        -- bytes of a federated token
local LIFETIME_MAX = 31 * 86400   -- seconds: what is beyond is no time in seconds
local AUTHORITY_TIMEOUT = 30      -- seconds
local METADATA_TIMEOUT = 10       -- seconds, for all attempts
local MACHINE_CONNECT_TIMEOUT = 1 -- seconds: outside of Azure the address leads nowhere
local MACHINE_WAITS = { 0.2, 0.4, 0.8 } -- seconds between attempts
local CLI_TIMEOUT = 30            -- seconds

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

local function failure(kind, message, ...)
    return error.new { kind = kind, message = message:format(...) }
end

local function one_line(words)
    return text.one_line(words, WORDS_MAX)
end

--- Answers of all token endpoints

--- A number as it is, or as the text that managed identities send.
local function to_number(value)
    if type(value) == "string" and value:find("^%d+$") and #value <= 15 then
        return tonumber(value)
    end
    return type(value) == "number" and value or nil
end

--- The token in an answer, or nil and an error.
local function to_token(who, token, lifetime)
    if type(token) ~= "string" or token == "" or token:find("[^!-~]") then
        return nil, failure("auth", "%s gave no token that can be used", who)
    elseif not lifetime then
        return nil, failure("auth", "%s gave a token and did not say when it expires", who)
    elseif not (lifetime > 0 and lifetime <= LIFETIME_MAX) then
        return nil, failure("auth", "%s gave a token that expires in %.10g s, which is not believed", who, lifetime)
    end
    return { secret = auth.secret(token), expires_in = lifetime }
end

--- What a refusal says: OAuth's two fields, or the message of App Service.
local function words_of(value)
    local words = {}
    for _, name in ipairs { "error", "error_description", "message" } do
        if type(value[name]) == "string" and value[name] ~= "" then
            words[#words + 1] = value[name]
        end
    end
    return words[1] and one_line(table.concat(words, ": "))
end

--- The token in an HTTP answer, or nil and an error with the server's words.
local function read_answer(response)
    local who = url.parse(response.url).origin
    local value = json.decode(response.body)
    local is_object = type(value) == "table"
    if response.status ~= 200 then
        local words = is_object and words_of(value)
        return nil, failure("auth", "%s answered %d%s", who, response.status, words and ": " .. words or "")
    elseif not is_object then
        local what = response.headers["content-type"] or "something else"
        return nil, failure("auth", "%s answered 200 with %s, not with a token in JSON", who, one_line(what))
    end
    local lifetime, at = to_number(value.expires_in), to_number(value.expires_on)
    return to_token(who, value.access_token, lifetime or at and at - sys.time())
end

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
    response, err = http.request {
        method = "POST",
        url = address,
        headers = { ["Content-Type"] = "application/x-www-form-urlencoded", Accept = "application/json" },
        body = url.query(form),
        insecure_tls = false, -- MLFLOW_TRACKING_INSECURE_TLS is not about who is given a secret
        timeout = AUTHORITY_TIMEOUT,
        total_timeout = AUTHORITY_TIMEOUT,
        max_body = ANSWER_MAX,
    }
    if not response then
        return nil, err
    end
    return read_answer(response)
end

local function by_client_secret(values, resource)
    return ask_authority(values, resource, { { "client_secret", values.AZURE_CLIENT_SECRET } })
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

--- Whether an address never leads over a network that others are on: Azure's own, beside this machine.
local function is_near(host)
    return url.is_loopback(host) or host:find("^169%.254%.%d+%.%d+$") ~= nil
end

--- The address of a metadata service with its query, or nil and an error.
local function metadata_address(name, base, path, api_version, values, resource)
    local parts = url.parse(base)
    if not parts or not (parts.scheme == "https" or parts.scheme == "http" and is_near(parts.host)) then
        return nil, failure("config", "%s must be an https:// URL, or an http:// URL of this machine or a link-local "
            .. "address", name)
    end
    local query = { { "api-version", api_version }, { "resource", resource } }
    if values.AZURE_CLIENT_ID then
        query[#query + 1] = { "client_id", values.AZURE_CLIENT_ID }
    end
    return ("%s%s%s%s"):format(base:gsub("#.*$", ""), path, parts.query and "&" or "?", url.query(query))
end

--- Asks a metadata service, which no proxy can reach.
local function ask_metadata(address, headers, seconds, connect_seconds)
    return http.request {
        url = address,
        headers = headers,
        proxy = "",
        allow_insecure_http = true, -- metadata_address has seen to where it leads
        timeout = seconds,
        total_timeout = seconds,
        connect_timeout = connect_seconds,
        max_body = ANSWER_MAX,
    }
end

local function by_app_service(values, resource)
    local address, err = metadata_address("IDENTITY_ENDPOINT", values.IDENTITY_ENDPOINT, "", "2019-08-01", values,
        resource)
    if not address then
        return nil, err
    end
    local headers = { ["X-IDENTITY-HEADER"] = auth.secret(values.IDENTITY_HEADER) }
    local response
    response, err = ask_metadata(address, headers, METADATA_TIMEOUT)
    if not response then
        return nil, err
    end
    return read_answer(response)
end

local function is_passing(status)
    return status == 404 or status == 410 or status == 429 or status >= 500
end

--- The answer of the machine's metadata service, which for some time after the start of the machine
--- has none.
local function ask_machine(address)
    local deadline = sys.monotonic() + METADATA_TIMEOUT
    for attempt = 1, math.huge do
        local left = math.max(0.001, deadline - sys.monotonic())
        local response, err = ask_metadata(address, { Metadata = "true" }, left, MACHINE_CONNECT_TIMEOUT)
        local pause = MACHINE_WAITS[attempt]
        if not response or not is_passing(response.status) or not pause or sys.monotonic() + pause >= deadline then
            return response, err
        end
        task.sleep(pause)
    end
end

local function by_machine(values, resource)
    local base = (values.AZURE_POD_IDENTITY_AUTHORITY_HOST or MACHINE):match("^(.*[^/])/*$") or ""
    local address, err = metadata_address("AZURE_POD_IDENTITY_AUTHORITY_HOST", base, "/metadata/identity/oauth2/token",
        "2018-02-01", values, resource)
    if not address then
        return nil, err
    end
    local response
    response, err = ask_machine(address)
    if not response then
        return nil, err
    end
    local value = response.status == 400 and json.decode(response.body)
    if type(value) == "table" and value.error_description == "Identity not found" then
        return nil, failure("auth", "this machine has no identity%s",
            values.AZURE_CLIENT_ID and " with the AZURE_CLIENT_ID that is set" or "")
    end
    return read_answer(response)
end

--- The Azure CLI

local function environment()
    local copy = {}
    for name, value in pairs(env) do
        copy[name] = value
    end
    return copy
end

--- Seconds since 1970 of the local time that versions before 2.54 print, and no other.
local function from_local_time(value)
    local year, month, day, hour, min, sec = tostring(value):match("^(%d%d%d%d)-(%d%d)-(%d%d) (%d%d):(%d%d):(%d%d)")
    return year and os.time { year = year, month = month, day = day, hour = hour, min = min, sec = sec }
end

--- Why the CLI gave nothing: of all that it prints to stderr, the error.
local function cli_failure(result)
    local words = result.stderr
    if words:find("az login", 1, true) or words:find("az account set", 1, true) then
        return failure("auth", "az is not logged in (az login)")
    end
    words = words:match("ERROR:%s*([^\n]+)") or words:match("%S[^\n]*") or "it printed no reason"
    local how = result.signal and "was ended by signal " .. result.signal or "ended with code " .. result.code
    return failure("auth", "az %s: %s", how, one_line(words))
end

local function by_cli(values, resource)
    local command = { "az", "account", "get-access-token", "--output", "json", "--resource", resource }
    if values.AZURE_TENANT_ID then
        table.move({ "--tenant", values.AZURE_TENANT_ID }, 1, 2, #command + 1, command)
    end
    local result, err = _process.run(command, { timeout = CLI_TIMEOUT, env = environment() })
    if not result and err.error_code == "RESOURCE_DOES_NOT_EXIST" then
        return nil, failure("auth", "az is not installed")
    elseif not result then
        return nil, err
    elseif result.code ~= 0 then
        return nil, cli_failure(result)
    end
    local value = json.decode(result.stdout)
    if type(value) ~= "table" then
        return nil, failure("auth", "az printed something else than a token in JSON")
    end
    local at = to_number(value.expires_on) or from_local_time(value.expiresOn)
    return to_token("az", value.accessToken, at and at - sys.time() or to_number(value.expires_in))
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
