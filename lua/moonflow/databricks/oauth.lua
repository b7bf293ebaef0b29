--- Databricks' own token endpoint: where it is, and what is asked there.
--
-- Every workspace has it at /oidc/v1/token. That is asked first, so that a login costs one request; a
-- discovery document is read where one is configured, and where nothing is at the usual place.
local auth = require "moonflow.auth"
local config = require "moonflow.databricks.config"
local error = require "moonflow.error"
local grants = require "moonflow.grants"
local hosts = require "moonflow.databricks.hosts"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local token_cache = require "moonflow.token_cache"
local url = require "moonflow.url"
local well_known = require "moonflow.databricks.well_known"

local oauth = {}

local USUAL_TOKEN = "/oidc/v1/token"
local USUAL_DISCOVERY = "/oidc/.well-known/oauth-authorization-server"
local NARROWING = "urn:ietf:params:oauth:grant-type:jwt-bearer"
local DISCOVERY_TIMEOUT = 10 -- seconds
local WAITS = { 0.5, 1, 2 }  -- seconds at the most before each repetition
local WAIT_MAX = 10          -- seconds that a server may ask to wait for
local PASSING = { [429] = true, [502] = true, [503] = true, [504] = true }

---@type table<string, string> token endpoints that discovery found, by where it looked
local discovered = {}

local failure = grants.failure

--- What all requests of a client have in common.
local function with_options(found, request)
    local options = found.options
    request.proxy, request.ca_file = options.proxy, options.ca_file
    request.allow_insecure_http = options.allow_insecure_http
    request.connect_timeout = options.connect_timeout
    return request
end

--- Seconds that Retry-After asks for.
local function wanted(response)
    local value = response and response.headers["retry-after"]
    if not value or #value > 40 then
        return 0
    end
    local date = not tonumber(value) and sys.http_date(value)
    return math.max(0, tonumber(value) or date and date - sys.time() or 0)
end

--- Asks until there is an answer that counts: some of a token server's failures pass.
---@async
---@param ask fun(): moonflow.HttpResponse?, table?
---@return moonflow.HttpResponse?
---@return table? err
function oauth.insist(ask)
    for attempt = 1, math.huge do
        local response, err = ask()
        local passes = response and PASSING[response.status] or err and err.phase == "connect" and err.kind == "network"
        local most = WAITS[attempt]
        local asked = wanted(response)
        if not passes or not most or asked > WAIT_MAX then
            return response, err
        end
        task.sleep(math.max(asked, sys.random() * most))
    end
end

local function read_discovery(found, address)
    local response, err = oauth.insist(function()
        return grants.ask(with_options(found, {
            url = address, headers = { Accept = "application/json" },
            timeout = DISCOVERY_TIMEOUT, total_timeout = DISCOVERY_TIMEOUT,
        }))
    end)
    if not response then
        return nil, err
    elseif response.status == 404 then
        err = failure("auth", "databricks OAuth is not supported for this host: there is nothing at %s", address)
        err.is_absent = true
        return nil, err
    end
    local document
    document, err = grants.read_object(response, "a discovery document")
    if not document then
        return nil, err
    end
    local endpoint = document.token_endpoint
    if type(endpoint) ~= "string" or #endpoint > 2048 then
        return nil, failure("auth", "the discovery document at %s names no token endpoint", address)
    end
    local good, why = hosts.may_know(endpoint, found)
    if not good then
        return nil, failure("auth", "the discovery document at %s names the token endpoint %s, which is not used: %s",
            address, grants.one_line(endpoint), why)
    end
    return endpoint
end

--- The token endpoint that a discovery document names.
local function discover(found, address)
    local known = discovered[address]
    if known then
        return known
    end
    local endpoint, err = read_discovery(found, address)
    discovered[address] = endpoint
    return endpoint, err
end

--- Where the token endpoint is by rule.
local function usual_endpoint(found)
    if hosts.is_account(found) and found.values.account_id then
        return url.join(found.base, "oidc", "accounts", found.values.account_id, "v1", "token")
    end
    return found.base .. USUAL_TOKEN
end

