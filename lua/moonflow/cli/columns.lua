--- What lists of endpoints and of deployments show of each, on every target.
local text = require "moonflow.text"

local columns = {}

local CELL_MAX = 200 -- bytes

local function string_in(value, field)
    local inner = type(value) == "table" and value[field]
    return type(inner) == "string" and inner ~= "" and inner or nil
end

local function shown(value)
    return value and text.one_line(value, CELL_MAX) or ""
end

local function column(title, find)
    return {
        title = title,
        cell = function(item)
            return shown(find(item))
        end,
    }
end

--- The name of what an entity serves: a registered model with its version, or another service's model.
local function entity_name(entity)
    local outside = type(entity) == "table" and (entity.external_model or entity.foundation_model)
    local name = string_in(outside, "name") or string_in(entity, "entity_name") or string_in(entity, "model_name")
    local version = string_in(entity, "entity_version") or string_in(entity, "model_version")
    return name and not outside and version and name .. ":" .. version or name or string_in(entity, "name")
end

local function model_of(endpoint)
    local model = string_in(endpoint.model, "name") or string_in(endpoint, "model")
    local config = type(endpoint.config) == "table" and endpoint.config or endpoint.pending_config
    local entities = type(config) == "table" and (config.served_entities or config.served_models)
    if model or type(entities) ~= "table" then
        return model
    end
    local names = {}
    for _, entity in ipairs(entities) do
        names[#names + 1] = entity_name(entity)
    end
    return table.concat(names, ", ")
end

local function state_of(endpoint)
    local state = endpoint.state
    local update = string_in(state, "config_update")
    local ready = string_in(state, "ready") or string_in(endpoint, "state") or string_in(endpoint, "status")
    return ready and update and update ~= "NOT_UPDATING" and ready .. ", " .. update or ready
end

local name = column("NAME", function(item)
    return string_in(item, "name")
end)

columns.endpoints = {
    name,
    column("TYPE", function(item)
        return string_in(item, "endpoint_type") or string_in(item, "task") or string_in(item, "object")
    end),
    column("MODEL", model_of),
    column("STATE", state_of),
}

columns.deployments = {
    name,
    column("FLAVOR", function(item)
        return string_in(item, "flavor")
    end),
    column("MODEL", function(item)
        return string_in(item, "model_uri")
    end),
    column("STATE", state_of),
}

return columns
