--- The gateway behind `moonflow serve`: the routes of MLflow's AI Gateway and of OpenAI's API over one set of
-- endpoints (spec/mlflow.md 9a, openai.md 4).
local answer = require "moonflow.gateway.answer"
local check = require "moonflow.check"
local config = require "moonflow.gateway.config"
local error = require "moonflow.error"
local errors = require "moonflow.gateway.errors"
local faults = require "moonflow.gateway.faults"
local json = require "moonflow.json"
local limits = require "moonflow.gateway.limits"
local pages = require "moonflow.gateway.pages"
local same = require "moonflow.gateway.same"
local schema = require "moonflow.gateway.schema"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local gateway = {}

local PATH_MAX = 4096   -- bytes
local SHOWN_MAX = 200   -- bytes of a name in a message
local LISTED_MAX = 500  -- bytes of all names in a message

--- A route: the functions that answer, by method, and what they need to know.
---@class moonflow.GatewayRoute
---@field allow string the methods, for the refusal of all others
---@field GET? fun(gateway: table, request: table, route: table, name: string?): integer, table, string
---@field POST? fun(gateway: table, request: table, route: table, name: string?): integer, table, string|table
---@field endpoint? table
---@field endpoint_type? string
---@field what? string

local Gateway = {}
Gateway.__index = Gateway

local function ok(body)
    return 200, { ["Content-Type"] = "application/json" }, body
end

local function not_found(face)
    return errors.reply(face, 404, "Not Found")
end

local function shown(name)
    return text.one_line(name, SHOWN_MAX)
end

--- The name for a message, with the nearest one that there is, or those that there are.
local function hint(self, name)
    local names = {}
    for i, endpoint in ipairs(self.endpoints) do
        names[i] = endpoint.name
        if i == 100 then
            break
        end
    end
    local near = #name <= SHOWN_MAX and check.nearest(name, names)
    if near then
        return ("did you mean '%s'?"):format(near)
    end
    return "it has " .. text.one_line(table.concat(names, ", "), LISTED_MAX)
end

local function get_page(self, request, route)
    local body = pages.list(self.endpoints, route.what, request.query)
    if not body then
        return errors.reply("mlflow", 400, "the page_token is none of this server's")
    end
    return ok(body)
end

local function get_description(_, _, route)
    return ok(pages.describe(route.endpoint, route.what))
end

local function no_description(_, _, route, name)
    return errors.reply("mlflow", 404, ("The %s '%s' is not present or active on the server. Please verify the "
        .. "%s name."):format(route.what, shown(name), route.what))
end

--- What OpenAI's clients are told of a body that is wrong.
local function refuse_body(face, status, detail)
    if face == "mlflow" then
        return errors.reply(face, status, detail)
    end
    local message, place = schema.describe(detail)
    return errors.reply(face, status, detail, { message = message, param = place })
end

local function refuse_model(self, message, name, code)
    return errors.reply("openai", code and 404 or 400, message, {
        message = ("%s; %s"):format(message, hint(self, name)), param = "model", code = code,
    })
end

--- "1h0m3s", as OpenAI writes how long it is until a limit is over.
local function duration(seconds)
    local whole = math.max(0, math.ceil(seconds))
    local hours, minutes = whole // 3600, whole % 3600 // 60
    if hours > 0 then
        return ("%dh%dm%ds"):format(hours, minutes, whole % 60)
    elseif minutes > 0 then
        return ("%dm%ds"):format(minutes, whole % 60)
    end
    return ("%ds"):format(whole)
end

--- Puts how much of a limit is left into the headers of OpenAI's face.
local function show_limit(headers, counter, remaining, seconds)
    headers["x-ratelimit-limit-requests"] = ("%d"):format(counter.calls)
    headers["x-ratelimit-remaining-requests"] = ("%d"):format(remaining)
    headers["x-ratelimit-reset-requests"] = duration(seconds)
end

