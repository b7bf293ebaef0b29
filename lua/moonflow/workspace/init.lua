--- The Databricks face of `moonflow serve`: Model Serving's API over endpoints that live in memory, the token
-- endpoint of a workspace, and queries (spec/databricks.md 1.7, 2.4, 3). Those of the served file are here as well,
-- ready, and are changed in the file only.
local deploy = require "moonflow.workspace.deploy"
local describe = require "moonflow.workspace.describe"
local entities = require "moonflow.workspace.entities"
local error = require "moonflow.error"
local extras = require "moonflow.workspace.extras"
local json = require "moonflow.json"
local life = require "moonflow.workspace.life"
local login = require "moonflow.workspace.login"
local pages = require "moonflow.gateway.pages"
local query = require "moonflow.workspace.query"
local reply = require "moonflow.workspace.reply"
local served_file = require "moonflow.workspace.served"
local settings = require "moonflow.workspace.settings"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local raise = _G.error
local refuse = reply.refuse

local workspace = {}

local ENDPOINTS_MAX = 1000
local BODY_MAX = 64 * 1024 -- bytes of what manages endpoints
local QUERY_MAX = 16 * 1024 * 1024
local SHOWN_MAX = 100      -- bytes of a name or a path in a message

local Workspace = {}
Workspace.__index = Workspace

-- Endpoints by name

--- An endpoint that was created here, up to date; or one of the file.
local function find(self, name, is_read)
    local endpoint = self.file[name] or self.by_name[name]
    if not endpoint then
        refuse("RESOURCE_DOES_NOT_EXIST", "The given endpoint does not exist, please retry after checking the "
            .. "specified model and version deployment exists: %s", text.one_line(name, SHOWN_MAX))
    end
    if not endpoint.gateway then
        life.settle(endpoint, self.clock(), is_read)
    end
    return endpoint
end

--- The same, for a change.
local function find_own(self, name)
    local endpoint = find(self, name)
    if endpoint.gateway then
        refuse("PERMISSION_DENIED", "The endpoint '%s' is of the file that is served, and is changed there.", name)
    end
    return endpoint
end

local function find_by_id(self, id)
    for _, list in ipairs { self.file, self.by_name } do
        for name, endpoint in next, list do
            if endpoint.id == id then
                return find(self, name)
            end
        end
    end
    return refuse("RESOURCE_DOES_NOT_EXIST", "There is no serving endpoint with the id '%s'.",
        text.one_line(id, SHOWN_MAX))
end

local function body_of(request)
    return reply.read(request.body, BODY_MAX)
end

--- The URL of this server, as the client knows it.
local function base_of(request)
    local host = request.headers.host
    local scheme = request.headers["x-forwarded-proto"] == "https" and "https" or "http"
    return ("%s://%s"):format(scheme, host and text.one_line(host, SHOWN_MAX) or "localhost")
end

local function show(endpoint, request)
    return reply.ok(describe.detailed(endpoint, base_of(request)))
end

--- Puts an endpoint on its way to a configuration.
local function start(self, endpoint, config, who)
    local version = life.next_version(endpoint)
    life.begin(endpoint, config, who.name, deploy.plan(self.rules, endpoint.name, version), self.clock())
end

