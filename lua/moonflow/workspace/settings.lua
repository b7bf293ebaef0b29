--- The parts of an endpoint besides what it serves: tags, limits, the AI gateway, notifications, telemetry.
local check = require "moonflow.check"
local describe = require "moonflow.workspace.describe"
local json = require "moonflow.json"
local quota = require "moonflow.workspace.quota"
local reply = require "moonflow.workspace.reply"

local refuse = reply.refuse

local settings = {}

local TAGS_MAX = 100
local TEXT_MAX = 1024 -- bytes of a tag or a description
local GATEWAY = {
    "fallback_config", "guardrails", "inference_table_config", "usage_tracking_config",
}

local function check_object(value, what)
    if value ~= nil and (type(value) ~= "table" or json.is_array(value) and #value > 0) then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object", what)
    end
    return value
end

local function check_list(value, what)
    if value ~= nil and (type(value) ~= "table" or not json.is_array(value)) then
        refuse("INVALID_PARAMETER_VALUE", "%s must be a list", what)
    end
    return value or {}
end

local function check_text(value, what, may_miss)
    if value == nil and may_miss then
        return nil
    elseif type(value) ~= "string" or #value > TEXT_MAX then
        refuse("INVALID_PARAMETER_VALUE", "%s must be a string of at most %d bytes, not %s", what, TEXT_MAX,
            check.show(value))
    end
    return value
end

local function remove_tag(tags, key)
    for i, tag in ipairs(tags) do
        if tag.key == key then
            table.remove(tags, i)
            return
        end
    end
end

--- Tags with others added and some removed; a tag that is there gets the new value.
local function change_tags(old, added, removed)
    local tags = { table.unpack(old) }
    for i, key in ipairs(check_list(removed, "delete_tags")) do
        remove_tag(tags, check_text(key, ("delete_tags[%d]"):format(i - 1)))
    end
    for i, tag in ipairs(check_list(added, "add_tags")) do
        check_object(tag, ("add_tags[%d]"):format(i - 1))
        local key = check_text(tag.key, ("add_tags[%d].key"):format(i - 1))
        local value = check_text(tag.value, ("add_tags[%d].value"):format(i - 1), true)
        remove_tag(tags, key)
        tags[#tags + 1] = { key = key, value = value }
        if #tags > TAGS_MAX then
            refuse("INVALID_PARAMETER_VALUE", "an endpoint may have %d tags", TAGS_MAX)
        end
    end
    return tags
end

--- PATCH .../tags
function settings.tags(endpoint, body)
    endpoint.tags = change_tags(endpoint.tags, body.add_tags, body.delete_tags)
    return reply.ok { tags = describe.tags(endpoint) }
end

--- PUT .../rate-limits
function settings.rate_limits(endpoint, body, clock)
    local list = quota.read(body.rate_limits, "rate_limits")
    endpoint.legacy_counters = quota.counters(list, clock)
    return reply.ok { rate_limits = list or json.array {} }
end

local function read_gateway(given)
    local kept = {}
    for _, name in ipairs(GATEWAY) do
        kept[name] = check_object(given[name], name)
    end
    kept.rate_limits = quota.read(given.rate_limits, "rate_limits")
    return kept
end

--- PUT .../ai-gateway
function settings.gateway(endpoint, body, clock)
    local kept = read_gateway(body)
    endpoint.ai_gateway = next(kept) ~= nil and kept or nil
    endpoint.counters = quota.counters(kept.rate_limits, clock)
    return reply.ok(kept)
end

--- PATCH .../notifications
function settings.notifications(endpoint, body)
    local given, kept = check_object(body.email_notifications, "email_notifications") or {}, {}
    for _, name in ipairs { "on_update_success", "on_update_failure" } do
        local list = check_list(given[name], "email_notifications." .. name)
        for _, address in ipairs(list) do
            check_text(address, "an address of email_notifications")
        end
        kept[name] = given[name]
    end
    endpoint.email_notifications = next(kept) ~= nil and kept or nil
    return reply.ok { name = endpoint.name, email_notifications = kept }
end

--- PATCH .../telemetry-config
function settings.telemetry(endpoint, body)
    endpoint.telemetry_config = check_object(body.telemetry_config, "telemetry_config")
    return reply.ok { name = endpoint.name, telemetry_config = endpoint.telemetry_config }
end

--- Reads all of them out of the body of a creation.
---@param endpoint table
---@param body table
---@param clock fun(): number
function settings.read(endpoint, body, clock)
    endpoint.tags = change_tags({}, body.tags, nil)
    endpoint.description = check_text(body.description, "description", true)
    endpoint.budget_policy_id = check_text(body.budget_policy_id, "budget_policy_id", true)
    if body.route_optimized ~= nil and type(body.route_optimized) ~= "boolean" then
        refuse("INVALID_PARAMETER_VALUE", "route_optimized must be true or false")
    end
    endpoint.route_optimized = body.route_optimized
    settings.rate_limits(endpoint, body, clock)
    settings.gateway(endpoint, check_object(body.ai_gateway, "ai_gateway") or {}, clock)
    settings.notifications(endpoint, body)
    settings.telemetry(endpoint, body)
end

return settings