local function refuse_call(face, counter, seconds)
    local message = "Rate limit exceeded: " .. counter.text
    local headers = { ["Retry-After"] = ("%d"):format(math.max(1, math.ceil(seconds))) }
    if face == "openai" then
        show_limit(headers, counter, 0, seconds)
        return errors.reply(face, 429, message, { headers = headers })
    end
    headers["Content-Type"] = "application/json"
    return 429, headers, assert(json.encode { error = message })
end

--- What an endpoint answers to inputs that are as they should be.
local function answer_inputs(endpoint, inputs, face)
    if endpoint.faults[1] then
        return faults.wrap(endpoint.faults, face, answer.respond, endpoint, inputs, face)
    end
    return answer.respond(endpoint, inputs, face)
end

--- POST /gateway/NAME/invocations
local function invoke(_, request, route)
    local endpoint = route.endpoint
    local inputs, status, detail = schema.read("mlflow", endpoint.endpoint_type, request.body)
    if not inputs then
        return refuse_body("mlflow", status, detail)
    end
    local counter = endpoint.counter
    if counter then
        local remaining, seconds = limits.take(counter, request.peer)
        if not remaining then
            return refuse_call("mlflow", counter, seconds)
        end
    end
    if inputs.model ~= nil then
        return errors.reply("mlflow", 422, "The parameter 'model' is not permitted to be passed. The route being "
            .. "queried already defines a model instance.")
    end
    return answer_inputs(endpoint, inputs, "mlflow")
end

--- POST /v1/...
local function invoke_v1(self, request, route)
    local inputs, bad_status, detail = schema.read("openai", route.endpoint_type, request.body)
    if not inputs then
        return refuse_body("openai", bad_status, detail)
    end
    local name = inputs.model
    if name == nil or name == "" then
        return refuse_model(self, "the body names no model, which is an endpoint of this server", "")
    end
    local endpoint = self.by_name[name]
    if not endpoint then
        return refuse_model(self, ("the model '%s' does not exist on this server"):format(shown(name)), name,
            "model_not_found")
    elseif endpoint.endpoint_type ~= route.endpoint_type then
        return errors.reply("openai", 400, ("Endpoint '%s' is not %s endpoint."):format(name, route.what),
            { param = "model" })
    end
    local counter = endpoint.counter
    if not counter then
        return answer_inputs(endpoint, inputs, "openai")
    end
    local remaining, seconds = limits.take(counter, request.peer)
    if not remaining then
        return refuse_call("openai", counter, seconds)
    end
    local status, headers, body = answer_inputs(endpoint, inputs, "openai")
    headers = headers or {}
    show_limit(headers, counter, remaining, seconds)
    return status, headers, body
end

local function get_models(self)
    local models = json.array {}
    for i, endpoint in ipairs(self.endpoints) do
        models[i] = pages.model(endpoint, self.created)
    end
    return ok(assert(json.encode { object = "list", data = models }))
end

local function get_model(self, _, route)
    return ok(assert(json.encode(pages.model(route.endpoint, self.created))))
end

local function no_model(self, _, _, name)
    return refuse_model(self, ("the model '%s' does not exist on this server"):format(shown(name)), name,
        "model_not_found")
end

local function get_limits()
    return errors.reply("mlflow", 501, "The get_limits API is not available yet.")
end

local function set_limits(_, request)
    local body, status, detail = schema.read_limits(request.body)
    if not body then
        return errors.reply("mlflow", status, detail)
    end
    return errors.reply("mlflow", 501, "The set_limits API is not available yet.")
end

local function get_front_page(self)
    return 200, { ["Content-Type"] = "text/plain; charset=utf-8" }, pages.front(self.endpoints)
end

local function get_health()
    return ok '{"status":"OK"}'
end

local function get(fn, what)
    return { allow = "GET", GET = fn, what = what }
end

local function post(fn, endpoint_type, what)
    return { allow = "POST", POST = fn, endpoint_type = endpoint_type, what = what }
end

