--- Limits on how often an endpoint is called: so many calls of one client in a window of time, whose first
-- call opens it (the strategy "fixed window" of MLflow's gateway).
local sys = require "moonflow.sys"

local limits = {}

local CLIENTS_MAX = 10000 -- windows that are kept at once
local OTHERS = {}         -- the key of the window that all further clients share

--- Seconds of each period.
limits.PERIODS = { second = 1, minute = 60, hour = 3600, day = 86400, month = 2592000, year = 31104000 }

--- Reads a period: "minute", "minutes", "5 minutes".
---@param given any
---@return integer? count nil where it is none
---@return string? period key of `limits.PERIODS`
function limits.read_period(given)
    if type(given) ~= "string" or #given > 32 then
        return nil
    end
    local count, unit = given:lower():match("^%s*(%d*)%s*(%a+)%s*$")
    if not unit then
        return nil
    end
    local period = limits.PERIODS[unit] and unit or unit:match("^(.*)s$")
    count = count == "" and 1 or math.tointeger(tonumber(count))
    if not limits.PERIODS[period] or not count or count < 1 or count > 1000000 then
        return nil
    end
    return count, period
end

--- A counter for the limit of an endpoint.
---@param limit table calls, renewal_period (one that `limits.read_period` reads)
---@param clock? fun(): number seconds, monotonic
---@return table counter `calls`: how many a window has; `text`: the limit in the words of the refusal
function limits.new(limit, clock)
    local count, period = limits.read_period(limit.renewal_period)
    return {
        calls = limit.calls, seconds = count * limits.PERIODS[period], clock = clock or sys.monotonic,
        text = ("%d per %d %s"):format(limit.calls, count, period),
        windows = {}, count = 0, swept = -math.huge,
    }
end

--- Drops the windows that are over; not more often than once a second, as it looks at all of them.
local function sweep(counter, now)
    if now - counter.swept < 1 then
        return
    end
    counter.swept = now
    for peer, window in next, counter.windows do
        if window.closes <= now then
            counter.windows[peer] = nil
            counter.count = counter.count - 1
        end
    end
end

local function open_window(counter, peer, now)
    if counter.count >= CLIENTS_MAX then
        sweep(counter, now)
    end
    if counter.count >= CLIENTS_MAX then
        peer = OTHERS
    end
    local window = counter.windows[peer]
    if not window then
        window = { calls = 0, closes = now + counter.seconds }
        counter.windows[peer] = window
        counter.count = counter.count + 1
    end
    return window
end

--- Counts a call.
---@param counter table
---@param peer string who calls
---@return integer? remaining how many calls there may be besides this one; nil where this one may not be
---@return number seconds until the window is over
function limits.take(counter, peer)
    local now = counter.clock()
    local window = counter.windows[peer] or open_window(counter, peer, now)
    if window.closes <= now then
        window.calls, window.closes = 0, now + counter.seconds
    end
    if window.calls >= counter.calls then
        return nil, window.closes - now
    end
    window.calls = window.calls + 1
    return counter.calls - window.calls, window.closes - now
end

return limits
