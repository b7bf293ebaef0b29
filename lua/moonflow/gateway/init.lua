--- The gateway behind `moonflow serve`: the routes of MLflow's AI Gateway and of OpenAI's API over one set of
-- endpoints (spec/mlflow.md 9a, openai.md 4).
local answer = require "moonflow.gateway.answer"
local base64 = require "moonflow.base64"
local check = require "moonflow.check"
local config = require "moonflow.gateway.config"
local error = require "moonflow.error"
local errors = require "moonflow.gateway.errors"
local faults = require "moonflow.gateway.faults"
local json = require "moonflow.json"
local limits = require "moonflow.gateway.limits"
local schema = require "moonflow.gateway.schema"
local text = require "moonflow.text"

local gateway = {}

local PAGE_SIZE = 3000  -- endpoints on a page, as MLflow's
local PATH_MAX = 4096   -- bytes
local SHOWN_MAX = 200   -- bytes of a name in a message

local Gateway = {}
Gateway.__index = Gateway

local function ok(value)
    return 200, { ["Content-Type"] = "application/json" }, assert(json.encode(value))
end

local function not_found(face)
    return errors.reply(face, 404, "Not Found")
end

--- The text behind percent signs; nil where it is not well formed.
local function decode(segment)
    local decoded = segment:gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    return utf8.len(decoded) and decoded or nil
end

local function shown(name)
    return text.one_line(name, SHOWN_MAX)
end

--- An endpoint as MLflow's clients see it.
local function description(endpoint)
    local limit = endpoint.limit
    return {
        name = endpoint.name,
        endpoint_type = endpoint.endpoint_type,
        model = { name = endpoint.model.name, provider = endpoint.model.provider },
        endpoint_url = "/gateway/" .. endpoint.name .. "/invocations",
        limit = limit and { calls = limit.calls, key = limit.key or json.null, renewal_period = limit.renewal_period }
            or json.null,
    }
end

--- The same in the form of the routes that MLflow has given up.
local function route_description(endpoint)
    local shape = description(endpoint)
    shape.route_type, shape.endpoint_type = shape.endpoint_type, nil
    shape.route_url, shape.endpoint_url = shape.endpoint_url, nil
    return shape
end

--- Where the page of a token begins.
local function page_start(query)
    local given = query and ("&" .. query):match("&page_token=([^&]*)")
    if not given or given == "" then
        return 0
    end
    local token = #given <= 256 and decode(given)
    local plain = token and base64.decode(token)
    local index = plain and (json.decode(plain) or {}).index
    return math.type(index) == "integer" and index >= 0 and index or nil
end

