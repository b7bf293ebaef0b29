--- The endpoints of the served file as those of a workspace: they are there, and ready.
local json = require "moonflow.json"
local life = require "moonflow.workspace.life"

local served = {}

local CREATOR = "moonflow@localhost"

local function config_of(endpoint)
    local entity = {
        name = endpoint.name,
        external_model = {
            provider = endpoint.model.provider, name = endpoint.model.name, task = endpoint.endpoint_type,
        },
    }
    return {
        entities = json.array { entity }, by_name = { [endpoint.name] = entity }, field = "served_entities",
        routes = json.array {
            { served_entity_name = endpoint.name, served_model_name = endpoint.name, traffic_percentage = 100 },
        },
        version = 1, creator = CREATOR,
    }
end

--- All of them by name. One that was there before keeps its id and its times.
---@param endpoints table[] of `moonflow.gateway`
---@param before table<string, table>
---@return table<string, table>
function served.all(endpoints, before)
    local all = {}
    for _, endpoint in ipairs(endpoints) do
        local shown = before[endpoint.name] or life.new(endpoint.name, CREATOR)
        shown.gateway, shown.version, shown.task = endpoint, 1, endpoint.endpoint_type
        shown.active = config_of(endpoint)
        shown.active.started = shown.created
        all[endpoint.name] = shown
    end
    return all
end

return served
