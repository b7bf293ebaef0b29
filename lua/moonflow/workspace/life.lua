--- The life of an endpoint: a configuration that serves, one that is on the way to it, and what became of that.
-- Nothing here waits: an endpoint is brought up to date whenever somebody looks at it.
local sys = require "moonflow.sys"

local life = {}

local function now_ms()
    return math.floor(sys.time() * 1000)
end

--- 32 random digits.
---@return string
function life.new_id()
    local parts = {}
    for i = 1, 4 do
        parts[i] = ("%08x"):format(math.floor(sys.random() * 2 ^ 32))
    end
    return table.concat(parts)
end

--- A new endpoint that serves nothing yet.
---@param name string
---@param creator string
---@return table
function life.new(name, creator)
    local now = now_ms()
    return {
        name = name, creator = creator, id = life.new_id(), created = now, updated = now, version = 0,
        update = "NOT_UPDATING", tags = {}, access = {},
    }
end

--- Notes that something of an endpoint was changed.
function life.touch(endpoint)
    endpoint.updated = now_ms()
end

--- Whether an endpoint is on its way to another configuration.
function life.is_updating(endpoint)
    return endpoint.update == "IN_PROGRESS"
end

--- Puts an endpoint on its way to a configuration.
---@param endpoint table
---@param config table what `entities.read` gave
---@param who string
---@param plan table what `deploy.plan` gave
---@param now number seconds, monotonic
function life.begin(endpoint, config, who, plan, now)
    life.touch(endpoint)
    config.creator, config.started = who, endpoint.updated
    config.version = endpoint.version
    config.plan = { reads = plan.reads, over = plan.seconds and now + plan.seconds, fail = plan.fail, seen = 0 }
    endpoint.pending, endpoint.update = config, "IN_PROGRESS"
end

--- The version of the configuration that comes next.
function life.next_version(endpoint)
    endpoint.version = endpoint.version + 1
    return endpoint.version
end

--- Brings an endpoint up to date.
---@param endpoint table
---@param now number seconds, monotonic
---@param is_read boolean whether it is asked for its state
function life.settle(endpoint, now, is_read)
    if not life.is_updating(endpoint) then
        return
    end
    local pending = endpoint.pending
    local plan = pending.plan
    local is_over = plan.over and now >= plan.over or plan.reads and plan.seen >= plan.reads
    if is_read then
        plan.seen = plan.seen + 1
    end
    if not is_over then
        return
    end
    life.touch(endpoint)
    if plan.fail then
        pending.failure, endpoint.update = plan.fail, "UPDATE_FAILED"
        return
    end
    endpoint.active, endpoint.pending, endpoint.update = pending, nil, "NOT_UPDATING"
    endpoint.task = pending.task
end

return life
