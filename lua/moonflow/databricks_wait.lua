--- Waits for a serving endpoint of Databricks: until the configuration that was asked for last serves,
-- and not one that was there before.
local check = require "moonflow.check"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local settings = require "moonflow.settings"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"
local url = require "moonflow.url"

local wait = {}

local GOALS = { ready = true, not_updating = true }

--- The signature of wait_endpoint.
---@type moonflow.Signature
wait.signature = {
    name = "wait_endpoint",
    params = {
        { name = "endpoint", type = "string", required = true, doc = "name of the endpoint" },
        {
            name = "timeout",
            type = "seconds",
            doc = "seconds; without it as long as its machines may take: 2100, on GPUs 3900, on large ones 7500",
        },
        { name = "until", type = "string", doc = "\"ready\", the default, or \"not_updating\"" },
        { name = "state", type = "string", doc = "the same: in Lua, \"until\" is a name only as [\"until\"] = ..." },
    },
    doc = "Waits until an endpoint serves the configuration that it was given last, and returns the endpoint.",
}

-- Databricks' own limits of a deployment by its machines, and five minutes (spec/databricks.md 3.3).
local SMALL, GPU, LARGE = 2100, 3900, 7500

local POLL_MAX = 10         -- seconds between two looks
local LOOK_TIME = 600       -- seconds that one look may take with its repetitions
local LAST_LOOK_TIME = 5    -- seconds that the one at the end of the time may take
local ENTITIES_SHOWN = 4

local FAILED = { UPDATE_FAILED = true, UPDATE_CANCELED = true }
local DEPLOYMENT_FAILED = { DEPLOYMENT_FAILED = true, DEPLOYMENT_ABORTED = true }

local function table_in(value, field)
    local inner = type(value) == "table" and value[field]
    return type(inner) == "table" and inner or {}
end

local function version_of(config)
    return math.type(config.config_version) == "integer" and config.config_version or nil
end

--- The entities that an endpoint is about to serve, or serves.
local function entities_of(endpoint)
    for _, config in ipairs { table_in(endpoint, "pending_config"), table_in(endpoint, "config") } do
        for _, field in ipairs { "served_entities", "served_models" } do
            local list = table_in(config, field)
            if list[1] ~= nil then
                return list
            end
        end
    end
    return {}
end

--- Notes which version of its configuration an endpoint is on the way to: what a change of it answered.
---@param self table
---@param endpoint any
function wait.note(self, endpoint)
    if type(endpoint) ~= "table" or type(endpoint.name) ~= "string" then
        return
    end
    self._awaited = self._awaited or {}
    local version = version_of(table_in(endpoint, "pending_config")) or version_of(table_in(endpoint, "config"))
    self._awaited[endpoint.name] = version and { version = version, id = endpoint.id }
end

--- The version that has to serve, or nil where any will do. One of an endpoint that was deleted
-- meanwhile says nothing of another with its name.
local function awaited_version(self, name, endpoint)
    local awaited = self._awaited and self._awaited[name]
    if awaited and awaited.id ~= endpoint.id then
        self._awaited[name] = nil
        return nil
    end
    return awaited and awaited.version
end

local function word(value, max)
    return type(value) == "string" and text.one_line(value, max) or "unknown"
end

local function entity_text(entity)
    local state = table_in(entity, "state")
    local said = state.deployment_state_message
    local message = type(said) == "string" and said ~= "" and (" (%s)"):format(text.one_line(said, 300)) or ""
    return ("%s %s%s"):format(word(type(entity) == "table" and entity.name, 64), word(state.deployment, 64), message)
end

