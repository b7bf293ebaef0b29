--- Serving endpoints of Databricks: the forms of arguments that MLflow's client takes, what can be
-- said of them before any request, and creations of which no answer came back. The requests
-- themselves are src/backend/databricks.c's.
local check = require "moonflow.check"
local client = require "moonflow.client"
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local pipeline = require "moonflow.pipeline"
local retry = require "moonflow.retry"
local settings = require "moonflow.settings"
local sys = require "moonflow.sys"
local tables = require "moonflow.tables"
local text = require "moonflow.text"
local url = require "moonflow.url"
local wait = require "moonflow.databricks_wait"

local copy = tables.copy

-- Failures of requests are raised bare: the method that the script called adds where, and the rest.
local raise = _G.error

local endpoints = {}

local ENDPOINT = { name = "endpoint", type = "string", required = true, doc = "name of the endpoint" }
local CONFIG = { name = "config", type = "table", required = true, doc = "the request's body, as Databricks has it" }
local SERVED = {
    name = "served_model", type = "string", required = true, doc = "name of one of the endpoint's served entities",
}
local ENDPOINT_ID = { name = "endpoint_id", type = "string", doc = "the endpoint's id, in place of its name" }
local NAMED = { name = "endpoint", type = "string", doc = "name of the endpoint" }
local ACCESS = {
    name = "access_control_list",
    type = "table",
    required = true,
    doc = "list of { user_name, group_name or service_principal_name, and permission_level }",
}

--- What predict and predict_stream take besides.
local QUERY_PARAMS = {
    { name = "served_model", type = "string", doc = "served entity to ask, whatever its share of the traffic is" },
    {
        name = "route_optimized",
        type = "boolean",
        doc = "ask a route-optimised endpoint at its own URL, with a token for it alone",
    },
}

--- The signatures of the methods that MLflow's base class does not have, or has with fewer parameters.
---@type moonflow.Signature[]
endpoints.signatures = {
    {
        name = "create_endpoint",
        params = {
            { name = "name", type = "string", doc = "deprecated: \"name\" in config" },
            { name = "config", type = "table", doc = "the request's body: name, config, tags and others" },
            { name = "route_optimized", type = "boolean", doc = "deprecated: \"route_optimized\" in config" },
        },
        doc = "Creates an endpoint. wait_endpoint waits until it serves.",
    },
    {
        name = "update_endpoint",
        params = { ENDPOINT, CONFIG },
        doc = "Deprecated: replaces the configuration, or the rate limits where config has nothing else.",
    },
    {
        name = "update_endpoint_config",
        params = { ENDPOINT, CONFIG },
        doc = "Replaces what an endpoint serves and how traffic is shared. wait_endpoint waits until it serves.",
    },
    {
        name = "update_endpoint_tags",
        params = { ENDPOINT, CONFIG },
        doc = "Adds tags (add_tags) and removes them (delete_tags).",
    },
    { name = "update_endpoint_rate_limits", params = { ENDPOINT, CONFIG }, doc = "Replaces the rate limits." },
    {
        name = "update_endpoint_ai_gateway",
        params = { ENDPOINT, CONFIG },
        doc = "Replaces the settings of the AI gateway; an empty table removes them.",
    },
    {
        name = "delete_endpoint",
        params = { ENDPOINT },
        doc = "Deletes an endpoint. As in MLflow's client, one that is not there is an error.",
    },
    {
        name = "update_endpoint_notifications",
        params = { ENDPOINT, CONFIG },
        doc = "Replaces who is told of updates by mail (email_notifications).",
    },
    {
        name = "update_endpoint_telemetry",
        params = { ENDPOINT, CONFIG },
        doc = "Replaces where logs, metrics and traces of a custom model go (telemetry_config).",
    },
    {
        name = "create_provisioned_throughput_endpoint",
        params = { CONFIG },
        doc = "Creates an endpoint with provisioned model units.",
    },
    {
        name = "update_provisioned_throughput_endpoint_config",
        params = { ENDPOINT, CONFIG },
        doc = "Replaces what an endpoint with provisioned model units serves.",
    },
    {
        name = "get_endpoint_build_logs",
        params = { ENDPOINT, SERVED },
        doc = "Returns the log of how a served model's image was built, in the field logs.",
    },
    {
        name = "get_endpoint_logs",
        params = { ENDPOINT, SERVED },
        doc = "Returns the last lines that a served model's server wrote, in the field logs.",
    },
    { name = "get_endpoint_openapi", params = { ENDPOINT }, doc = "Returns the OpenAPI schema of an endpoint." },
    {
        name = "get_endpoint_metrics",
        params = { ENDPOINT },
        doc = "Returns an endpoint's metrics as a text, in the format of Prometheus.",
    },
    {
        name = "get_endpoint_permission_levels",
        params = { NAMED, ENDPOINT_ID },
        doc = "Returns the levels that there are, in the field permission_levels.",
    },
    {
        name = "get_endpoint_permissions",
        params = { NAMED, ENDPOINT_ID },
        doc = "Returns who may do what with an endpoint, in the field access_control_list.",
    },
    {
        name = "set_endpoint_permissions",
        params = { NAMED, ACCESS, ENDPOINT_ID },
        doc = "Replaces who may do what with an endpoint.",
    },
    {
        name = "update_endpoint_permissions",
        params = { NAMED, ACCESS, ENDPOINT_ID },
        doc = "Adds to who may do what with an endpoint.",
    },
    wait.signature,
}

