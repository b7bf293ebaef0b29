--- The limits of an endpoint: calls and tokens in a minute, for all together, for each user or for one service
-- principal. Those of groups are kept but never reached: nobody is in a group here.
local check = require "moonflow.check"
local json = require "moonflow.json"
local limits = require "moonflow.gateway.limits"
local reply = require "moonflow.workspace.reply"

local refuse = reply.refuse

local quota = {}

local LIMITS_MAX = 20
local COUNT_MAX = 2 ^ 53
local PRINCIPAL_MAX = 256 -- bytes
local EVERYBODY = ""      -- the peer of a limit for all together
local KEYS = { endpoint = true, user = true, user_group = true, service_principal = true }

local function read_count(value, where)
    if value ~= nil and (math.type(value) ~= "integer" or value < 0 or value > COUNT_MAX) then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an integer from 0, not %s", where, check.show(value))
    end
    return value
end

local function read_limit(given, where)
    if type(given) ~= "table" then
        refuse("INVALID_PARAMETER_VALUE", "%s must be an object", where)
    end
    local limit = {
        calls = read_count(given.calls, where .. ".calls"), tokens = read_count(given.tokens, where .. ".tokens"),
        key = given.key or "endpoint", renewal_period = given.renewal_period, principal = given.principal,
    }
    if not limit.calls and not limit.tokens then
        refuse("INVALID_PARAMETER_VALUE", "%s needs calls or tokens", where)
    elseif limit.renewal_period ~= "minute" then
        refuse("INVALID_PARAMETER_VALUE", "%s.renewal_period must be \"minute\"", where)
    elseif not KEYS[limit.key] then
        refuse("INVALID_PARAMETER_VALUE", "%s.key must be one of %s", where,
            table.concat(check.sorted_keys(KEYS), ", "))
    elseif limit.principal ~= nil and (type(limit.principal) ~= "string" or #limit.principal > PRINCIPAL_MAX) then
        refuse("INVALID_PARAMETER_VALUE", "%s.principal must be a string of at most %d bytes", where, PRINCIPAL_MAX)
    end
    return limit
end

--- Reads a list of limits.
---@param given any
---@param where string for messages
---@return table? list nil where there is none
function quota.read(given, where)
    if given == nil then
        return nil
    elseif type(given) ~= "table" or not json.is_array(given) or #given > LIMITS_MAX then
        refuse("INVALID_PARAMETER_VALUE", "%s must be a list of at most %d limits", where, LIMITS_MAX)
    end
    local list = json.array {}
    for i, one in ipairs(given) do
        list[i] = read_limit(one, ("%s[%d]"):format(where, i - 1))
    end
    return list
end

--- Makes the counters of some limits.
---@param list? table what `quota.read` gave
---@param clock? fun(): number seconds, monotonic
---@return table
function quota.counters(list, clock)
    local counters = {}
    for i, limit in ipairs(list or {}) do
        local counter = { limit = limit }
        if limit.calls then
            counter.calls = limits.new({ calls = limit.calls, renewal_period = "minute" }, clock)
        end
        if limit.tokens then
            counter.tokens = limits.new({ calls = limit.tokens, renewal_period = "minute" }, clock)
        end
        counters[i] = counter
    end
    return counters
end

--- Who shares a limit with somebody; nil where it is not for them.
local function peer_of(limit, who)
    if limit.key == "endpoint" then
        return EVERYBODY
    elseif limit.key == "user" then
        return who.id
    end
    return limit.key == "service_principal" and limit.principal == who.client_id and who.id or nil
end

local function refuse_call(name, count, what, seconds)
    reply.refuse_with({ ["Retry-After"] = ("%d"):format(math.max(1, math.ceil(seconds))) }, "REQUEST_LIMIT_EXCEEDED",
        ("REQUEST_LIMIT_EXCEEDED: Exceeded rate limit of %d %s per minute for endpoint %s."):format(count, what, name))
end

--- Counts a call, or refuses it. Tokens are known behind a call: the one that passes a limit is the last.
---@param counters table
---@param name string the endpoint's
---@param who table
---@return fun(tokens: integer) spend to be told what the call took
function quota.take(counters, name, who)
    local taken = {}
    for _, counter in ipairs(counters) do
        local peer = peer_of(counter.limit, who)
        if peer and counter.calls then
            local remaining, seconds = limits.take(counter.calls, peer)
            if not remaining then
                refuse_call(name, counter.calls.calls, "queries", seconds)
            end
        end
        if peer and counter.tokens then
            local remaining, seconds = limits.take(counter.tokens, peer)
            if not remaining then
                refuse_call(name, counter.tokens.calls, "tokens", seconds)
            end
            local window = counter.tokens.windows[peer]
            if window then -- the call itself is no token
                window.calls = window.calls - 1
                taken[#taken + 1] = window
            end
        end
    end
    return function(tokens)
        for _, window in ipairs(taken) do
            window.calls = window.calls + tokens
        end
    end
end

return quota
