--- Times as people write them: 500ms, 30s, 5m, 2h, or a number of seconds.
local check = require "moonflow.check"

local durations = {}

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600, [""] = 1 }
local MAX = 7 * 24 * 3600 -- seconds

--- The seconds that a word says.
---@param word string
---@return number? seconds above 0
---@return string? message where it says none
function durations.parse(word)
    local digits, unit = word:match("^(%d+%.?%d*)(%a*)$")
    local seconds = digits and UNITS[unit] and tonumber(digits) * UNITS[unit]
    if not seconds or seconds <= 0 or seconds > MAX then
        return nil, ("%s is no time such as 500ms, 30s, 5m or 2h"):format(check.show(word))
    end
    return seconds
end

return durations
