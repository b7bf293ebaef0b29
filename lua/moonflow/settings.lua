--- What all requests of a client have in common: retries, TLS, proxies and headers, from its options
-- and the environment. Read at the first request, and again when a script has changed the
-- environment.
local config = require "moonflow.config"
local credentials = require "moonflow.credentials"
local error = require "moonflow.error"
local http = require "moonflow.http"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"
local url = require "moonflow.url"

-- The environment's `changes` is another number whenever a script has changed it.
local environment = getmetatable(require "moonflow.env")

local settings = {}

local BACKOFF_MAX = 120 -- seconds

local USER_AGENT = "moonflow/" .. sys.version

--- One machine to talk to, as scheme, host and port.
---@class moonflow.Origin
---@field text string "http://localhost:5000", for messages
---@field budget_key string the same, in one form
---@field shared table what moonflow._http.profile takes, but for the Content-Type
---@field profile? userdata of requests without a JSON body
---@field json_profile? userdata of requests with one
---@field credential moonflow.Credential

local function read_tls(client, into)
    local tls, err = http.tls_options(client.config.ca_file)
    if not tls then
        error.raise(err)
    end
    for name, value in next, tls do
        into[name] = value
    end
    if tls.insecure_tls then
        notice.once("MLFLOW_TRACKING_INSECURE_TLS is set: servers are not verified")
    end
end

local function read(client)
    local options = client.config
    config.refuse_unsupported()
    local max_retries = options.max_retries or config.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    local backoff = config.get("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR")
    config.check_retries(max_retries, backoff)
    local jitter = config.get("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER")
    local own = {
        changes = environment.changes,
        max_retries = max_retries,
        backoff = { first = backoff, max = BACKOFF_MAX, jitter = math.max(0, math.min(1, jitter)) },
        respect_retry_after = config.get("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER"),
        allow_insecure_http = options.allow_insecure_http,
        origins = {},
        last_origin = nil,
        variables = {}, -- those that were read, by name
    }
    if own.allow_insecure_http == nil then
        own.allow_insecure_http = config.get("MOONFLOW_ALLOW_INSECURE_HTTP")
    end
    read_tls(client, own)
    return own
end

--- The settings of a client as they are now.
---@param client table
---@return table
function settings.of(client)
    local own = client._settings
    if not own or own.changes ~= environment.changes then
        own = read(client)
        client._settings = own
    end
    return own
end

--- Where a client's requests go, for classes that find that out of more than the target: what their
-- `_find_place(client)` returns. Found anew when a script has changed the environment.
---@param client table
---@return table
function settings.place(client)
    if not client._place or client._place_changes ~= environment.changes then
        client._place, client._place_changes = client:_find_place(), environment.changes
    end
    return client._place
end

--- Forgets what was read: the next request reads files again.
---@param client table
function settings.forget(client)
    client._settings, client._place = nil, nil
end

--- Headers with more of them, whatever the letter case of their names; the later ones win.
---@param base table
---@param more? table
---@return table
function settings.merge_headers(base, more)
    local names, merged = {}, {}
    for _, headers in ipairs { base, more } do
        for name, value in next, headers do
            local lower = name:lower()
            if names[lower] then
                merged[names[lower]] = nil
            end
            names[lower] = name
            merged[name] = value
        end
    end
    return merged
end

local function new_origin(client, own, key, deadline)
    local parts, err = url.parse(key)
    if not parts then
        error.raise(err)
    end
    local options = client.config
    local proxy, no_proxy = options.proxy, nil
    if not proxy then
        proxy, no_proxy = http.proxy_for(key)
    end
    local find = client._credential or credentials.find
    local credential = find(client, parts.origin, deadline and deadline - sys.monotonic())
    local headers = { ["User-Agent"] = USER_AGENT, Accept = "application/json" }
    for name, value in next, credential.headers do
        headers[name] = value
    end
    return {
        text = key,
        budget_key = parts.origin,
        credential = credential,
        shared = {
            url = key,
            headers = settings.merge_headers(headers, options.headers),
            proxy = proxy,
            no_proxy = no_proxy,
            ca_file = own.ca_file,
            ca_path = own.ca_path,
            client_cert = own.client_cert,
            insecure_tls = own.insecure_tls,
            http2 = options.http2,
            allow_insecure_http = own.allow_insecure_http,
        },
    }
end

local new_profile -- moonflow._http's, loaded with the first request

--- Makes the profile of requests to an origin. Raises where a credential must not go there.
local function make_profile(origin, is_json, ...)
    local shared = {}
    for name, value in next, origin.shared do
        shared[name] = value
    end
    if is_json then
        shared.headers = settings.merge_headers({ ["Content-Type"] = "application/json" }, shared.headers)
    end
    for _, more in ipairs { ... } do
        shared.headers = settings.merge_headers(shared.headers, more)
    end
    new_profile = new_profile or require("moonflow._http").profile
    local profile, err = new_profile(shared)
    return profile or error.raise(err)
end

--- The transport's profile for a request: one that is kept, unless the request has headers of its own.
---@param origin moonflow.Origin
---@param is_json boolean whether the body is JSON
---@param request_headers? table
---@param call_headers? table
---@return userdata
function settings.profile(origin, is_json, request_headers, call_headers)
    if request_headers or call_headers then
        return make_profile(origin, is_json, request_headers or {}, call_headers)
    end
    local name = is_json and "json_profile" or "profile"
    local profile = origin[name]
    if not profile then
        profile = make_profile(origin, is_json)
        origin[name] = profile
    end
    return profile
end

local SLASH = ("/"):byte()

--- What is known of the origin of a URL. Waits where its credential has to be fetched.
---@async
---@param client table
---@param own table the client's settings
---@param address string
---@param deadline? number on the monotonic clock, for the fetch of a credential
---@return moonflow.Origin
function settings.origin(client, own, address, deadline)
    local last = own.last_origin -- nearly always the same one
    if last and address:find(last.text, 1, true) == 1 and address:byte(#last.text + 1) == SLASH
        and not last.credential.is_current then
        return last
    end
    local key = address:match("^[^/]*//[^/?#]*") or address
    local origin = own.origins[key]
    local is_current = origin and origin.credential.is_current
    if not origin or is_current and not is_current(deadline and deadline - sys.monotonic()) then
        origin = new_origin(client, own, key, deadline)
        own.origins[key] = origin
    end
    own.last_origin = origin
    return origin
end

return settings