--- The token endpoint as far as it is known without a request to the usual one.
---@async
---@param found moonflow.DatabricksConfig
---@return string?
---@return table? err
function oauth.endpoint(found)
    local configured = found.values.discovery_url
    if configured then
        local parts = url.parse(configured)
        local is_safe = parts and (parts.scheme == "https" or url.is_loopback(parts.host))
        if not is_safe then
            return nil, failure("config", "the discovery_url of %s is no https:// URL", found.sources.discovery_url)
        end
        return discover(found, configured)
    end
    -- a host of several workspaces, whose account is named, has its tokens in the account
    local named = found.values.account_id and not hosts.is_account(found) and well_known.discovery(found)
    if named then
        return discover(found, named)
    end
    return discovered[found.base .. USUAL_DISCOVERY] or usual_endpoint(found)
end

--- The token endpoint where it is not at its usual place: what the usual discovery document names,
--- else that which the host itself names.
local function search(found)
    local usual = found.base .. USUAL_DISCOVERY
    local endpoint, err = discover(found, usual)
    if endpoint or not err.is_absent then
        return endpoint, err
    end
    local named = well_known.discovery(found)
    if not named or named == usual then
        return nil, err
    end
    endpoint, err = discover(found, named)
    discovered[usual] = endpoint -- so that it is not searched again
    return endpoint, err
end

--- Whether an answer shows that there is no token endpoint at that place.
local function is_elsewhere(response)
    local kind = response.headers["content-type"] or ""
    return response.status == 404 or response.status == 405 or response.status >= 300 and response.status < 400
        or response.status == 200 and kind:find("^text/html") ~= nil
end

--- Asks the token endpoint for a token, and once more elsewhere where it is not at its usual place.
---@async
---@param found moonflow.DatabricksConfig
---@param form fun(endpoint: string): table?, table? the pairs to send there, or nil and an error
---@param headers? fun(endpoint: string): table
---@return table? token as `moonflow.tokens` takes it
---@return table? err
function oauth.ask(found, form, headers)
    local function post(endpoint)
        local pairs_, err = form(endpoint)
        if not pairs_ then
            return nil, err
        end
        return oauth.insist(function()
            return grants.post(endpoint, pairs_, with_options(found, { headers = headers and headers(endpoint) }))
        end)
    end
    local endpoint, err = oauth.endpoint(found)
    if not endpoint then
        return nil, err
    end
    local parts = url.parse(endpoint)
    if parts.scheme ~= "https" and not url.is_loopback(parts.host) and not found.options.allow_insecure_http then
        return nil, failure("config", "no secret is sent to %s, as it is not https", parts.origin)
    end
    local response
    response, err = post(endpoint)
    if response and is_elsewhere(response) and not found.values.discovery_url then
        local other
        other, err = search(found)
        if not other then
            return nil, err
        elseif other ~= endpoint then
            response, err = post(other)
        end
    end
    if not response then
        return nil, err
    end
    return grants.read_answer(response)
end

--- Asks for an application's token.
local function ask_for_machine(found, scopes, details)
    local values = found.values
    return oauth.ask(found, function()
        local form = { { "grant_type", "client_credentials" }, { "scope", scopes } }
        form[3] = details and { "authorization_details", details }
        return form
    end, function(endpoint)
        local ok, value = pcall(auth.basic, values.client_id, values.client_secret, url.parse(endpoint).origin)
        return { Authorization = ok and value or error.raise(value) }
    end)
end

--- An application's token: machine to machine. It outlives the program.
---@async
---@param found moonflow.DatabricksConfig
---@param details? string authorization_details, JSON
---@return table? token
---@return table? err
function oauth.machine(found, details)
    local values, scopes = found.values, config.scopes(found)
    local whose = {
        "oauth-m2m", found.origin, values.account_id or "", values.discovery_url or "", values.client_id, scopes,
        details or "",
    }
    return token_cache.get(whose, values.client_secret, function()
        return ask_for_machine(found, scopes, details)
    end)
end

--- A token for less than another one is for, in exchange for that one.
---@async
---@param found moonflow.DatabricksConfig
---@param details string authorization_details, JSON
---@param assertion userdata the token that there is
---@return table? token
---@return table? err
function oauth.narrow(found, details, assertion)
    return oauth.ask(found, function()
        return {
            { "grant_type", NARROWING }, { "authorization_details", details }, { "assertion", assertion },
        }
    end)
end

return oauth
