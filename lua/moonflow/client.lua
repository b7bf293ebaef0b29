--- The base class of all clients: MLflow's methods, the check of their arguments, and what every
-- error gets on its way out. It knows nothing of HTTP; `send`, `stream` and `pages` lead to the
-- pipeline.
local auth = require "moonflow.auth"
local check = require "moonflow.check"
local error = require "moonflow.error"

local rethrow = _G.error

local client = {}

---@class moonflow.Signature
---@field name string
---@field params moonflow.Param[] in MLflow's order
---@field doc string
---@field base_error? string MLflow's words where a target does not offer the method

local NOT_IN_BASE = "Method is unimplemented in base client. Implementation should be provided by "
    .. "specific target plugins."

local NAME = { name = "name", type = "string", required = true, doc = "name of the deployment" }
local MODEL = { name = "model_uri", type = "string", doc = "URI of the model" }
local FLAVOR = { name = "flavor", type = "string", doc = "flavor of the model; the target chooses where it is missing" }
local CONFIG = { name = "config", type = "table", doc = "settings that the target defines" }
local WITHIN = { name = "endpoint", type = "string", doc = "the endpoint that the deployment belongs to" }
local ENDPOINT = { name = "endpoint", type = "string", required = true, doc = "name of the endpoint" }
local DEPLOYMENT = { name = "deployment_name", type = "string", doc = "name of the deployment" }
local QUERIED = { name = "endpoint", type = "string", doc = "name of the endpoint" }
local INPUTS = { name = "inputs", type = "any", doc = "what is sent to the model" }

--- The methods of MLflow's base class with their parameters in its order. The check of arguments,
-- help and completion are all made of this table.
---@type moonflow.Signature[]
client.signatures = {
    {
        name = "create_deployment",
        params = {
            NAME, { name = "model_uri", type = "string", required = true, doc = MODEL.doc }, FLAVOR, CONFIG, WITHIN,
        },
        doc = "Deploys a model under a new name and waits until it serves.",
    },
    {
        name = "update_deployment",
        params = { NAME, MODEL, FLAVOR, CONFIG, WITHIN },
        doc = "Changes the model, flavor or settings of a deployment.",
    },
    {
        name = "delete_deployment",
        params = { NAME, CONFIG, WITHIN },
        doc = "Deletes a deployment. Deleting one that is not there is no error.",
    },
    {
        name = "list_deployments",
        params = { WITHIN },
        doc = "Returns a list of all deployments, tables with a name.",
    },
    {
        name = "get_deployment",
        params = { NAME, WITHIN },
        doc = "Returns a table that describes one deployment, with its name.",
    },
    {
        name = "predict",
        params = { DEPLOYMENT, INPUTS, QUERIED },
        doc = "Queries a model and returns its answer.",
    },
    {
        name = "predict_stream",
        params = { DEPLOYMENT, INPUTS, QUERIED },
        doc = "Queries a model and returns an iterator over the parts of its answer.",
    },
    {
        name = "explain",
        params = { DEPLOYMENT, { name = "df", type = "any", doc = "the rows to explain" }, QUERIED },
        doc = "Returns explanations of the model's predictions.",
        base_error = "Computing model explanations is not yet supported for this deployment target",
    },
    {
        name = "create_endpoint",
        params = { { name = "name", type = "string", required = true, doc = "name of the new endpoint" }, CONFIG },
        doc = "Creates an endpoint.",
        base_error = NOT_IN_BASE,
    },
    {
        name = "update_endpoint",
        params = { ENDPOINT, CONFIG },
        doc = "Changes the settings of an endpoint.",
        base_error = NOT_IN_BASE,
    },
    {
        name = "delete_endpoint",
        params = { ENDPOINT },
        doc = "Deletes an endpoint. Deleting one that is not there is no error.",
        base_error = NOT_IN_BASE,
    },
    {
        name = "list_endpoints",
        params = {},
        doc = "Returns a list of all endpoints, tables with a name.",
        base_error = NOT_IN_BASE,
    },
    {
        name = "get_endpoint",
        params = { ENDPOINT },
        doc = "Returns a table that describes one endpoint, with its name.",
        base_error = NOT_IN_BASE,
    },
}