--- Routes that every gateway has.
local FIXED = {
    ["/"] = get(get_front_page),
    ["/docs"] = get(get_front_page),
    ["/health"] = get(get_health),
    ["/api/2.0/endpoints/"] = get(get_page, "endpoint"),
    ["/api/2.0/gateway/routes/"] = get(get_page, "route"),
    ["/api/2.0/endpoints/limits/"] = post(set_limits),
    ["/api/2.0/gateway/limits/"] = post(set_limits),
    ["/v1/models"] = get(get_models),
    ["/v1/chat/completions"] = post(invoke_v1, "llm/v1/chat", "a chat"),
    ["/v1/completions"] = post(invoke_v1, "llm/v1/completions", "a completions"),
    ["/v1/embeddings"] = post(invoke_v1, "llm/v1/embeddings", "an embeddings"),
}

--- Routes with a name behind a prefix, where no endpoint has the name.
local UNKNOWN = {
    ["/api/2.0/endpoints/"] = get(no_description, "endpoint"),
    ["/api/3.0/gateway/endpoint/"] = get(no_description, "endpoint"),
    ["/api/2.0/gateway/routes/"] = get(no_description, "route"),
    ["/api/3.0/gateway/route/"] = get(no_description, "route"),
    ["/api/2.0/endpoints/limits/"] = get(get_limits),
    ["/api/2.0/gateway/limits/"] = get(get_limits),
    ["/v1/models/"] = get(no_model),
}

local function add_routes(routes, endpoint)
    local function add(path, route)
        route.endpoint = endpoint
        routes[path] = route
    end
    local name = endpoint.name
    add("/endpoints/" .. name .. "/invocations", post(invoke))
    add("/gateway/" .. name .. "/invocations", post(invoke))
    add("/api/2.0/endpoints/" .. name, get(get_description, "endpoint"))
    add("/api/3.0/gateway/endpoint/" .. name, get(get_description, "endpoint"))
    add("/api/2.0/gateway/routes/" .. name, get(get_description, "route"))
    add("/v1/models/" .. name, get(get_model))
end

--- The route of a decoded path, and the name in the path where no endpoint has it.
local function find_route(routes, path)
    local route = routes[path]
    if route then
        return route
    end
    local prefix, name = path:match("^(.*/)([^/]+)$")
    return prefix and UNKNOWN[prefix], name
end

--- The path without the slashes at its end.
local function strip_slashes(path)
    local last = #path
    while last > 0 and path:byte(last) == 0x2F do
        last = last - 1
    end
    return path:sub(1, last)
end

--- A client that adds slashes, or leaves one out, is sent to the path that there is. The place is relative: it
-- is the same behind a proxy that has another name.
local function redirect(routes, request, path)
    local ends_in_slash = path:sub(-1) == "/"
    if ends_in_slash ~= (request.path:sub(-1) == "/") then
        return nil
    end
    local other = ends_in_slash and strip_slashes(path) or path .. "/"
    if not find_route(routes, other) then
        return nil
    end
    local raw = ends_in_slash and strip_slashes(request.path) or request.path .. "/"
    return 307, { Location = request.query and raw .. "?" .. request.query or raw }, nil
end

local function is_allowed(self, request)
    if not self.token or request.path == "/health" then
        return true
    end
    local given = request.headers.authorization
    local token = given and given:match("^[Bb][Ee][Aa][Rr][Ee][Rr] (.*)$")
    return token ~= nil and same(token, self.token)
end

local function face_of(path)
    return path:sub(1, 4) == "/v1/" and "openai" or "mlflow"
end

--- Whether the body is said to be JSON. FastAPI reads any other as a text, which it then finds wrong; here it is
-- refused for its type, so that a page of another site can send nothing that its browser does not ask about.
local function is_json(request)
    local kind = request.headers["content-type"]
    if kind == "application/json" or request.body == "" then
        return true
    elseif not kind or #kind > SHOWN_MAX then
        return false
    end
    local subtype = kind:lower():match("^%s*application/([^%s;]+)%s*;?")
    return subtype ~= nil and (subtype == "json" or subtype:sub(-5) == "+json")
end

