--- Azure's tokens without a secret: the identity of the machine, and the login of the Azure CLI.
local _process = require "moonflow._process"
local env = require "moonflow.env"
local grants = require "moonflow.grants"
local http = require "moonflow.http"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local url = require "moonflow.url"

local azure = {}

local MACHINE = "http://169.254.169.254"

local ANSWER_MAX = 1024 * 1024    -- bytes
local METADATA_TIMEOUT = 10       -- seconds, for all attempts
local MACHINE_CONNECT_TIMEOUT = 1 -- seconds: outside of Azure the address leads nowhere
local MACHINE_WAITS = { 0.2, 0.4, 0.8 } -- seconds between attempts
local CLI_TIMEOUT = 30            -- seconds

local failure = grants.failure

--- Managed identities

--- Whether an address never leads over a network that others are on: Azure's own, beside this machine.
local function is_near(host)
    return url.is_loopback(host) or host:find("^169%.254%.%d+%.%d+$") ~= nil
end

--- The address of a metadata service with its query, or nil and an error.
---@param name string the variable that holds `base`
---@param base string
---@param path string
---@param api_version string
---@param resource string
---@param client_id? string
---@return string?
---@return table? err
function azure.metadata_address(name, base, path, api_version, resource, client_id)
    local parts = url.parse(base)
    if not parts or not (parts.scheme == "https" or parts.scheme == "http" and is_near(parts.host)) then
        return nil, failure("config", "%s must be an https:// URL, or an http:// URL of this machine or a link-local "
            .. "address", name)
    end
    local query = { { "api-version", api_version }, { "resource", resource } }
    if client_id then
        query[#query + 1] = { "client_id", client_id }
    end
    return ("%s%s%s%s"):format(base:gsub("#.*$", ""), path, parts.query and "&" or "?", url.query(query))
end

--- Asks a metadata service, which no proxy can reach.
---@async
---@param address string
---@param headers table
---@param seconds? number
---@param connect_seconds? number
---@return moonflow.HttpResponse?
---@return table? err
function azure.ask_metadata(address, headers, seconds, connect_seconds)
    return http.request {
        url = address,
        headers = headers,
        proxy = "",
        allow_insecure_http = true, -- metadata_address has seen to where it leads
        timeout = seconds or METADATA_TIMEOUT,
        total_timeout = seconds or METADATA_TIMEOUT,
        connect_timeout = connect_seconds,
        max_body = ANSWER_MAX,
    }
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
        local response, err = azure.ask_metadata(address, { Metadata = "true" }, left, MACHINE_CONNECT_TIMEOUT)
        local pause = MACHINE_WAITS[attempt]
        if not response or not is_passing(response.status) or not pause or sys.monotonic() + pause >= deadline then
            return response, err
        end
        task.sleep(pause)
    end
end

--- A token of the machine's identity, or nil and an error.
---@async
---@param resource string what the token is for
---@param client_id? string which of the machine's identities
---@param client_source? string what named it
---@return table? token
---@return table? err
function azure.machine_token(resource, client_id, client_source)
    local name = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
    local given = env[name]
    local base = (given ~= "" and given or MACHINE):match("^(.*[^/])/*$") or ""
    local address, err = azure.metadata_address(name, base, "/metadata/identity/oauth2/token", "2018-02-01", resource,
        client_id)
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
            client_id and (" with the %s that is set"):format(client_source) or "")
    end
    return grants.read_answer(response)
end

--- The Azure CLI

--- The environment as it is for moonflow, for programs that it runs.
---@return table<string, string>
function azure.environment()
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
    return failure("auth", "az %s: %s", how, grants.one_line(words))
end

--- A token of the Azure CLI's login, or nil and an error.
---@async
---@param resource string what the token is for
---@param tenant? string
---@param subscription? string
---@return table? token
---@return table? err
function azure.cli_token(resource, tenant, subscription)
    local command = { "az", "account", "get-access-token", "--output", "json", "--resource", resource }
    if tenant then
        table.move({ "--tenant", tenant }, 1, 2, #command + 1, command)
    end
    if subscription then
        table.move({ "--subscription", subscription }, 1, 2, #command + 1, command)
    end
    local result, err = _process.run(command, { timeout = CLI_TIMEOUT, env = azure.environment() })
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
    local at = grants.to_number(value.expires_on) or from_local_time(value.expiresOn)
    return grants.to_token("az", value.accessToken, at and at - sys.time() or grants.to_number(value.expires_in))
end

return azure