--- What every call takes under `options`.
---@type moonflow.Param[]
client.call_options = check.index {
    { name = "timeout", type = "seconds", doc = "seconds that one attempt waits for the server" },
    { name = "connect_timeout", type = "seconds", doc = "seconds to connect (10)" },
    { name = "total_timeout", type = "seconds", doc = "seconds that the call takes with all its attempts" },
    { name = "max_retries", type = "count", doc = "how often a request is repeated" },
    { name = "headers", type = "headers", doc = "headers to add" },
}

--- What every client takes as its options: those of a call, for all its calls, and these.
---@type moonflow.Param[]
client.options = check.index {
    { name = "token", type = "secret", doc = "bearer token" },
    { name = "username", type = "string", doc = "basic authentication, with password" },
    { name = "password", type = "secret", doc = "basic authentication, with username" },
    { name = "allow_insecure_http", type = "boolean", doc = "send credentials over plain http to other machines too" },
    { name = "http2", type = "boolean", doc = "speak HTTP/2 where the server does" },
    { name = "proxy", type = "string", doc = "URL of the proxy; \"\" for none" },
    { name = "ca_file", type = "string", doc = "file or directory of CA certificates, in place of the system's" },
    table.unpack(client.call_options),
}

local OPTIONS = { name = "options", type = "table", doc = "timeouts, retries and headers of this call" }

-- Names in the table given to `extend` that are no methods.
local DEFINITION = { name = true, signatures = true, options = true, init = true }

local BaseDeploymentClient = { name = "BaseDeploymentClient", options = client.options, implemented = {} }
BaseDeploymentClient.__index = BaseDeploymentClient
client.BaseDeploymentClient = BaseDeploymentClient

local classes = setmetatable({ [BaseDeploymentClient] = true }, { __mode = "k" })

--- A target as it may be shown: without what stands before an "@".
local function shown(target_uri)
    return (auth.redact(target_uri):gsub("//[^/?#]*@", "//"):gsub("^(%a[%w+.-]*:)[^/?#]*@", "%1"))
end

local function check_options(options, known, what)
    for name, value in next, options do
        local param = known[name]
        if not param then
            check.unknown(name, known, "an option of " .. what)
        end
        check.value(param, value, "option")
    end
end

