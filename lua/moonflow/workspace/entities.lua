--- What an endpoint is to serve: its entities and how the traffic is shared among them.
local check = require "moonflow.check"
local external = require "moonflow.workspace.external"
local json = require "moonflow.json"
local reply = require "moonflow.workspace.reply"

local refuse = reply.refuse

local entities = {}

local ENTITIES_MAX = 15
local NAME_MAX = 63       -- bytes of a name
local MODEL_NAME_MAX = 512
local VARIABLES_MAX = 30
local VARIABLE_MAX = 4096 -- bytes

--- The fields of an entity besides its name and model, and their types.
local FIELDS = {
    workload_size = "string", workload_type = "string", scale_to_zero_enabled = "boolean",
    min_provisioned_concurrency = "count", max_provisioned_concurrency = "count",
    min_provisioned_throughput = "count", max_provisioned_throughput = "count", provisioned_model_units = "count",
    instance_profile_arn = "string",
}
local SIZES = { "workload_size", "workload_type", "scale_to_zero_enabled", "entity_name", "entity_version" }

--- Checks a name of an endpoint or of what it serves.
---@param name any
---@param what string for messages
---@return string name
function entities.check_name(name, what)
    if type(name) ~= "string" or #name > NAME_MAX or not name:find("^[%w_-]+$") then
        refuse("INVALID_PARAMETER_VALUE", "%s must be 1 to %d letters, digits, '-' and '_', not %s", what, NAME_MAX,
            check.show(name))
    end
    return name
end

--- A value by its type; Databricks takes a number in a string as well.
local function read_field(value, kind, where)
    if kind == "count" and type(value) == "string" and #value <= 18 then
        value = math.tointeger(tonumber(value)) or value
    end
    if not check.types[kind].test(value) or kind == "string" and #value > MODEL_NAME_MAX then
        refuse("INVALID_PARAMETER_VALUE", "%s must be %s, not %s", where, check.types[kind].doc, check.show(value))
    end
    return value
end

local function read_variables(given, where)
    if type(given) ~= "table" or json.is_array(given) then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object of strings", where)
    end
    local kept, count = {}, 0
    for name, value in next, given do
        count = count + 1
        if type(value) ~= "string" or #name + #value > VARIABLE_MAX or count > VARIABLES_MAX then
            refuse("INVALID_PARAMETER_VALUE", "%s must be at most %d strings of at most %d bytes", where,
                VARIABLES_MAX, VARIABLE_MAX)
        end
        kept[name] = value
    end
    return kept
end

--- The model of an entity that Databricks itself would run.
local function read_model(given, kept, where)
    local name = given.entity_name or given.model_name
    local version = given.entity_version or given.model_version
    if name == nil then
        refuse("INVALID_PARAMETER_VALUE", "%s needs entity_name or external_model", where)
    end
    if math.type(version) == "integer" then
        version = tostring(version)
    end
    kept.entity_name = read_field(name, "string", where .. ".entity_name")
    kept.entity_version = version ~= nil and read_field(version, "string", where .. ".entity_version") or nil
    if kept.workload_size and (kept.min_provisioned_concurrency or kept.max_provisioned_concurrency) then
        refuse("INVALID_PARAMETER_VALUE", "%s: workload_size and provisioned concurrency exclude each other", where)
    end
    return kept.entity_version and kept.entity_name .. "-" .. kept.entity_version or kept.entity_name
end

local function read_external(given, kept, where)
    for _, name in ipairs(SIZES) do
        if given[name] ~= nil then
            refuse("INVALID_PARAMETER_VALUE", "%s: %s can not be given beside external_model", where, name)
        end
    end
    kept.external_model = external.read(given.external_model, where .. ".external_model")
    return (kept.external_model.name:gsub("[.:]", "-"))
end

local function read_entity(given, where)
    if type(given) ~= "table" or json.is_array(given) then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object", where)
    end
    local kept = {}
    for name, kind in next, FIELDS do
        if given[name] ~= nil then
            kept[name] = read_field(given[name], kind, where .. "." .. name)
        end
    end
    if given.environment_vars ~= nil then
        kept.environment_vars = read_variables(given.environment_vars, where .. ".environment_vars")
    end
    local default = (given.external_model ~= nil and read_external or read_model)(given, kept, where)
    kept.name = given.name ~= nil and entities.check_name(given.name, where .. ".name") or default
    return kept
