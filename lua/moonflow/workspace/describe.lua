--- Endpoints as Databricks' API shows them.
local json = require "moonflow.json"
local tables = require "moonflow.tables"

local copy = tables.copy

local describe = {}

--- What the entities of a configuration are doing.
local function deployment(config, is_active)
    if is_active then
        return { deployment = "DEPLOYMENT_READY", deployment_state_message = "" }
    elseif config.failure then
        return { deployment = "DEPLOYMENT_FAILED", deployment_state_message = config.failure }
    end
    return { deployment = "DEPLOYMENT_CREATING", deployment_state_message = "Deploying" }
end

--- An entity under its older name.
local function as_model(entity)
    local model = copy(entity)
    model.model_name, model.model_version = model.entity_name, model.entity_version
    model.entity_name, model.entity_version = nil, nil
    return model
end

local function describe_config(config, is_active)
    local served, models = json.array {}, json.array {}
    for i, entity in ipairs(config.entities) do
        local shown = copy(entity)
        shown.creator, shown.creation_timestamp = config.creator, config.started
        shown.state = deployment(config, is_active)
        served[i], models[i] = shown, as_model(shown)
    end
    return {
        config_version = config.version, served_entities = served,
        served_models = config.field == "served_models" and models or nil,
        start_time = not is_active and config.started or nil,
        traffic_config = { routes = config.routes },
    }
end

local function list(values)
    local items = json.array {}
    for i, value in ipairs(values) do
        items[i] = value
    end
    return items
end

--- The tags as a list.
---@param endpoint table
---@return table
function describe.tags(endpoint)
    return list(endpoint.tags)
end

--- Where a route-optimised endpoint is asked, and what a token for it says.
local function data_plane(endpoint, base)
    return { query_info = {
        endpoint_url = base .. "/serving-endpoints/" .. endpoint.name .. "/invocations",
        authorization_details = json.encode(json.array { {
            type = "workspace_permission", object_type = "serving-endpoints",
            object_path = "/serving-endpoints/" .. endpoint.id,
            actions = json.array { "query_inference_endpoint" },
        } }),
    } }
end

--- What a list shows of an endpoint.
---@param endpoint table
---@return table
function describe.summary(endpoint)
    return {
        name = endpoint.name, id = endpoint.id, creator = endpoint.creator,
        creation_timestamp = endpoint.created, last_updated_timestamp = endpoint.updated,
        description = endpoint.description, task = endpoint.task,
        state = { ready = endpoint.active and "READY" or "NOT_READY", config_update = endpoint.update },
        config = endpoint.active and describe_config(endpoint.active, true) or nil,
        tags = describe.tags(endpoint), permission_level = endpoint.permission_level or "CAN_MANAGE",
        route_optimized = endpoint.route_optimized or false, ai_gateway = endpoint.ai_gateway,
        budget_policy_id = endpoint.budget_policy_id,
    }
end

--- All that is shown of an endpoint.
---@param endpoint table
---@param base string the URL of this server, as its client knows it
---@return table
function describe.detailed(endpoint, base)
    local shown = describe.summary(endpoint)
    shown.pending_config = endpoint.pending and describe_config(endpoint.pending, false) or nil
    shown.email_notifications, shown.telemetry_config = endpoint.email_notifications, endpoint.telemetry_config
    if endpoint.route_optimized then
        shown.data_plane_info = data_plane(endpoint, base)
        shown.endpoint_url = shown.data_plane_info.query_info.endpoint_url
    end
    return shown
end

return describe