--- What an endpoint's answer says of its state, for decisions and for people.
local function read_state(endpoint)
    local state = table_in(endpoint, "state")
    local seen = {
        ready = state.ready,
        update = state.config_update or state.update_state,
        active = version_of(table_in(endpoint, "config")),
        pending = version_of(table_in(endpoint, "pending_config")),
        failed_entity = nil,
    }
    local parts, entities = {}, entities_of(endpoint)
    for i, entity in ipairs(entities) do
        if i <= ENTITIES_SHOWN then
            parts[i] = entity_text(entity)
        end
        if DEPLOYMENT_FAILED[table_in(entity, "state").deployment] then
            seen.failed_entity = seen.failed_entity or entity
        end
    end
    if #entities > ENTITIES_SHOWN then
        parts[#parts + 1] = ("%d more"):format(#entities - ENTITIES_SHOWN)
    end
    local versions = seen.pending and (", version %d to come"):format(seen.pending)
        or seen.active and (", version %d"):format(seen.active) or ""
    seen.text = ("%s, %s%s"):format(word(seen.ready, 64), word(seen.update, 64), versions)
    seen.entities = table.concat(parts, "; ")
    return seen
end

local function is_reached(seen, goal, version)
    local is_new = not version or seen.active and seen.active >= version
    return seen.update == "NOT_UPDATING" and is_new and (goal == "not_updating" or seen.ready == "READY")
end

--- Whether the goal can not be reached any more. A failure of an earlier version is one that was there
-- before the change that is waited for.
local function is_lost(seen, goal, version)
    if FAILED[seen.update] then
        return not (version and seen.pending and seen.pending < version)
    end
    return goal == "ready" and seen.update == "NOT_UPDATING" and seen.ready ~= "READY" and seen.failed_entity ~= nil
end

local function default_timeout(endpoint)
    local seconds = SMALL
    for _, entity in ipairs(entities_of(endpoint)) do
        local kind = type(entity) == "table" and entity.workload_type
        if type(kind) == "string" and kind:find("GPU", 1, true) then
            seconds = math.max(seconds, kind:find("LARGE", 1, true) and LARGE or GPU)
        end
    end
    return seconds
end

local function raise_lost(name, seen)
    local entity = seen.failed_entity
    local served = type(entity) == "table" and type(entity.name) == "string" and text.one_line(entity.name, 64)
    error.raise {
        kind = "http",
        error_code = "INVALID_STATE",
        message = ("the endpoint %s can not be waited for any longer: %s\n%s"):format(check.show(name), seen.text,
            seen.entities),
        hint = ("get_endpoint_build_logs and get_endpoint_logs%s say more"):format(
            served and (" with served_model = %q"):format(served) or ""),
    }
end

local function raise_late(name, seen, goal, seconds)
    error.raise {
        kind = "timeout",
        message = ("the endpoint %s was not %s within %.4g s: %s\n%s"):format(check.show(name),
            goal == "ready" and "ready" or "done with its update", seconds, seen.text, seen.entities),
        hint = "it goes on by itself; wait_endpoint may be called again",
    }
end

--- The options of one look at the endpoint, which ends with the time that is left.
local function options_of_look(given, left)
    local options = {}
    for name, value in next, given or {} do
        options[name] = value
    end
    local longest = options.total_timeout or LOOK_TIME
    options.total_timeout = left and math.min(longest, math.max(left, LAST_LOOK_TIME)) or longest
    return options
end

local function goal_of(args)
    local goal = args["until"] or args.state or "ready"
    if not GOALS[goal] then
        error.raise {
            kind = "usage",
            message = ("wait_endpoint waits until \"ready\" or \"not_updating\", not %s"):format(check.show(goal)),
            hint = check.hint(goal, check.sorted_keys(GOALS)),
        }
    end
    return goal
end

--- Says what has changed since the last time.
local function tell(name, seen, before)
    local line = seen.entities ~= "" and seen.text .. "; " .. seen.entities or seen.text
    if line ~= before then
        notice.say(("endpoint %s: %s"):format(check.show(name), line))
    end
    return line
end

--- The method wait_endpoint: looks at the endpoint at once, then after 1, 2, 3 ... 10 seconds and up to
-- one more each. The new version of a configuration is the one that this client's last change of the
-- endpoint answered. Raises kind "http" where the update failed, with what the entities say of it, and
-- kind "timeout". States that it does not know are shown, and waited through.
---@async
---@param self table
---@param args table endpoint, timeout, until or state, options
---@return table endpoint
function wait.wait_endpoint(self, args)
    local goal, name, started = goal_of(args), args.endpoint, sys.monotonic()
    local address, err = url.join(settings.place(self).base .. "/api/2.0/serving-endpoints", name)
    if not address then
        error.raise(err)
    end
    local seconds, looks, told = args.timeout, 0, nil
    while true do
        local left = seconds and started + seconds - sys.monotonic()
        local endpoint = self:send { method = "GET", url = address, options = options_of_look(args.options, left) }
        seconds = seconds or default_timeout(endpoint)
        local seen = read_state(endpoint)
        local version = awaited_version(self, name, endpoint)
        told = tell(name, seen, told)
        if is_reached(seen, goal, version) then
            return endpoint
        elseif is_lost(seen, goal, version) then
            raise_lost(name, seen)
        end
        left = started + seconds - sys.monotonic()
        if left <= 0 then
            raise_late(name, seen, goal, seconds)
        end
        looks = looks + 1
        task.sleep(math.min(left, math.min(looks, POLL_MAX) + sys.random()))
    end
end

return wait
