--- Limits on how often an endpoint is called: so many calls of one client in a window of time, whose first
-- call opens it.
local sys = require "moonflow.sys"

local limits = {}

local PERIODS = { second = 1, minute = 60, hour = 3600, day = 86400, month = 2592000, year = 31104000 }
local CLIENTS_MAX = 10000 -- windows that are kept at once

limits.PERIODS = PERIODS

--- A counter for the limit of an endpoint.
-- @tparam table limit `calls`, `renewal_period`
-- @tparam[opt] function clock seconds, monotonic
function limits.new(limit, clock)
    return {
        calls = limit.calls, period = limit.renewal_period, seconds = PERIODS[limit.renewal_period],
        clock = clock or sys.monotonic, windows = {}, count = 0,
    }
end

local function drop_closed(counter, now)
    for peer, window in pairs(counter.windows) do
        if window.closes <= now then
            counter.windows[peer] = nil
            counter.count = counter.count - 1
        end
    end
end

--- Counts a call.
-- @tparam table counter
-- @tparam string peer who calls
-- @treturn integer|nil nil where it may be; else the seconds until it may be again
function limits.refuse(counter, peer)
    local now = counter.clock()
    local window = counter.windows[peer]
    if not window or window.closes <= now then
        if not window then
            if counter.count >= CLIENTS_MAX then
                drop_closed(counter, now)
            end
            counter.count = counter.count + 1
        end
        window = { closes = now + counter.seconds, calls = 0 }
        counter.windows[peer] = window
    end
    window.calls = window.calls + 1
    if window.calls > counter.calls then
        return math.ceil(window.closes - now)
    end
    return nil
end

return limits
