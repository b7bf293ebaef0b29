--- The Databricks face of `moonflow serve` without a server around it: a clock of its own, and requests by a line.
local error = require "moonflow.error"
local gateway = require "moonflow.gateway"
local json = require "moonflow.json"
local workspace = require "moonflow.workspace"

local support = {}

--- A configuration with external models: one for each secret, named "a", "b", ...
function support.external(...)
    local entities = json.array {}
    for i, secret in ipairs { ... } do
        entities[i] = { name = string.char(96 + i), external_model = {
            provider = "openai", name = "gpt-4o-mini", task = "llm/v1/chat",
            openai_config = { openai_api_key_plaintext = secret },
        } }
    end
    return { served_entities = entities }
end

--- A configuration with a custom model.
function support.custom(version)
    return { served_entities = json.array { { name = "m", entity_name = "model", entity_version = version or "1" } } }
end

local World = {}
World.__index = World

--- Asks: "GET /path", a body as a table or a text, and headers besides the bearer.
---@return integer status
---@return any body decoded where it is JSON
---@return table headers
---@return string raw
function World:ask(line, body, headers)
    local method, path = line:match("^(%S+) (%S+)$")
    local all = { authorization = "Bearer person", host = "localhost:5000" }
    for name, value in pairs(headers or {}) do
        all[name] = value or nil
    end
    local status, answered, raw = self.gateway:handle {
        method = method, path = path, headers = all, peer = "127.0.0.1",
        body = type(body) == "table" and assert(json.encode(body)) or body or "",
    }
    return status, type(raw) == "string" and json.decode(raw) or raw, answered, raw
end

--- The answer of a request that must be 200.
function World:get(line, body, headers)
    local status, answered = self:ask(line, body, headers)
    assert(status == 200, ("%s: %s %s"):format(line, status, json.encode(answered)))
    return answered
end

--- The state of an endpoint in one text, with the versions that serve and are to come.
function World:state(name)
    local endpoint = self:get("GET /api/2.0/serving-endpoints/" .. name)
    return ("%s %s %s %s"):format(endpoint.state.ready, endpoint.state.config_update,
        endpoint.config and endpoint.config.config_version or "-",
        endpoint.pending_config and endpoint.pending_config.config_version or "-")
end

function World:create(name, config, more)
    local body = { name = name, config = config or support.custom() }
    for field, value in pairs(more or {}) do
        body[field] = value
    end
    return self:get("POST /api/2.0/serving-endpoints", body)
end

local function handler(inputs)
    if inputs.messages[1].content == "fail" then
        error.raise { kind = "http", http_status = 429, message = "too many" }
    end
    return "You said: " .. inputs.messages[1].content
end

--- Serves a file with one endpoint, in place of the one before.
---@param name string the endpoint's
function World:read_again(name)
    local options = self.options
    self.gateway = gateway.new({
        { name = name, endpoint_type = "llm/v1/chat", limit = options.limit, handler = handler },
    }, { token = options.token, workspace = self.workspace, settings = options.settings })
end

--- Makes one, with the endpoint "file" that the served file has.
---@param options? table token, deploy, settings
function support.new(options)
    options = options or {}
    local world = setmetatable({ now = 1000.0 }, World)
    world.workspace = workspace.new {
        token = options.token, deploy = options.deploy,
        clock = function() return world.now end,
    }
    world.options = options
    world:read_again "file"
    return world
end

return support