end

--- The list of a body: served_entities, or served_models as it was called before.
local function list_of(body)
    local given, field = body.served_entities, "served_entities"
    if given == nil then
        given, field = body.served_models, "served_models"
    elseif body.served_models ~= nil then
        refuse("INVALID_PARAMETER_VALUE", "only one of served_entities and served_models may be given")
    end
    if type(given) ~= "table" or not json.is_array(given) or #given == 0 then
        refuse("INVALID_PARAMETER_VALUE", "config.served_entities must be a list of at least one entity")
    elseif #given > ENTITIES_MAX then
        refuse("INVALID_PARAMETER_VALUE", "an endpoint may serve %d entities, not %d", ENTITIES_MAX, #given)
    end
    return given, field
end

--- External models and others do not stand side by side; external ones have one task.
local function check_together(list)
    local first = list[1].external_model
    for _, entity in ipairs(list) do
        local model = entity.external_model
        if (model ~= nil) ~= (first ~= nil) then
            refuse("INVALID_PARAMETER_VALUE", "an endpoint serves external models, or others, but not both")
        elseif model and model.task ~= first.task then
            refuse("INVALID_PARAMETER_VALUE", "all external models of an endpoint have one task, not %s and %s",
                first.task, model.task)
        end
    end
end

local function read_route(route, where, by_name, seen)
    local name = type(route) == "table" and (route.served_entity_name or route.served_model_name)
    if type(name) ~= "string" or not by_name[name] then
        refuse("INVALID_PARAMETER_VALUE", "%s: nothing that is served has the name %s", where, check.show(name or nil))
    elseif seen[name] then
        refuse("INVALID_PARAMETER_VALUE", "%s: there are two routes to %s", where, name)
    end
    seen[name] = true
    local share = route.traffic_percentage
    if math.type(share) ~= "integer" or share < 0 or share > 100 then
        refuse("INVALID_PARAMETER_VALUE", "%s: traffic_percentage must be an integer from 0 to 100, not %s", where,
            check.show(share))
    end
    return { served_entity_name = name, served_model_name = name, traffic_percentage = share }
end

local function read_routes(traffic, list, by_name)
    local given = type(traffic) == "table" and traffic.routes
    if given == nil or given == false and traffic == nil then
        if #list > 1 then
            refuse("INVALID_PARAMETER_VALUE", "traffic_config is required where more than one entity is served")
        end
        local name = list[1].name
        return json.array { { served_entity_name = name, served_model_name = name, traffic_percentage = 100 } }
    elseif type(given) ~= "table" or not json.is_array(given) then
        refuse("INVALID_PARAMETER_VALUE", "traffic_config.routes must be a list")
    end
    local routes, sum, seen = json.array {}, 0, {}
    for i, route in ipairs(given) do
        routes[i] = read_route(route, ("traffic_config.routes[%d]"):format(i - 1), by_name, seen)
        sum = sum + routes[i].traffic_percentage
    end
    if sum ~= 100 then
        refuse("INVALID_PARAMETER_VALUE", "The traffic percentages must add up to 100, not %d.", sum)
    end
    return routes
end

--- Reads a configuration.
---@param body any served_entities or served_models, traffic_config
---@return table config `entities`, `by_name`, `routes`, `task` (of external models), `field` (of the list)
function entities.read(body)
    if type(body) ~= "table" or json.is_array(body) then
        refuse("INVALID_PARAMETER_VALUE", "config is required, and is an object")
    end
    local given, field = list_of(body)
    local config = { entities = json.array {}, by_name = {}, field = field }
    for i, one in ipairs(given) do
        local where = ("%s[%d]"):format(field, i - 1)
        local entity = read_entity(one, where)
        if config.by_name[entity.name] then
            refuse("INVALID_PARAMETER_VALUE", "%s: there are two entities of the name %s", where, entity.name)
        end
        config.entities[i], config.by_name[entity.name] = entity, entity
    end
    check_together(config.entities)
    config.routes = read_routes(body.traffic_config, config.entities, config.by_name)
    config.task = config.entities[1].external_model and config.entities[1].external_model.task
    return config
end

return entities
