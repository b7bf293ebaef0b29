--- Queries of route-optimised endpoints of Databricks, which are not asked at the workspace but at a URL
-- of their own, with a token that is for one endpoint (spec/databricks.md 3.5).
--
-- The first query reads where the endpoint is and fetches a token; those behind it are one request each.
local auth = require "moonflow.auth"
local chain = require "moonflow.databricks.chain"
local check = require "moonflow.check"
local credentials = require "moonflow.credentials"
local databricks = require "moonflow.databricks"
local error = require "moonflow.error"
local hosts = require "moonflow.databricks.hosts"
local json = require "moonflow.json"
local settings = require "moonflow.settings"
local tokens = require "moonflow.tokens"
local url = require "moonflow.url"

local raise = _G.error

local data_plane = {}

local URL_MAX = 2048     -- bytes
local DETAILS_MAX = 8192 -- bytes
local MACHINE = "oauth-m2m"

--- The ways to log in whose tokens are OAuth's, and are taken in exchange for one for an endpoint.
local EXCHANGED = {
    ["env-oidc"] = true, ["file-oidc"] = true, ["github-oidc"] = true, ["azure-devops-oidc"] = true,
    ["azure-client-secret"] = true, ["databricks-cli"] = true,
}

--- Where one endpoint is.
---@class moonflow.DataPlane
---@field url string
---@field origin string
---@field details string what its token is for: authorization_details, JSON

--- What a token has to be for where the endpoint does not say so: its host begins with its id.
local function details_of(host)
    return assert(json.encode(json.array { {
        type = "workspace_permission",
        object_type = "serving-endpoints",
        object_path = "/serving-endpoints/" .. host:match("^[^.]*"),
        actions = json.array { "query_inference_endpoint" },
    } }))
end

local function unsupported(message, name, hint)
    error.raise { kind = "unsupported", message = message:format(check.show(name)), hint = hint }
end

--- Reads where an endpoint is.
local function look(self, name, options)
    local place = settings.place(self)
    local address, err = url.join(place.base .. "/api/2.0/serving-endpoints", name)
    local endpoint = self:send { method = "GET", url = address or error.raise(err), options = options }
    endpoint = type(endpoint) == "table" and endpoint or {}
    local info = type(endpoint.data_plane_info) == "table" and endpoint.data_plane_info.query_info
    info = type(info) == "table" and info or { endpoint_url = endpoint.route_optimized and endpoint.endpoint_url }
    if type(info.endpoint_url) ~= "string" or #info.endpoint_url > URL_MAX then
        unsupported("the endpoint %s is not route-optimised: it names no URL of its own", name,
            "ask it without route_optimized")
    end
    local good, why = hosts.may_know(info.endpoint_url, place.config)
    if not good then
        error.raise {
            kind = "config",
            message = ("the endpoint %s names the URL %s, which gets no token: %s"):format(check.show(name),
                check.show(info.endpoint_url), why),
        }
    end
    local parts = url.parse(info.endpoint_url)
    local details = info.authorization_details
    local is_good = type(details) == "string" and #details <= DETAILS_MAX
    return { url = info.endpoint_url, origin = parts.origin, details = is_good and details or details_of(parts.host) }
end

--- Where an endpoint is, read once.
local function plane_of(self, name, options)
    self._data_planes = self._data_planes or { by_name = {}, by_origin = {} }
    local planes = self._data_planes
    local plane = planes.by_name[name]
    if not plane then
        plane = look(self, name, options)
        planes.by_name[name] = plane
    end
    planes.by_origin[plane.origin] = plane
    return plane
end

--- The credential for one endpoint.
local function scoped(self, plane, seconds)
    local found = settings.place(self).config
    local workspace = chain.login(found, seconds)
    local way = workspace.way
    if way ~= MACHINE and not EXCHANGED[way] then
        error.raise {
            kind = "auth",
            message = ("a route-optimised endpoint takes only OAuth tokens for it alone\nthe login %s gives none")
                :format(way),
            hint = "log in as an application, such as with DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET",
        }
    end
    local key = table.concat({ "databricks data plane", workspace.key, plane.details }, "\n")
    local function fetch()
        local oauth = require "moonflow.databricks.oauth"
        local token, err
        if way == MACHINE then
            token, err = oauth.machine(found, plane.details)
        else
            token, err = oauth.narrow(found, plane.details, chain.login(found).token)
        end
        return token or error.raise(err)
    end
    local what = "the token of a route-optimised endpoint"
    local token = tokens.get(key, fetch, seconds, what)
    local login = credentials.build(auth.bearer, "a token for the endpoint, from " .. found.source, "Authorization",
        token.secret, plane.origin)
    login.headers["X-Databricks-Endpoints-API-Client"] = "Databricks Deployment Client"
    function login.is_current(left)
        return self._data_planes.by_origin[plane.origin] == plane
            and tokens.get(key, fetch, left, what).secret == token.secret
    end
    function login.forget()
        tokens.forget(key, token.secret)
    end
    return login
end

--- The credential of requests to an origin: the workspace's, or that of an endpoint with its own.
---@async
---@param self table
---@param origin string
---@param seconds? number that are left for the request
---@return moonflow.Credential
function data_plane.credential(self, origin, seconds)
    local plane = self._data_planes and self._data_planes.by_origin[origin]
    if plane and origin ~= settings.place(self).origin then
        return scoped(self, plane, seconds)
    end
    return databricks.credential(self, origin, seconds)
end

--- Where the endpoint is another one by now, the next query looks again.
local function forget(self, name, failure)
    if error.is(failure) and (failure.http_status == 404 or failure.http_status == 401) then
        self._data_planes.by_name[name] = nil
    end
    raise(failure, 0)
end

local function finish(self, name, ok, ...)
    if ok then
        return ...
    end
    return forget(self, name, (...))
end

--- Queries a route-optimised endpoint.
---@async
---@param self table
---@param args table endpoint, inputs, options
---@param is_stream boolean
---@return any answer or, of a stream, what self:stream returns
function data_plane.query(self, args, is_stream)
    local name, inputs = args.endpoint, args.inputs
    if args.served_model then
        error.raise { kind = "usage", message = "give either served_model or route_optimized" }
    end
    if is_stream then
        inputs = { stream = true }
        for field, value in next, args.inputs do
            inputs[field] = field == "stream" or value
        end
    end
    local request = {
        method = "POST",
        url = plane_of(self, name, args.options).url,
        json = inputs,
        policy = "predict",
        options = args.options,
    }
    return finish(self, name, pcall(is_stream and self.stream or self.send, self, request))
end

return data_plane