local function refuse_stranger(face)
    return errors.reply(face, 401, "this server needs a token: send it as Authorization: Bearer TOKEN",
        { headers = { ["WWW-Authenticate"] = "Bearer" } })
end

--- Answers a request for which there is no route as its path came.
local function handle_other(self, request, face)
    local path = pages.decode(request.path)
    local route, name = find_route(self.routes, path)
    if route then
        return route, name
    end
    local status, headers = redirect(self.routes, request, path)
    if status then
        return nil, status, headers
    end
    return nil, not_found(face)
end

local function dispatch(self, request)
    local path = request.path
    local face = face_of(path)
    if #path > PATH_MAX then
        return errors.reply(face, 414, "URI Too Long")
    elseif self.workspace and self.workspace.is_own(path) then
        return self.workspace:handle(request)
    elseif not is_allowed(self, request) then
        return refuse_stranger(face)
    end
    local route, name = self.routes[path], nil
    if not route then
        local headers, body
        route, name, headers, body = handle_other(self, request, face)
        if not route then
            return name, headers, body
        end
    end
    local method = request.method
    local answer_it = route[method == "HEAD" and "GET" or method]
    if type(answer_it) ~= "function" then
        return errors.reply(face, 405, "Method Not Allowed", { headers = { Allow = route.allow } })
    elseif method == "POST" and not is_json(request) then
        return errors.reply(face, 415, "the body must be JSON, with the header Content-Type: application/json")
    end
    return answer_it(self, request, route, name)
end

--- Answers a request: the handler of `moonflow.server`. Every answer has an id, in the header x-request-id.
---@async
---@param request moonflow.ServerRequest
---@return integer|false status
---@return table? headers
---@return string|function|table? body
function Gateway:handle(request)
    local number = self.requests + 1
    self.requests = number
    local status, headers, body = dispatch(self, request)
    headers = headers or {}
    headers["x-request-id"] = ("req_%s%08x"):format(self.id, number)
    return status, headers, body
end

local function spread_faults(endpoints, by_name, given)
    for _, words in ipairs(given) do
        local fault, name = faults.parse(words)
        if name and not by_name[name] then
            error.raise {
                kind = "config", message = ("fault %s: there is no endpoint of this name"):format(check.show(words)),
                hint = check.hint(name, check.sorted_keys(by_name)),
            }
        end
        for _, endpoint in ipairs(endpoints) do
            if not name or endpoint.name == name then
                endpoint.faults[#endpoint.faults + 1] = fault
            end
        end
    end
end

--- What tells the ids of this gateway's requests from those of others.
local function new_id()
    return ("%08x%08x"):format(math.floor(sys.random() * 2 ^ 32), math.floor(sys.random() * 2 ^ 32))
end

--- Makes a gateway.
---@param endpoints table as the file of `moonflow serve` returns them
---@param options? {token: string?, faults: string[]?, clock: (fun(): number)?, workspace: table?, settings: table?}
---`token`: clients must send it; `faults`: see `moonflow.gateway.faults`; `clock`: seconds, for the limits;
---`workspace`: what answers as Databricks does, and the `settings` that it gets. Raises an error of kind "config".
---@return table gateway `endpoints`, and the method `handle`
function gateway.new(endpoints, options)
    options = options or {}
    local self = setmetatable({
        endpoints = config.check(endpoints), by_name = {}, routes = {}, token = options.token,
        created = os.time(), id = new_id(), requests = 0,
        workspace = options.workspace,
    }, Gateway)
    for path, route in next, FIXED do
        self.routes[path] = route
    end
    for _, endpoint in ipairs(self.endpoints) do
        self.by_name[endpoint.name] = endpoint
        endpoint.counter = endpoint.limit and limits.new(endpoint.limit, options.clock)
        add_routes(self.routes, endpoint)
    end
    spread_faults(self.endpoints, self.by_name, options.faults or {})
    if self.workspace then
        self.workspace:configure(self.endpoints, options.settings)
    end
    return self
end

return gateway
