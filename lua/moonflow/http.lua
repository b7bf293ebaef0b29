--- Plain HTTP for scripts and plugins: one request, one answer, whatever its status. No retries, no
-- redirects and no credential but what the headers hold. Proxies and CAs come from the environment
-- where the request does not name them.
local check = require "moonflow.check"
local config = require "moonflow.config"
local env = require "moonflow.env"
local error = require "moonflow.error"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local url = require "moonflow.url"

local http = {}

--- Who watches the requests, these and those of clients; nil unless somebody does. It gets what an
-- exchange is (see moonflow.wire), the function that sends it, and that function's arguments, and
-- returns what the function returns.
---@type fun(exchange: table, perform: function, ...): table?, table?
http.watch = nil

---@class moonflow.HttpRequest
---@field method? string default GET, or POST where there is a body
---@field url string
---@field headers? table<string, string|userdata|table> strings, secrets, or lists of those
---@field body? string
---@field json? any the body, encoded as JSON
---@field timeout? number seconds to wait for the first byte, and between two pieces of the body
---@field connect_timeout? number
---@field total_timeout? number

---@class moonflow.HttpResponse
---@field status integer
---@field reason string
---@field headers table<string, string> names in lower case
---@field body string
---@field url string
---@field timings table seconds since the start: connect, first_byte, total
---@field reused boolean went over a connection that was open already

--- What a request may say; those that are true are settings of moonflow._http.profile.
local FIELDS = {
    method = false, url = true, headers = true, body = false, json = false, timeout = false,
    connect_timeout = false, total_timeout = false, max_body = true, proxy = true, no_proxy = true,
    ca_file = true, ca_path = true, client_cert = true, client_key = true, insecure_tls = true,
    http2 = true, allow_insecure_http = true,
}

---@type moonflow.Param[]
local TIMES = check.index {
    { name = "timeout", type = "seconds", doc = "to wait for the first byte, and between two pieces of the body" },
    { name = "connect_timeout", type = "seconds", doc = "to connect" },
    { name = "total_timeout", type = "seconds", doc = "for all of it" },
}

local CA_VARIABLES = { "MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE" }

--- The proxy for a URL, and the hosts that need none, as Python's clients read them from the
--- environment: HTTP_PROXY counts unless REQUEST_METHOD is set, since a CGI program finds a header of
--- its own client in it. This machine is never asked through a proxy.
---@param address string
---@return string? proxy
---@return string? no_proxy
function http.proxy_for(address)
    local parts = url.parse(address)
    if not parts or url.is_loopback(parts.host) then
        return nil
    end
    local proxy = env[parts.scheme .. "_proxy"]
    if not proxy and not (parts.scheme == "http" and env.REQUEST_METHOD) then
        proxy = env[parts.scheme:upper() .. "_PROXY"]
    end
    proxy = proxy or env.all_proxy or env.ALL_PROXY
    if not proxy or proxy == "" then
        return nil
    end
    return proxy, env.no_proxy or env.NO_PROXY
end

local function find_ca(ca_file)
    if ca_file then
        return ca_file, "ca_file"
    end
    for _, name in ipairs(CA_VARIABLES) do
        if env[name] and env[name] ~= "" then
            return env[name], name
        end
    end
end

--- Whether a certificate file or directory can be read.
local function is_readable(path, status)
    if status and status.type == "directory" then
        return sys.list_dir(path) ~= nil
    end
    local file = io.open(path, "rb")
    if file then
        file:close()
    end
    return file ~= nil
end

local function read_tls(ca_file)
    local insecure = not ca_file and config.get("MLFLOW_TRACKING_INSECURE_TLS")
    if insecure and config.get("MLFLOW_TRACKING_SERVER_CERT_PATH") then
        error.raise {
            kind = "config",
            message = "When 'ignore_tls_verification' is true then 'server_cert_path' must not be set!\n"
                .. "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH contradict each other",
            hint = "unset one of them",
        }
    end
    local options = {
        insecure_tls = insecure or nil,
        client_cert = config.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    }
    local path, source = find_ca(ca_file)
    if insecure or not path then
        return options
    end
    local status = sys.stat(path)
    if not is_readable(path, status) then
        error.raise {
            kind = "config",
            message = ("the CA certificates %s can not be read\nnamed by %s"):format(check.show(path), source),
        }
    end
    options[status and status.type == "directory" and "ca_path" or "ca_file"] = path
    return options
end