local function list(self)
    local names, shown = {}, json.array {}
    for name in next, self.by_name do
        names[#names + 1] = not self.file[name] and name or nil
    end
    for name in next, self.file do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        shown[i] = describe.summary(find(self, name))
    end
    return reply.ok { endpoints = shown }
end

local function create(self, request, who)
    local body = body_of(request)
    local name = entities.check_name(body.name, "name")
    local config = entities.read(body.config)
    if self.by_name[name] or self.file[name] then
        refuse("RESOURCE_ALREADY_EXISTS", "Serving endpoint with name '%s' already exists.", name)
    elseif self.count >= ENDPOINTS_MAX then
        refuse("BAD_REQUEST", "There may be %d endpoints.", ENDPOINTS_MAX)
    end
    local endpoint = life.new(name, who.name)
    settings.read(endpoint, body, self.clock)
    endpoint.task = config.task
    start(self, endpoint, config, who)
    self.by_name[name], self.count = endpoint, self.count + 1
    return show(endpoint, request)
end

local function get(self, request, _, name)
    return show(find(self, name, true), request)
end

local function delete(self, _, _, name)
    find_own(self, name)
    self.by_name[name], self.count = nil, self.count - 1
    return reply.ok {}
end

--- An endpoint stays with external models, or without.
local function check_kind(endpoint, config)
    local before = endpoint.active or endpoint.pending
    if (before.task == nil) ~= (config.task == nil) then
        refuse("INVALID_PARAMETER_VALUE", "The endpoint '%s' can not change between external models and others.",
            endpoint.name)
    end
end

local function check_idle(endpoint, what)
    if life.is_updating(endpoint) then
        refuse("RESOURCE_CONFLICT", "Endpoint %s is currently updating. Wait for the update to complete before "
            .. "updating its %s.", endpoint.name, what)
    end
end

local function update(self, request, who, endpoint, given)
    local config = entities.read(given)
    check_kind(endpoint, config)
    check_idle(endpoint, "configuration")
    start(self, endpoint, config, who)
    return show(endpoint, request)
end

local function update_config(self, request, who, name)
    return update(self, request, who, find_own(self, name), body_of(request))
end

local function update_provisioned(self, request, who, name)
    return update(self, request, who, find_own(self, name), body_of(request).config)
end

--- A change of something else than what is served.
local function change(fn)
    return function(self, request, _, name)
        local endpoint = find_own(self, name)
        local status, headers, body = fn(endpoint, body_of(request), self.clock)
        life.touch(endpoint)
        return status, headers, body
    end
end

local function telemetry(endpoint, body)
    check_idle(endpoint, "telemetry configuration")
    return settings.telemetry(endpoint, body)
end

-- What is told of endpoints

local function of_served(fn)
    return function(self, _, _, name, served)
        return fn(find(self, name), served)
    end
end

local function of_endpoint(fn)
    return function(self, request, _, name)
        return fn(find(self, name), base_of(request))
    end
end

local function of_id(fn, adds)
    return function(self, request, _, id)
        local endpoint = find_by_id(self, id)
        return fn(endpoint, adds ~= nil and body_of(request) or nil, adds)
    end
end

local function me(_, _, who)
    return reply.ok { id = "1", userName = who.name, displayName = who.name, active = true }
end

-- Queries

local function invoke(self, request, who, name, served)
    local endpoint = find(self, name)
    if endpoint.gateway then
        if served and served ~= name then
            refuse("RESOURCE_DOES_NOT_EXIST", "The endpoint '%s' serves only itself.", name)
        end
        return query.served(endpoint.gateway, request)
    end
    return query.created(endpoint, request.body, who, served)
end

--- OpenAI's way to ask: the endpoint is the model.
local function invoke_model(self, request, who)
    local name = reply.read(request.body, QUERY_MAX).model
    if type(name) ~= "string" then
        refuse("INVALID_PARAMETER_VALUE", "model is required: the name of an endpoint")
    end
    return invoke(self, request, who, name)
end

-- Logging in

local function host_metadata(_, request)
    return reply.ok { oidc_endpoint = base_of(request) .. "/oidc", host_type = "workspace" }
end

local function discovery(_, request)
    local base = base_of(request)
    return reply.ok {
        issuer = base .. "/oidc", authorization_endpoint = base .. "/oidc/v1/authorize",
        token_endpoint = base .. "/oidc/v1/token",
        grant_types_supported = json.array { "client_credentials" },
        token_endpoint_auth_methods_supported = json.array { "client_secret_basic" },
    }
end

local function issue(self, request)
    return self.login:answer(request)
end

-- Routes: "*" is any one segment, and an argument of the function

local API = "api/2.0/serving-endpoints"
local PERMISSIONS = "api/2.0/permissions/serving-endpoints/*"

local OPEN = { -- without a bearer
    [".well-known/databricks-config"] = { GET = host_metadata },
    ["oidc/.well-known/oauth-authorization-server"] = { GET = discovery },
    ["oidc/v1/token"] = { POST = issue },
}

local ROUTES = {
    [API] = { GET = list, POST = create },
    [API .. "/pt"] = { POST = create, GET = function(self, request, who)
        return get(self, request, who, "pt")
    end },
    [API .. "/pt/*/config"] = { PUT = update_provisioned },
    [API .. "/*"] = { GET = get, DELETE = delete },
    [API .. "/*/config"] = { PUT = update_config },
    [API .. "/*/tags"] = { PATCH = change(settings.tags) },
    [API .. "/*/rate-limits"] = { PUT = change(settings.rate_limits) },
    [API .. "/*/ai-gateway"] = { PUT = change(settings.gateway) },
    [API .. "/*/notifications"] = { PATCH = change(settings.notifications) },
    [API .. "/*/telemetry-config"] = { PATCH = change(telemetry) },
    [API .. "/*/metrics"] = { GET = of_endpoint(extras.metrics) },
    [API .. "/*/openapi"] = { GET = of_endpoint(extras.openapi) },
    [API .. "/*/served-models/*/build-logs"] = { GET = of_served(extras.build_logs) },
    [API .. "/*/served-models/*/logs"] = { GET = of_served(extras.logs) },
    [PERMISSIONS] = {
        GET = of_id(extras.permissions), PUT = of_id(extras.set_permissions, false),
        PATCH = of_id(extras.set_permissions, true),
    },
    [PERMISSIONS .. "/permissionLevels"] = { GET = of_id(extras.permission_levels) },
    ["api/2.0/preview/scim/v2/Me"] = { GET = me },
    ["serving-endpoints/*/invocations"] = { POST = invoke },
    ["serving-endpoints/*/served-models/*/invocations"] = { POST = invoke },
    ["serving-endpoints/chat/completions"] = { POST = invoke_model },
    ["serving-endpoints/completions"] = { POST = invoke_model },
    ["serving-endpoints/embeddings"] = { POST = invoke_model },
}

--- The beginnings of all paths of this face.
local PREFIXES = {
    "/api/2.0/serving-endpoints", "/api/2.0/permissions/", "/api/2.0/preview/", "/serving-endpoints/", "/oidc/",
    "/.well-known/databricks-config",
}

--- Whether a path belongs to this face.
---@param path string as it came
---@return boolean
function Workspace.is_own(path)
    local byte = path:byte(2)
    if byte ~= 0x61 and byte ~= 0x73 and byte ~= 0x6F and byte ~= 0x2E then -- a, s, o and "."
        return false
    end
    for _, prefix in ipairs(PREFIXES) do
        if path:sub(1, #prefix) == prefix then
            return true
        end
    end
    return false
end

local NAMES_AT = { ["api/2.0/serving-endpoints"] = 3, ["api/2.0/permissions"] = 4, ["serving-endpoints"] = 1 }

--- The segments of a path, decoded, and their number.
local function segments_of(path)
    local segments = {}
    for segment in path:gmatch("[^/]+") do
        segments[#segments + 1] = pages.decode(segment)
    end
    return segments
end

--- The path as a key of ROUTES, with the segments in it that are names.
local function pattern_of(segments, count)
    local words, names = { table.unpack(segments) }, {}
    local i = count + 1
    while i <= #segments do
        names[#names + 1] = segments[i]
        words[i] = "*"
        i = segments[i + 1] == "served-models" and i + 2 or #segments + 1
    end
    return table.concat(words, "/"), names
end

--- The route of a path, and the names in it.
local function route_of(path)
    local segments = segments_of(path)
    local plain = table.concat(segments, "/")
    local route = OPEN[plain] or ROUTES[plain]
    if route then
        return route, {}, OPEN[plain] ~= nil
    end
    for prefix, count in next, NAMES_AT do
        if plain:sub(1, #prefix + 1) == prefix .. "/" then
            local is_provisioned = segments[count + 1] == "pt" and #segments == count + 3
            local pattern, names = pattern_of(segments, is_provisioned and count + 1 or count)
            return ROUTES[pattern], names, false
        end
    end
    return nil
end

local function answer(self, request)
    local route, names, is_open = route_of(request.path)
    local who
    if not is_open then
        local status, message
        who, status, message = self.login:who(request)
        if not who then
            return reply.error(status, status, message, { ["WWW-Authenticate"] = status == 401 and "Bearer" or nil })
        end
    end
    local method = request.method
    local fn = route and route[method == "HEAD" and "GET" or method]
    if not fn then
        refuse("ENDPOINT_NOT_FOUND", "No API found for '%s %s'", method, text.one_line(request.path, SHOWN_MAX))
    end
    return fn(self, request, who, table.unpack(names))
end

local function finish(ok, ...)
    if ok then
        return ...
    end
    local status, headers, body = reply.from((...))
    if not status then
        raise((...), 0)
    end
    return status, headers, body
end

--- Answers a request.
---@async
---@param request moonflow.ServerRequest
---@return integer|false status
---@return table? headers
---@return string|function|table? body
function Workspace:handle(request)
    return finish(pcall(answer, self, request))
end

--- Takes the endpoints of the file, in place of those that were there.
---@param endpoints table[] of `moonflow.gateway`
---@param given? table what the file says of this face: deploy, token_lifetime
function Workspace:configure(endpoints, given)
    given = given or {}
    local lifetime = given.token_lifetime
    if lifetime ~= nil and not login.is_lifetime(lifetime) then
        error.raise { kind = "config", message = "token_lifetime must be a number of seconds up to a day" }
    end
    for name in next, given do
        if name ~= "deploy" and name ~= "token_lifetime" then
            error.raise {
                kind = "config", message = ("%s is no setting of the served file"):format(tostring(name)),
                hint = "known: deploy, token_lifetime",
            }
        end
    end
    local rules = deploy.rules(self.words, given.deploy)
    self.rules, self.file = rules, served_file.all(endpoints, self.file)
    self.login:set_lifetime(lifetime)
end

--- Makes one, without endpoints.
---@param options? table `token`: the only one that is let in; `deploy`: rules as the command line has them;
---`clock`: seconds, monotonic
---@return table
function workspace.new(options)
    options = options or {}
    local clock = options.clock or sys.monotonic
    return setmetatable({
        by_name = {}, count = 0, file = {}, clock = clock, words = options.deploy, rules = deploy.rules(options.deploy),
        login = login.new { token = options.token, clock = clock },
    }, Workspace)
end

return workspace