local function list_page(self, request, field, describe)
    local first = page_start(request.query)
    if not first then
        return errors.reply("mlflow", 400, "the page_token is none of this server's")
    end
    local items = json.array {}
    for i = first + 1, math.min(first + PAGE_SIZE, #self.endpoints) do
        items[#items + 1] = describe(self.endpoints[i])
    end
    local next_first = first + PAGE_SIZE
    return ok {
        [field] = items,
        next_page_token = next_first < #self.endpoints and base64.encode(('{"index": %d}'):format(next_first))
            or json.null,
    }
end

local function describe_one(self, name, describe, what)
    local endpoint = self.by_name[name]
    if not endpoint then
        return errors.reply("mlflow", 404, ("The %s '%s' is not present or active on the server. Please verify the "
            .. "%s name."):format(what, shown(name), what))
    end
    return ok(describe(endpoint))
end

local function read_body(request)
    local inputs = json.decode(request.body)
    if inputs == nil then
        return nil, schema.unreadable(request.body)
    end
    return inputs
end

--- What an endpoint answers to inputs that are as they should be.
local function answer_inputs(endpoint, inputs, face)
    if endpoint.faults[1] then
        return faults.wrap(endpoint.faults, face, answer.respond, endpoint, inputs, face)
    end
    return answer.respond(endpoint, inputs, face)
end

local function query(endpoint, request, inputs, face)
    local invalid = schema.faults(endpoint.endpoint_type, inputs)
    if invalid then
        return errors.reply(face, 422, invalid)
    end
    local seconds = endpoint.counter and limits.refuse(endpoint.counter, request.peer)
    if seconds then
        local said = ("Rate limit exceeded: %d per 1 %s"):format(endpoint.limit.calls, endpoint.limit.renewal_period)
        local headers = { ["Content-Type"] = "application/json", ["Retry-After"] = ("%d"):format(seconds) }
        return 429, headers, assert(json.encode { error = face == "mlflow" and said or errors.object(429, said) })
    end
    return answer_inputs(endpoint, inputs, face)
end

--- POST /gateway/NAME/invocations
local function invoke(self, request, name)
    local endpoint = self.by_name[name]
    if not endpoint then
        return not_found("mlflow")
    end
    local inputs, unreadable = read_body(request)
    if unreadable then
        return errors.reply("mlflow", 422, unreadable)
    elseif type(inputs) == "table" and inputs.model ~= nil then
        return errors.reply("mlflow", 422, "The parameter 'model' is not permitted to be passed. The route being "
            .. "queried already defines a model instance.")
    end
    return query(endpoint, request, inputs, "mlflow")
end

local V1 = {
    ["/v1/chat/completions"] = { "llm/v1/chat", "a chat" },
    ["/v1/completions"] = { "llm/v1/completions", "a completions" },
    ["/v1/embeddings"] = { "llm/v1/embeddings", "an embeddings" },
}

--- POST /v1/...
local function invoke_v1(self, request, kind, article)
    local inputs, unreadable = read_body(request)
    if unreadable or type(inputs) ~= "table" then
        return errors.reply("openai", 400, "the body is no JSON object")
    end
    local name = inputs.model
    if type(name) ~= "string" then
        return errors.reply("openai", 400, "the body needs a model: the name of an endpoint")
    end
    local endpoint = self.by_name[name]
    if not endpoint then
        return errors.reply("openai", 404, ("the model '%s' does not exist"):format(shown(name)),
            { code = "model_not_found" })
    elseif endpoint.endpoint_type ~= kind then
        return errors.reply("openai", 400, ("Endpoint '%s' is not %s endpoint."):format(name, article))
    end
    return query(endpoint, request, inputs, "openai")
end

local function model_description(self, endpoint)
    return { id = endpoint.name, object = "model", created = self.created, owned_by = endpoint.model.provider }
end

local function list_models(self)
    local models = json.array {}
    for i, endpoint in ipairs(self.endpoints) do
        models[i] = model_description(self, endpoint)
    end
    return ok { object = "list", data = models }
end

local function get_model(self, name)
    local endpoint = self.by_name[name]
    if not endpoint then
        return errors.reply("openai", 404, ("the model '%s' does not exist"):format(shown(name)),
            { code = "model_not_found" })
    end
    return ok(model_description(self, endpoint))
end

local function front_page(self)
    local lines = { "This is moonflow's deployments server. Its endpoints:", "" }
    for _, endpoint in ipairs(self.endpoints) do
        lines[#lines + 1] = ("    %-30s %s"):format(endpoint.name, endpoint.endpoint_type)
    end
    lines[#lines + 1] = "\nMLflow's clients take this server's address as target, OpenAI's the same with /v1.\n"
    return 200, { ["Content-Type"] = "text/plain; charset=utf-8" }, table.concat(lines, "\n")
end

local function limits_are_not_there(name)
    return errors.reply("mlflow", 501, ("The %s_limits API is not available yet."):format(name))
end

--- Routes of a fixed path, by method.
local FIXED = {
    ["/health"] = { GET = function()
        return ok { status = "OK" }
    end },
    ["/"] = { GET = front_page },
    ["/docs"] = { GET = front_page },
    ["/api/2.0/endpoints/"] = { GET = function(self, request)
        return list_page(self, request, "endpoints", description)
    end },
    ["/api/2.0/gateway/routes/"] = { GET = function(self, request)
        return list_page(self, request, "routes", route_description)
    end },
    ["/v1/models"] = { GET = list_models },
}
for _, path in ipairs { "/api/2.0/endpoints/limits/", "/api/2.0/gateway/limits/" } do
    FIXED[path] = { POST = function()
        return limits_are_not_there("set")
    end }
end
for path, row in pairs(V1) do
    FIXED[path] = { POST = function(self, request)
        return invoke_v1(self, request, row[1], row[2])
    end }
end

--- Routes with a name in them: what stands before it, what behind, and the methods.
local NAMED = {
    { "/gateway/", "/invocations", { POST = invoke } },
    { "/endpoints/", "/invocations", { POST = invoke } },
    { "/api/2.0/endpoints/limits/", "", { GET = function()
        return limits_are_not_there("get")
    end } },
    { "/api/2.0/gateway/limits/", "", { GET = function()
        return limits_are_not_there("get")
    end } },
    { "/api/2.0/endpoints/", "", { GET = function(self, _, name)
        return describe_one(self, name, description, "endpoint")
    end } },
    { "/api/3.0/gateway/endpoint/", "", { GET = function(self, _, name)
        return describe_one(self, name, description, "endpoint")
    end } },
    { "/api/2.0/gateway/routes/", "", { GET = function(self, _, name)
        return describe_one(self, name, route_description, "route")
    end } },
    { "/v1/models/", "", { GET = function(self, _, name)
        return get_model(self, name)
    end } },
}

--- The methods of a path and the name in it; nil where there is no such route.
local function find_route(path)
    local fixed = FIXED[path]
    if fixed then
        return fixed
    end
    for _, row in ipairs(NAMED) do
        local before, last = row[1], #path - #row[2]
        if path:sub(1, #before) == before and path:sub(last + 1) == row[2] then
            local segment = path:sub(#before + 1, last)
            local name = segment ~= "" and not segment:find("/", 1, true) and decode(segment)
            if name then
                return row[3], name
            end
        end
    end
    return nil
end

--- Whether two texts are the same, in a time that does not tell where they differ.
local function is_same(a, b)
    local difference = #a ~ #b
    for i = 1, math.min(#a, #b) do
        difference = difference | (a:byte(i) ~ b:byte(i))
    end
    return difference == 0
end

local function is_allowed(self, request)
    if not self.token or request.path == "/health" then
        return true
    end
    local given = request.headers.authorization
    return given ~= nil and is_same(given, "Bearer " .. self.token)
end

local function face_of(path)
    return path:sub(1, 4) == "/v1/" and "openai" or "mlflow"
end

local function is_json(request)
    local kind = request.headers["content-type"]
    return kind ~= nil and #kind < 256 and kind:lower():match("^[^;]*"):gsub("%s", "") == "application/json"
end

local function refuse_method(face, methods)
    local allowed = table.concat(check.sorted_keys(methods), ", ")
    return errors.reply(face, 405, "Method Not Allowed", { headers = { Allow = allowed } })
end

--- Answers a request: the handler of `moonflow.server`.
-- @tparam moonflow.ServerRequest request
-- @return status, headers, body
function Gateway:handle(request)
    local face = face_of(request.path)
    if #request.path > PATH_MAX then
        return errors.reply(face, 414, "URI Too Long")
    elseif not is_allowed(self, request) then
        return errors.reply(face, 401, "this server needs a token", {
            headers = { ["WWW-Authenticate"] = "Bearer" }, code = "invalid_api_key",
        })
    end
    local methods, name = find_route(request.path)
    if not methods then
        if FIXED[request.path .. "/"] then
            local query_part = request.query and "?" .. request.query or ""
            return 307, { Location = request.path .. "/" .. query_part }, nil
        end
        return not_found(face)
    end
    local method = request.method == "HEAD" and "GET" or request.method
    local route = methods[method]
    if not route then
        return refuse_method(face, methods)
    elseif method == "POST" and not is_json(request) then
        return errors.reply(face, 415, "the Content-Type must be application/json")
    end
    return route(self, request, name)
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

--- Makes a gateway.
-- @tparam table endpoints as the file of `moonflow serve` returns them
-- @tparam[opt] table options `token` (string: clients must send it), `faults` (list of texts, see
-- `moonflow.gateway.faults`)
-- @return the gateway: `endpoints`, and the method `handle`. Raises an error of kind "config".
function gateway.new(endpoints, options)
    options = options or {}
    local self = setmetatable({
        endpoints = config.check(endpoints), by_name = {}, token = options.token, created = os.time(),
    }, Gateway)
    for _, endpoint in ipairs(self.endpoints) do
        self.by_name[endpoint.name] = endpoint
        endpoint.counter = endpoint.limit and limits.new(endpoint.limit)
    end
    spread_faults(self.endpoints, self.by_name, options.faults or {})
    return self
end

return gateway