--- Checks what a method was given: one table of named arguments, or arguments in the signature's
-- order with the options of the call behind them. Returns a table of its own.
local function arguments(signature, count, first, ...)
    local params = signature.params
    -- Room for four: growing the table step by step would take longer than all the checks.
    local args = { endpoint = nil, inputs = nil, name = nil, options = nil }
    if count == 1 and type(first) == "table" then
        for name, value in next, first do
            local param = params[name]
            if not param then
                check.unknown(name, params, "an argument of " .. signature.name)
            elseif not param.accepts(value) then
                check.value(param, value, "argument")
            end
            args[name] = value
        end
    elseif count > #params then
        error.raise {
            kind = "usage",
            message = ("%s takes at most %d arguments, got %d"):format(signature.name, #params, count),
        }
    else
        local given = { first, ... }
        for i = 1, count do
            if given[i] ~= nil then
                check.value(params[i], given[i], "argument")
                args[params[i].name] = given[i]
            end
        end
    end
    local required = signature.required
    for i = 1, #required do
        if args[required[i]] == nil then
            error.raise { kind = "usage", message = ("%s needs the argument %q"):format(signature.name, required[i]) }
        end
    end
    if args.options then
        check_options(args.options, client.call_options, "a call")
    end
    return args
end

--- The message handler: error objects pass; for another value, where it was raised is known only here.
local function examine(value)
    if error.is(value) then
        return value
    end
    return { value = value, traceback = debug.traceback(tostring(value), 2) }
end

--- Raises a failure of a client's method, with the target and the method in it.
---@param self table
---@param operation string the method's name
---@param failure table an error object, or what `examine` made of another value
local function fail(self, operation, failure)
    if not error.is(failure) then
        local plugin = self.plugin
        if not plugin then
            rethrow(failure.value, 0)
        end
        failure = error.new {
            kind = "plugin",
            message = ("plugin %q failed in %s\n%s"):format(plugin.name, operation,
                auth.redact(tostring(failure.value))),
            cause = auth.redact(failure.traceback),
            hint = "the fault is in " .. plugin.file,
        }
    end
    failure.target = failure.target or shown(self.target_uri)
    failure.operation = failure.operation or operation
    error.raise(failure)
end

local function finish(self, operation, ok, ...)
    if ok then
        return ...
    end
    return fail(self, operation, (...))
end

--- The method that scripts call: checks, then runs `implementation(self, args)`.
local function wrap(signature, implementation)
    local name = signature.name
    return function(self, ...)
        if type(self) ~= "table" or not self.target_uri then
            error.raise { kind = "usage", message = ("call %s with a colon: client:%s{...}"):format(name, name) }
        end
        local args = arguments(signature, select("#", ...), ...)
        return finish(self, name, xpcall(implementation, examine, self, args))
    end
end

--- The names of the methods that a class or client implements, in the order of the signatures.
local function offered(class)
    local names = {}
    for _, signature in ipairs(class.signatures) do
        if class.implemented[signature.name] then
            names[#names + 1] = signature.name
        end
    end
    return names
end

local function refusal(signature)
    return function(self)
        local names = offered(self)
        error.raise {
            kind = "unsupported",
            message = signature.base_error or signature.name .. " is not implemented for this deployment target",
            hint = ("%s offers %s"):format(shown(self.target_uri), names[1] and table.concat(names, ", ") or "nothing"),
        }
    end
end

--- Completes a signature: the index from names to parameters, the options, what is required.
local function complete(signature)
    local params, required = {}, {}
    for i, param in ipairs(signature.params) do
        params[i] = param
        if param.required then
            required[#required + 1] = param.name
        end
    end
    params[#params + 1] = OPTIONS
    return {
        name = signature.name,
        doc = signature.doc,
        params = check.index(params),
        required = required,
        base_error = signature.base_error,
    }
end

--- Adds signatures to a class's list of them: its own go behind, or in place of, those before.
local function add_signatures(list, more)
    for _, signature in ipairs(more) do
        if type(signature) ~= "table" or type(signature.name) ~= "string" or type(signature.params) ~= "table" then
            error.raise { kind = "usage", message = "a signature needs a name and params" }
        end
        local completed = complete(signature)
        local position = #list + 1
        for i, present in ipairs(list) do
            position = present.name == signature.name and i or position
        end
        list[position] = completed
        list[signature.name] = completed
    end
    return list
end

local function copy_signatures(from)
    local list = {}
    for i, signature in ipairs(from) do
        list[i] = signature
        list[signature.name] = signature
    end
    return list
end

--- Keeps credentials as secrets, and refuses halves and doubles of them.
local function check_credentials(settings, params)
    if (settings.username == nil) ~= (settings.password == nil) then
        error.raise { kind = "usage", message = "options \"username\" and \"password\" belong together" }
    elseif settings.token and settings.username then
        error.raise { kind = "usage", message = "give either \"token\" or \"username\" and \"password\" as options" }
    end
    for _, param in ipairs(params) do
        if param.type == "secret" and type(settings[param.name]) == "string" then
            settings[param.name] = auth.secret(settings[param.name])
        end
    end
end

local function new(class, target_uri, options)
    if type(target_uri) ~= "string" or target_uri == "" then
        error.raise { kind = "usage", message = ("a client needs a target, got %s"):format(check.show(target_uri)) }
    elseif options ~= nil and type(options) ~= "table" then
        error.raise { kind = "usage", message = ("options must be a table, got %s"):format(check.show(options)) }
    end
    options = options or {}
    check_options(options, class.options, class.name)
    local settings = {}
    for name, value in next, options do
        settings[name] = value
    end
    check_credentials(settings, class.options)
    local self = setmetatable({ target_uri = target_uri, config = settings }, class)
    if class.init then
        finish(self, "get_deploy_client", xpcall(class.init, examine, self))
    end
    return self
end

local class_metatable = {
    __call = new,
    __index = BaseDeploymentClient,
    __tostring = function(class)
        return "class " .. class.name
    end,
}

local function instance_tostring(self)
    return ("%s(%q)"):format(self.name, shown(self.target_uri))
end

BaseDeploymentClient.signatures = add_signatures({}, client.signatures)
BaseDeploymentClient.__tostring = instance_tostring
BaseDeploymentClient.__name = "moonflow.client"
for _, signature in ipairs(BaseDeploymentClient.signatures) do
    BaseDeploymentClient[signature.name] = wrap(signature, refusal(signature))
end
setmetatable(BaseDeploymentClient, { __call = new, __tostring = class_metatable.__tostring })

--- Makes a class of clients.
--
-- The definition holds the methods, each `function(self, args)` with `args` checked already, and:
-- `name`, the class's name; `signatures`, a list of those of methods that MLflow does not have;
-- `options`, a list of options that its clients take besides the usual ones; `init`, a
-- `function(self)` that looks at a new client's `target_uri` and `config`. Functions whose names
-- begin with "_" are kept as they are.
---@param definition table
---@return table class call it as `class(target_uri, options)`
function BaseDeploymentClient:extend(definition)
    if not classes[self] or type(definition) ~= "table" then
        error.raise { kind = "usage", message = "extend takes one table: Class:extend{ ... }" }
    end
    local class = {
        name = definition.name or "DeploymentClient",
        init = definition.init,
        implemented = setmetatable({}, { __index = self.implemented }),
        signatures = add_signatures(copy_signatures(self.signatures), definition.signatures or {}),
        options = self.options,
        __tostring = instance_tostring,
        __name = "moonflow.client",
    }
    class.__index = class
    if definition.options then
        local options = { table.unpack(definition.options) }
        table.move(self.options, 1, #self.options, #options + 1, options)
        class.options = check.index(options)
    end
    for name, value in next, definition do
        if type(value) == "function" and class.signatures[name] then
            class[name] = wrap(class.signatures[name], value)
            class.implemented[name] = true
        elseif type(name) == "string" and name:sub(1, 1) == "_" then
            class[name] = value
        elseif not DEFINITION[name] then
            error.raise {
                kind = "usage",
                message = ("%s is neither a method of a client nor described in signatures"):format(check.show(name)),
                hint = check.hint(name, offered { signatures = class.signatures, implemented = class.signatures }),
            }
        end
    end
    classes[class] = true
    return setmetatable(class, self == BaseDeploymentClient and class_metatable or {
        __call = new,
        __index = self,
        __tostring = class_metatable.__tostring,
    })
end

--- Whether a value is a class that `extend` made.
---@param value any
---@return boolean
function client.is_class(value)
    return classes[value] == true
end

client.offered = offered
client.fail = fail

local pipeline

--- Sends a request and returns the decoded answer; see `moonflow.pipeline`. For methods of backends.
---@async
---@param request moonflow.Request
---@return any
function BaseDeploymentClient:send(request)
    pipeline = pipeline or require "moonflow.pipeline"
    return pipeline.send(self, request)
end

--- Sends a request that a stream of events answers; see `moonflow.pipeline`. For methods of backends.
---@async
---@param request moonflow.Request
---@return moonflow.Stream stream and nil, nil, and the stream again: what a generic `for` takes
function BaseDeploymentClient:stream(request)
    pipeline = pipeline or require "moonflow.pipeline"
    return pipeline.stream(self, request)
end

--- What the last answer to this coroutine's calls said about itself: status, headers, request id,
-- rate limits, attempts, times. nil before the first answer. A stream has its own, `stream:response()`.
---@return moonflow.Response?
function BaseDeploymentClient:last_response()
    local answer = self._answers and self._answers[coroutine.running()]
    return answer and require("moonflow.response").describe(answer)
end

--- Sends a request for each page of a list; see `moonflow.pipeline`. For methods of backends.
---@async
---@param request moonflow.PagedRequest
---@return table items
function BaseDeploymentClient:pages(request)
    pipeline = pipeline or require "moonflow.pipeline"
    return pipeline.pages(self, request)
end

return client
