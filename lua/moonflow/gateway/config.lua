--- The endpoints that a file describes: checked, and each with the function that answers it.
local check = require "moonflow.check"
local error = require "moonflow.error"
local limits = require "moonflow.gateway.limits"

local config = {}

local TYPES = { ["llm/v1/chat"] = true, ["llm/v1/completions"] = true, ["llm/v1/embeddings"] = true }
local FIELDS = {
    name = true, endpoint_type = true, model = true, limit = true, fault = true, handler = true, target = true,
    endpoint = true, options = true, targets = true,
}
local TARGET_FIELDS = { target = true, endpoint = true, options = true, weight = true, fallback = true }
local MODEL_FIELDS = { name = true, provider = true }
local LIMIT_FIELDS = { calls = true, renewal_period = true, key = true }
local NAME_MAX = 256 -- bytes

local function refuse(where, message, hint)
    error.raise { kind = "config", message = ("%s: %s"):format(where, message), hint = hint }
end

local function check_fields(given, fields, where)
    if type(given) ~= "table" then
        refuse(where, "a table expected, not " .. check.show(given))
    end
    for name in next, given do
        if not fields[name] then
            refuse(where, check.show(name) .. " is no field of this", check.hint(name, check.sorted_keys(fields)))
        end
    end
end

--- Checks a value that may be left out.
local function check_type(value, expected, what, where)
    if value ~= nil and type(value) ~= expected then
        refuse(where, ("%s must be a %s, not %s"):format(what, expected, check.show(value)))
    end
end

local function check_name(name, where)
    if type(name) ~= "string" or #name > NAME_MAX or not name:find("^[%w_.%-]+$") then
        refuse(where, "the name must be made of letters, digits, \"_\", \"-\" and \".\", not " .. check.show(name))
    end
end

local function check_limit(limit, where)
    if limit == nil then
        return nil
    end
    check_fields(limit, LIMIT_FIELDS, where .. ", limit")
    if math.type(limit.calls) ~= "integer" or limit.calls < 1 then
        refuse(where, "limit.calls must be an integer above 0, not " .. check.show(limit.calls))
    elseif not limits.read_period(limit.renewal_period) then
        refuse(where, "limit.renewal_period can not be " .. check.show(limit.renewal_period),
            check.hint(tostring(limit.renewal_period), check.sorted_keys(limits.PERIODS)))
    end
    check_type(limit.key, "string", "limit.key", where)
    return { calls = limit.calls, renewal_period = limit.renewal_period, key = limit.key }
end

local function check_faults(given, where)
    local list = {}
    if given ~= nil then
        local check_fault = require("moonflow.gateway.faults").check
        for i, fault in ipairs(type(given) == "table" and given[1] and given or { given }) do
            list[i] = check_fault(fault, where)
        end
    end
    return list
end

local function check_target(given, name, where)
    check_fields(given, TARGET_FIELDS, where)
    if type(given.target) ~= "string" then
        refuse(where, "target must be a target's URI, not " .. check.show(given.target))
    elseif given.weight ~= nil and not (type(given.weight) == "number" and given.weight >= 0
        and given.weight < math.huge) then
        refuse(where, "weight must be a number from 0, not " .. check.show(given.weight))
    end
    check_type(given.endpoint, "string", "endpoint", where)
    check_type(given.options, "table", "options", where)
    check_type(given.fallback, "boolean", "fallback", where)
    return {
        target = given.target, endpoint = given.endpoint or name, options = given.options, weight = given.weight,
        fallback = given.fallback,
    }
end

--- The list of targets that an endpoint is passed on to.
local function targets_of(given, where)
    if given.target ~= nil then
        return { check_target({ target = given.target, endpoint = given.endpoint, options = given.options },
            given.name, where) }
    elseif type(given.targets) ~= "table" or #given.targets == 0 then
        refuse(where, "targets must be a list")
    end
    local list, has_first = {}, false
    for i, target in ipairs(given.targets) do
        list[i] = check_target(target, given.name, ("%s, targets[%d]"):format(where, i))
        has_first = has_first or not list[i].fallback
    end
    if not has_first then
        refuse(where, "one of the targets must be no fallback")
    end
    return list
end

local function check_endpoint(given, index)
    local where = ("endpoint %d"):format(index)
    if type(given) == "table" and type(given.name) == "string" then
        check_name(given.name, where)
        where = "endpoint " .. given.name
    end
    check_fields(given, FIELDS, where)
    check_name(given.name, where)
    if not TYPES[given.endpoint_type] then
        refuse(where, "endpoint_type can not be " .. check.show(given.endpoint_type),
            check.hint(tostring(given.endpoint_type), check.sorted_keys(TYPES)))
    end
    local ways = (given.handler ~= nil and 1 or 0) + (given.target ~= nil and 1 or 0)
        + (given.targets ~= nil and 1 or 0)
    if ways ~= 1 then
        refuse(where, "it needs one of handler, target and targets")
    elseif given.handler ~= nil and type(given.handler) ~= "function" then
        refuse(where, "handler must be a function, not " .. type(given.handler))
    end
    local targets = not given.handler and targets_of(given, where) or nil
    local model = given.model or {}
    check_fields(model, MODEL_FIELDS, where .. ", model")
    check_type(model.name, "string", "model.name", where)
    check_type(model.provider, "string", "model.provider", where)
    return {
        name = given.name,
        endpoint_type = given.endpoint_type,
        model = {
            name = model.name or targets and targets[1].endpoint or given.name,
            provider = model.provider or "moonflow",
        },
        limit = check_limit(given.limit, where),
        faults = check_faults(given.fault, where),
        targets = targets,
        produce = given.handler,
    }
end

--- Checks the endpoints.
-- @tparam table given what the file returned
-- @treturn table a list of tables of its own: name, endpoint_type, model, limit, faults, targets, and
-- `produce`, the function that answers. Raises an error of kind "config" that names the endpoint and the field.
function config.check(given)
    local list, seen = {}, {}
    if type(given) ~= "table" or #given == 0 then
        error.raise { kind = "config", message = "a list of endpoints expected" }
    end
    for key in next, given do
        if math.type(key) ~= "integer" or key < 1 or key > #given then
            error.raise {
                kind = "config",
                message = ("a list of endpoints expected, without the field %s"):format(check.show(key)),
                hint = "return { { name = ..., endpoint_type = ..., ... }, ... }",
            }
        end
    end
    for i, one in ipairs(given) do
        local endpoint = check_endpoint(one, i)
        if seen[endpoint.name] then
            refuse("endpoint " .. endpoint.name, "there are two of this name")
        end
        seen[endpoint.name] = true
        endpoint.produce = endpoint.produce or require("moonflow.gateway.forward").produce(endpoint)
        list[i] = endpoint
    end
    return list
end

return config
