--- Tokens that expire: each is fetched once, however many tasks ask for it at the same time, and kept
-- in this Lua state until shortly before its end. What a token is for and how it is had is known to
-- those who ask.
local _task = require "moonflow._task"
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local sys = require "moonflow.sys"

-- Failures are raised as the fetch raised them; what is not an error object gets no position.
local raise = _G.error

local tokens = {}

local MARGIN_MOST = 300 -- seconds before its end that a token is fetched anew

--- A token that is kept: what its fetch returned, with the times added.
---@class moonflow.Token
---@field secret userdata
---@field expires_in number seconds, as the fetch returned it
---@field expires_at number on the monotonic clock
---@field renew_at number on the monotonic clock
---@field lifetime? number seconds that it had at first, where it is one that was kept elsewhere
---@field drop? fun() removes it where else it is kept

---@type table<string, moonflow.Token>
local kept = {}

-- The fetches under way, by key: each with its task, the number of those who wait for it, and in the
-- end `token` or `failure`.
local flights = {}

--- Seconds before its end that a token is fetched anew.
---@param lifetime number seconds that it has at first
---@return number
function tokens.margin(lifetime)
    return math.min(MARGIN_MOST, lifetime / 4)
end

--- The entry to keep for what a fetch returned. The time counts from its start: by how much the
--- server's clock runs ahead of ours is not known, and a token that is renewed early does no harm.
local function to_entry(result, started)
    local lifetime = type(result) == "table" and result.expires_in
    local good = type(lifetime) == "number" and lifetime > 0 and auth.is_secret(result.secret)
    if not good then
        error.raise {
            kind = "usage",
            message = "a token's fetch must return {secret = a secret, expires_in = a number of seconds above 0}",
        }
    end
    result.expires_at = started + lifetime
    result.renew_at = result.expires_at - tokens.margin(result.lifetime or lifetime)
    return result
end

--- Runs in a task of its own. Nothing is raised, as those who wait each get a copy of the failure.
local function fly(flight, key, fetch)
    local started = sys.monotonic()
    local ok, result = pcall(function()
        return to_entry(fetch(), started)
    end)
    flight.over = true
    if flights[key] == flight then
        flights[key] = nil
    end
    if ok then
        kept[key] = result
        flight.token = result
    else
        flight.failure = result
    end
end

--- Ends a fetch that nobody waits for any more.
local function leave(flight, key)
    flight.waiting = flight.waiting - 1
    if flight.waiting > 0 or flight.over then
        return
    end
    if flights[key] == flight then
        flights[key] = nil
    end
    flight.task:cancel()
end

--- Waits for the end of a fetch, for so many seconds at the most where there is a number of them.
local function wait(flight, key, seconds)
    flight.waiting = flight.waiting + 1
    local _ <close> = setmetatable({}, {
        __close = function()
            leave(flight, key)
        end,
    })
    if _task.join({ flight.task }, seconds and math.max(0, seconds)) then
        flight.task:wait() -- raises where it was cancelled
    end
end

local function raise_copy(failure)
    if not error.is(failure) then
        raise(failure, 0)
    end
    local copy = {}
    for name, value in next, failure do
        copy[name] = value
    end
    error.raise(error.new(copy))
end

--- The token of a key: the kept one, or what `fetch` returns. Several tasks that ask at once share one
--- fetch, which goes on as long as one of them waits; its failure is raised in each, and is not kept.
--- Where a token that is still good could not be renewed, it is used until its end. Raises kind
--- "timeout" where the time is up; the fetch goes on for the others who wait.
---@async
---@param key string what the token is for: its source, whose it is, and its scope
---@param fetch fun(): table returns {secret =, expires_in = seconds} and what else the caller wants to
--- find in the token again; or raises. Called in a task of its own
---@param seconds? number how long to wait; without it, until the fetch ends
---@param what? string for the message of a timeout: "a token of Entra ID"
---@return moonflow.Token token not to be changed
function tokens.get(key, fetch, seconds, what)
    local token = kept[key]
    if token and sys.monotonic() < token.renew_at then
        return token
    end
    local flight = flights[key]
    if not flight then
        flight = { waiting = 0 }
        flights[key] = flight
        flight.task = _task.spawn(fly, flight, key, fetch)
    end
    wait(flight, key, seconds)
    if flight.token then
        return flight.token
    end
    token = kept[key]
    if token and sys.monotonic() < token.expires_at then
        return token
    end
    if not flight.over then
        error.raise {
            kind = "timeout",
            message = ("%s did not come within %.3g s"):format(what or "a token", math.max(0, seconds)),
        }
    end
    return raise_copy(flight.failure)
end

--- Drops a token that a server did not take, so that the next one who asks gets a new one. One that
--- has been renewed meanwhile stays.
---@param key string
---@param secret userdata the token as `get` gave it
function tokens.forget(key, secret)
    local token = kept[key]
    if token and token.secret == secret then
        kept[key] = nil
        if token.drop then
            token.drop()
        end
    end
end

return tokens