for _, signature in ipairs(client.signatures) do
    if signature.name == "predict" or signature.name == "predict_stream" then
        local params = { table.unpack(signature.params, 1, 3) } -- without the options of a call
        table.move(QUERY_PARAMS, 1, #QUERY_PARAMS, 4, params)
        table.insert(endpoints.signatures, { name = signature.name, params = params, doc = signature.doc })
    end
end

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

-- What may be known to be wrong before it is sent

local ENTITY_LISTS = { "served_entities", "served_models" }

--- The names of what a configuration serves, or nil where the server chooses one of them.
local function entity_names(config)
    local names = {}
    for _, field in ipairs(ENTITY_LISTS) do
        for _, entity in ipairs(type(config[field]) == "table" and config[field] or {}) do
            local name = type(entity) == "table" and entity.name
            if type(name) ~= "string" then
                return nil
            end
            names[#names + 1] = name
        end
    end
    return names[1] and names or nil
end

--- The share of one route, whose entity must be one of `names` where these are known.
local function share_of(route, number, names)
    local what = ("route %d of traffic_config"):format(number)
    if type(route) ~= "table" then
        misuse(what .. " must be a table with served_entity_name and traffic_percentage")
    end
    local name, share = route.served_entity_name or route.served_model_name, route.traffic_percentage
    if math.type(share) ~= "integer" or share < 0 or share > 100 then
        misuse(("%s: traffic_percentage must be an integer from 0 to 100, got %s"):format(what, check.show(share)))
    end
    if names and type(name) == "string" then
        local is_known = false
        for _, known in ipairs(names) do
            is_known = is_known or known == name
        end
        if not is_known then
            misuse(("%s: nothing that is served has the name %s"):format(what, check.show(name)),
                check.hint(name, names))
        end
    end
    return share, ("%s %d"):format(type(name) == "string" and check.show(name) or "?", share)
end

--- Checks what a configuration says of traffic.
---@param config table served_entities, traffic_config
---@return table config the same
function endpoints.check_config(config)
    local traffic = config.traffic_config
    local routes = type(traffic) == "table" and traffic.routes
    if type(routes) ~= "table" or #routes == 0 then
        return config
    end
    local names, sum, shares = entity_names(config), 0, {}
    for i, route in ipairs(routes) do
        local share
        share, shares[i] = share_of(route, i, names)
        sum = sum + share
    end
    if sum ~= 100 then
        misuse(("the shares of traffic_config must add up to 100, not %d (%s)"):format(sum,
            table.concat(shares, ", ", 1, math.min(#shares, 15))), "an entity without traffic has a route with 0")
    end
    return config
end

--- The configuration inside the body of an endpoint with provisioned throughput, checked.
---@param body table
---@return table body the same
function endpoints.check_inner_config(body)
    if type(body.config) == "table" then
        endpoints.check_config(body.config)
    end
    return body
end

local function check_name(name)
    if type(name) ~= "string" or name == "" then
        misuse("The 'name' field is required. Please specify it within the config dictionary.",
            'config = { name = "chat", config = { served_entities = {...} } }')
    elseif name:find("[^%w_-]") then
        misuse(("%s can be no name of an endpoint: it has letters, digits, \"-\" and \"_\""):format(check.show(name)),
            #name <= 63 and ("such as %q"):format((name:gsub("[^%w_-]+", "-"))) or nil)
    end
end

--- What a model is asked with: exactly one of these (spec/databricks.md 3.6).
local FAMILIES = { "dataframe_records", "dataframe_split", "input", "inputs", "instances", "messages", "prompt" }

--- Checks the inputs of a query: one way to ask, and not none nor two. Inputs that are empty or no
-- table are for the server to judge.
---@param inputs any
---@param operation string
function endpoints.check_inputs(inputs, operation)
    if type(inputs) ~= "table" or next(inputs) == nil or json.is_array(inputs) then
        return
    end
    local found = {}
    for _, family in ipairs(FAMILIES) do
        if inputs[family] ~= nil then
            found[#found + 1] = family
        end
    end
    if #found == 1 then
        return
    elseif #found > 1 then
        misuse(("%s takes one kind of inputs, got %s"):format(operation, table.concat(found, " and ")))
    end
    local near
    for _, name in ipairs(check.sorted_keys(inputs)) do
        near = near or type(name) == "string" and #name <= 40 and check.nearest(name, FAMILIES) or nil
    end
    misuse(("%s needs inputs with one of %s"):format(operation, table.concat(FAMILIES, ", ")),
        near and ("did you mean %q?"):format(near)
        or 'inputs = { messages = { { role = "user", content = "Hello!" } } }')
end

-- MLflow's forms of arguments

--- The body where `config` is the whole of it (spec/mlflow.md 4.1), and what is deprecated.
local function whole_body(args, warnings)
    local body, name, optimized = copy(args.config), args.name, args.route_optimized
    if body.name == nil then
        if name == nil then
            check_name(nil)
        end
        body.name = name
        warnings[#warnings + 1] =
            "Passing 'name' as a parameter is deprecated. Please specify 'name' within the config dictionary."
    elseif name ~= nil and name ~= body.name then
        misuse(("Name mismatch. Found '%s' as parameter and '%s' in config. Please specify 'name' only within the "
            .. "config dictionary as this parameter is deprecated."):format(text.one_line(name, 64),
            text.one_line(tostring(body.name), 64)))
    elseif name ~= nil then
        warnings[#warnings + 1] =
            "Passing 'name' as a parameter is deprecated. Please specify 'name' only within the config dictionary."
    end
    if optimized == nil or optimized == false and body.route_optimized == nil then
        return body
    elseif body.route_optimized == nil then
        body.route_optimized = true
        warnings[#warnings + 1] = "Passing 'route_optimized' as a parameter is deprecated. "
            .. "Please specify 'route_optimized' within the config dictionary."
    elseif body.route_optimized ~= optimized then
        misuse("Conflicting 'route_optimized' values found. Please specify 'route_optimized' only within the config "
            .. "dictionary as this parameter is deprecated.")
    else
        warnings[#warnings + 1] = "Passing 'route_optimized' as a parameter is deprecated. "
            .. "Please specify 'route_optimized' only within the config dictionary."
    end
    return body
end

--- Whether Python takes a value of JSON for nothing.
local function is_nothing(value)
    return value == nil or value == json.null or value == false or value == 0 or value == ""
        or type(value) == "table" and next(value) == nil
end

--- The body where its parts are arguments.
local function body_of_parts(args, warnings)
    warnings[#warnings + 1] = "Passing 'name', 'config', and 'route_optimized' as separate parameters is deprecated. "
        .. "Please pass the full API request payload as a single dictionary in the 'config' parameter."
    local config = copy(args.config or {})
    local body = { name = args.name, config = config, route_optimized = args.route_optimized or false }
    for _, field in ipairs { "tags", "rate_limits" } do
        if not is_nothing(config[field]) then
            body[field] = config[field]
        end
        config[field] = nil
    end
    return body
end

--- The body of create_endpoint out of its arguments, in either of MLflow's forms; warns of what is
-- deprecated. The caller's tables stay as they are.
---@param args table
---@return table body
function endpoints.create_body(args)
    local warnings = {}
    local is_whole = args.config and args.config.config ~= nil
    local body = (is_whole and whole_body or body_of_parts)(args, warnings)
    check_name(body.name)
    endpoints.check_inner_config(body)
    for _, warning in ipairs(warnings) do
        notice.once(warning)
    end
    return body
end

--- The body of create_provisioned_throughput_endpoint.
---@param args table
---@return table body
function endpoints.provisioned_body(args)
    check_name(args.config.name)
    return endpoints.check_inner_config(args.config)
end

--- Warns that update_endpoint is deprecated.
function endpoints.warn_of_update()
    notice.once("The `update_endpoint` method is deprecated. Use the specific update methods: "
        .. "`update_endpoint_config`, `update_endpoint_tags`, `update_endpoint_rate_limits`, "
        .. "`update_endpoint_ai_gateway`.")
end

-- Requests that change what an endpoint serves

--- Sends a change of what an endpoint serves, and notes for wait_endpoint which version of the
-- configuration it leads to.
---@async
---@param self table
---@param request moonflow.Request
---@return any answer
function endpoints.change(self, request)
    local answer = pipeline.send(self, request)
    wait.note(self, answer)
    return answer
end

local CREATE = retry.policies.create
local READ_BACK_TIME = 30 -- seconds
local SLACK = 5           -- seconds: what the server's time of an answer and of a creation may differ by

local function add_line(failure, line)
    failure.message = failure.message .. "\n" .. line
end

--- Whether an endpoint is younger than a call that began `seconds` ago, by the server's own clock where
-- its answer tells that; nil where it does not say how old it is.
local function is_younger(self, endpoint, seconds)
    local created = math.type(endpoint.creation_timestamp) and endpoint.creation_timestamp / 1000
    if not created then
        return nil
    end
    local date = self:last_response().headers.date
    local now = date and #date <= 64 and sys.http_date(date) or sys.time()
    return now - created <= seconds + SLACK
end

--- Looks whether the endpoint of a creation without an answer is there. Returns it where the creation
-- made it; else raises the failure with what was found.
local function read_back(self, request, failure, started)
    local name, options = request.json.name, copy(request.options or {})
    options.total_timeout = math.min(options.total_timeout or READ_BACK_TIME, READ_BACK_TIME)
    local ok, found = pcall(pipeline.send, self, {
        method = "GET",
        url = assert(url.join(settings.place(self).base .. "/api/2.0/serving-endpoints", name)),
        options = options,
    })
    local shown = check.show(name)
    if not ok and not (error.is(found) and found.http_status == 404) then
        add_line(failure, "reading it back failed too: " .. text.one_line(tostring(found.message or found), 200))
        raise(failure, 0)
    elseif not ok then
        add_line(failure, ("read back: there is no endpoint %s, so it was not created"):format(shown))
        failure.hint = "create it again: should it turn up meanwhile, the answer is RESOURCE_ALREADY_EXISTS"
        raise(failure, 0)
    end
    local younger = type(found) == "table" and is_younger(self, found, sys.monotonic() - started)
    if younger then
        notice.say(("create_endpoint got no answer (%s), but read back: the endpoint %s was created"):format(
            text.one_line(failure.message:match("^[^\n]*"), 200), shown))
        return found
    elseif younger == nil then
        add_line(failure, ("read back: there is an endpoint %s, but it does not say since when"):format(shown))
    else
        add_line(failure, ("read back: the endpoint %s was there before, so nothing was created"):format(shown))
        failure.hint = "update_endpoint_config changes an endpoint that is there"
    end
    return raise(failure, 0)
end

--- Sends a creation. Where it can not be known by its answer whether there was one, the endpoint is read back.
---@async
---@param self table
---@param request moonflow.Request
---@return table endpoint
function endpoints.create(self, request)
    local started = sys.monotonic()
    local ok, answer = pcall(pipeline.send, self, request)
    if not ok then
        if not error.is(answer) or not retry.is_outcome_unknown(CREATE, answer) then
            raise(answer, 0)
        end
        answer = read_back(self, request, answer, started)
    end
    wait.note(self, answer)
    return answer
end

return endpoints
