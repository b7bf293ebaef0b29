--- The names of a target's endpoints for completion: asked for in the background, kept for a while,
-- and waited for so briefly that nobody notices.
local _task = require "moonflow._task"
local names = require "moonflow.repl.names"
local sys = require "moonflow.sys"

local endpoints = {}

local FRESH = 60     -- seconds that an answer holds
local AFTER_FAULT = 10 -- seconds until a target that failed is asked again
local PATIENCE = 0.3 -- seconds that Tab waits
local NAMES_MAX = 2000
local OPTIONS = { timeout = 5, connect_timeout = 2, total_timeout = 6, max_retries = 0 }

local known = {} -- target -> { names, until, task }

local function list(client)
    local found = {}
    local ok, answer = pcall(client.list_endpoints, client, { options = OPTIONS })
    if not ok or type(answer) ~= "table" then
        return nil
    end
    for _, endpoint in ipairs(answer) do
        if type(endpoint) == "table" and type(endpoint.name) == "string" and #found < NAMES_MAX then
            found[#found + 1] = endpoint.name
        end
    end
    return found
end

local function refresh(client, entry)
    entry.task = _task.spawn(function()
        local found = list(client)
        entry.names = found or entry.names
        entry.valid_until = sys.monotonic() + (found and FRESH or AFTER_FAULT)
        entry.task = nil
    end)
end

--- The names that are known of a client's target within a moment. From the host.
---@param client any
---@return string[]
function endpoints.of(client)
    local target = type(client) == "table" and rawget(client, "target_uri")
    if type(target) ~= "string" or type(names.field(client, "list_endpoints")) ~= "function" then
        return {}
    end
    local entry = known[target] or { names = {}, valid_until = 0 }
    known[target] = entry
    if not entry.task and sys.monotonic() >= entry.valid_until then
        refresh(client, entry)
    end
    if entry.task and #entry.names == 0 then
        pcall(_task.join, { entry.task }, PATIENCE)
    end
    return entry.names
end

--- Forgets what is known.
function endpoints.forget()
    known = {}
end

return endpoints
