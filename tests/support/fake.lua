--- moonflow's Lua half without a network, a clock or an environment: answers are played from a list,
-- sleeping only turns the clock on, and what was sent, waited and said is kept.
--
--     local world = fake.world { answers = { { status = 503 }, { body = "{}" } }, environ = { HOME = "/x" } }
--     local client = world.deployments.get_deploy_client("http://h")
--     ...
--     world:close()
local json = require "moonflow.json"

local fake = {}

-- Modules written in C stay as they are; all others are loaded anew into each world.
local KEPT = {
    ["moonflow._task"] = true, ["moonflow.auth"] = true, ["moonflow.error"] = true, ["moonflow.host"] = true,
    ["moonflow.json"] = true, ["moonflow.target"] = true, ["moonflow.url"] = true,
}

local World = {}

--- Modules of this world by their last names.
function World.__index(_, name)
    return World[name] or require("moonflow." .. name)
end

--- The answer of the fake transport: a response, or nil and an error.
local function answer(world, request)
    world.requests[#world.requests + 1] = setmetatable({}, { __index = request })
    for name, value in pairs(request) do
        world.requests[#world.requests][name] = value
    end
    local given = world.answers[#world.requests] or world.answers[#world.answers]
    if type(given) == "function" then
        given = given(request)
    end
    world.now = world.now + (given.takes or 0)
    if given.kind then
        return nil, require("moonflow.error").new {
            kind = given.kind, message = given.message or "it failed", error_code = given.error_code,
            phase = given.phase, request_sent = given.request_sent, hint = given.hint,
        }
    end
    local body = given.body or given.json ~= nil and assert(json.encode(given.json)) or ""
    return { status = given.status or 200, reason = given.reason or "", headers = given.headers or {}, body = body }
end

--- A world of its own, in place until it is closed. Fields: requests, sleeps, lines (what stderr
-- would have got), now (the clock); answers may be changed.
---@param options table answers (each status, reason, headers, body or json, takes seconds; or the fields of
-- an error), environ, random (default 0: all waits have their full length)
function fake.world(options)
    local saved = {}
    for name, module in pairs(package.loaded) do
        if type(name) == "string" and name:find("^moonflow%.") and not KEPT[name] then
            saved[name] = module
            package.loaded[name] = nil
        end
    end
    local world = setmetatable({
        answers = options.answers or {}, requests = {}, sleeps = {}, lines = {}, now = 1000, saved = saved,
    }, World)
    local sys = saved["moonflow.sys"] or require "moonflow.sys"
    package.loaded["moonflow.sys"] = setmetatable({
        monotonic = function()
            return world.now
        end,
        time = function()
            return 1700000000 + world.now
        end,
        random = function()
            return options.random or 0
        end,
        environ = function()
            return options.environ or {}
        end,
    }, { __index = sys })
    package.loaded["moonflow.task"] = {
        sleep = function(seconds)
            world.sleeps[#world.sleeps + 1] = seconds
            world.now = world.now + seconds
        end,
    }
    package.loaded["moonflow._http"] = {
        profile = function(settings)
            return settings
        end,
        perform = function(profile, method, url, body, timeout, total_timeout, connect_timeout)
            local request = {}
            for name, value in pairs(profile) do
                request[name] = value
            end
            request.method, request.url, request.body = method, url, body
            request.first_byte_timeout, request.idle_timeout = timeout, timeout
            request.total_timeout, request.connect_timeout = total_timeout, connect_timeout
            return answer(world, request)
        end,
    }
    require("moonflow.notice").write = function(line)
        world.lines[#world.lines + 1] = line
    end
    return world
end

--- Gives answers the form in which moonflow.http takes them: a body to close, and a head to read.
function World:speak_http()
    local transport = package.loaded["moonflow._http"]
    local perform = transport.perform
    function transport.perform(...)
        local response, err = perform(...)
        if response then
            local body = response.body
            response.body = setmetatable({}, {
                __close = function() end,
                __tostring = function() return body end,
            })
            response.head = response.headers
        end
        return response, err
    end
    function transport.parse_head(head)
        return "", head
    end
    return self
end

--- Puts the modules back that were there before.
function World:close()
    for name in pairs(package.loaded) do
        if type(name) == "string" and name:find("^moonflow%.") and not KEPT[name] then
            package.loaded[name] = nil
        end
    end
    for name, module in pairs(self.saved) do
        package.loaded[name] = module
    end
end

return fake