--- How servers are verified, and the client's own certificate: from `ca_file` (a file or directory)
--- or MLflow's, requests' and curl's variables. A CA that can not be read is an error, never a
--- reason to use the system's.
---@param ca_file? string
---@return table? options ca_file or ca_path, client_cert, insecure_tls: as a request has them
---@return table? err
function http.tls_options(ca_file)
    local ok, result = pcall(read_tls, ca_file)
    if not ok then
        return nil, result
    end
    return result
end

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

local function check_request(request)
    if type(request) ~= "table" then
        misuse("http.request takes a table, got " .. check.show(request))
    end
    for name in next, request do
        if FIELDS[name] == nil then
            misuse(check.show(name) .. " is not a field of a request", check.hint(name, check.sorted_keys(FIELDS)))
        end
    end
    if type(request.url) ~= "string" then
        misuse("a request needs a url")
    elseif request.json ~= nil and request.body ~= nil then
        misuse("a request has a body or json, not both")
    elseif request.headers ~= nil and type(request.headers) ~= "table" then
        misuse("headers must be a table, got " .. check.show(request.headers))
    elseif request.body ~= nil and type(request.body) ~= "string" then
        misuse("a request's body must be a string, got " .. check.show(request.body))
    elseif request.method ~= nil and type(request.method) ~= "string" then
        misuse("a request's method must be a string, got " .. check.show(request.method))
    end
    for _, param in ipairs(TIMES) do
        if request[param.name] ~= nil then
            check.value(param, request[param.name], "field")
        end
    end
end

--- The headers with a Content-Type for JSON, unless they have one.
local function with_json_type(headers)
    local merged = { ["Content-Type"] = "application/json" }
    for name, value in next, headers or {} do
        if type(name) == "string" and name:lower() == "content-type" then
            merged["Content-Type"] = nil
        end
        merged[name] = value
    end
    return merged
end

--- The body, and whether it is JSON; or nil, nil and an error.
local function encode_body(request)
    if request.json == nil then
        return request.body, false
    end
    local text, err = json.encode(request.json)
    return text, true, err
end

--- What moonflow._http.profile takes.
local function build(request, is_json)
    local own = {}
    for name, is_setting in next, FIELDS do
        if is_setting then
            own[name] = request[name]
        end
    end
    if is_json then
        own.headers = with_json_type(request.headers)
    end
    if own.proxy == nil then
        local no_proxy
        own.proxy, no_proxy = http.proxy_for(request.url)
        own.no_proxy = own.no_proxy or no_proxy
    end
    return own
end

--- Completes the TLS part of an https request that says nothing of its own.
local function add_tls(own)
    if not own.url:lower():find("^https:") or own.insecure_tls or own.ca_path then
        return true
    end
    local options, err = http.tls_options(own.ca_file)
    if not options then
        return nil, err
    end
    own.ca_file, own.ca_path = options.ca_file, options.ca_path
    if own.insecure_tls == nil then -- false is a wish as well
        own.insecure_tls = options.insecure_tls
    end
    own.client_cert = own.client_cert or options.client_cert
    return true
end

--- One request under the eyes of `http.watch`.
local function watched(request, own, ...)
    return http.watch({
        headers = own.headers or {},
        settings = own,
        timeout = request.timeout,
        connect_timeout = request.connect_timeout,
        total_timeout = request.total_timeout,
    }, ...)
end

--- Sends one request. An answer of any status is a success here.
---@async
---@param request moonflow.HttpRequest
---@return moonflow.HttpResponse?
---@return table? err
function http.request(request)
    check_request(request)
    local body, is_json, err = encode_body(request)
    if err then
        return nil, err
    end
    local own = build(request, is_json)
    local ok, tls_err = add_tls(own)
    if not ok then
        return nil, tls_err
    end
    local _http = require "moonflow._http"
    local profile, refusal = _http.profile(own)
    if not profile then
        return nil, refusal
    end
    local method = request.method or (body and "POST" or "GET")
    local response, failure
    if http.watch then
        response, failure = watched(request, own, _http.perform, profile, method, request.url, body, request.timeout,
            request.total_timeout, request.connect_timeout)
    else
        response, failure = _http.perform(profile, method, request.url, body, request.timeout, request.total_timeout,
            request.connect_timeout)
    end
    if not response then
        return nil, failure
    end
    local buffer <close> = response.body
    local reason, headers = _http.parse_head(response.head)
    return {
        status = response.status,
        reason = reason,
        headers = headers,
        body = tostring(buffer),
        url = request.url,
        timings = {
            connect = response.connect_time, first_byte = response.first_byte_time, total = response.total_time,
        },
        reused = response.reused,
    }
end

return http
