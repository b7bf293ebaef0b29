--- Faults on demand, for those who try out how their workflow stands them.
local check = require "moonflow.check"
local error = require "moonflow.error"
local errors = require "moonflow.gateway.errors"
local task = require "moonflow.task"

local raise = _G.error

local faults = {}

local FIELDS = {
    latency = "number", status = "integer", retry_after = "number", cut = "integer", lose = "boolean",
    every = "integer", rate = "number", times = "integer",
}
local MAX = { latency = 3600, status = 599, retry_after = 86400, cut = 1e9, every = 1e9, rate = 1, times = 1e9 }
local MIN = { status = 400, every = 1 }
local WORDS = { "latency", "retry-after", "cut", "lose", "every", "rate", "times" } -- and a status

local function refuse(message, hint)
    error.raise { kind = "config", message = message, hint = hint }
end

local function check_field(name, value, where)
    local kind = FIELDS[name]
    if not kind then
        refuse(("%s: %s is not a field of a fault"):format(where, check.show(name)),
            check.hint(name, check.sorted_keys(FIELDS)))
    end
    local number = value
    if kind == "integer" then
        number = type(value) == "number" and math.tointeger(value)
    end
    local fits = type(number) == "number" and number >= (MIN[name] or 0) and number <= MAX[name]
    if kind == "boolean" then
        fits = type(value) == "boolean"
    end
    if not fits then
        refuse(("%s: %s can not be %s"):format(where, name, check.show(value)))
    end
    return number
end

--- A fault, checked, with counters of its own.
-- @tparam table given
-- @tparam string where for messages
function faults.check(given, where)
    local fault = { seen = 0, happened = 0 }
    if type(given) ~= "table" then
        refuse(where .. ": a fault must be a table")
    end
    for name, value in pairs(given) do
        fault[name] = check_field(name, value, where)
    end
    if fault.retry_after and not fault.status then
        refuse(where .. ": retry_after needs a status that it goes with", "such as 429")
    elseif not (fault.latency or fault.status or fault.cut or fault.lose) then
        refuse(where .. ": nothing would happen", "give a status, or latency, cut or lose")
    end
    return fault
end

local function read_word(word, where)
    if word:find("^%d%d%d$") then
        return "status", math.tointeger(tonumber(word))
    elseif word == "lose" then
        return "lose", true
    end
    local name, value = word:match("^([%a_-]+)=(.+)$")
    if not name then
        refuse(("%s: %s is no word of a fault"):format(where, check.show(word)), check.hint(word, WORDS))
    end
    return (name:gsub("-", "_")), tonumber(value) or value
end

--- Reads "[ENDPOINT:]WORD[,WORD...]".
-- @tparam string given
-- @treturn table the fault
-- @treturn string|nil the endpoint
function faults.parse(given)
    local where = "fault " .. check.show(given)
    local endpoint, words = given:match("^([%w_.-]+):(.*)$")
    local fault = {}
    for word in (words or given):gmatch("[^,]+") do
        local name, value = read_word(word, where)
        fault[name] = value
    end
    return faults.check(fault, where), endpoint
end

--- Whether a fault happens to this request.
local function happens(fault)
    fault.seen = fault.seen + 1
    if fault.times and fault.happened >= fault.times or fault.every and fault.seen % fault.every ~= 0
        or fault.rate and math.random() >= fault.rate then
        return false
    end
    fault.happened = fault.happened + 1
    return true
end

--- A body as a <close> variable ends it.
local function closing(body)
    return setmetatable({}, { __close = function()
        local metatable = getmetatable(body)
        if type(metatable) == "table" and metatable.__close then
            metatable.__close(body)
        end
    end })
end

--- The body, cut behind so many pieces; a text behind as many bytes.
local function cut_body(body, pieces)
    local count, is_text = 0, type(body) == "string"
    local cut = closing(body)
    getmetatable(cut).__call = function()
        if is_text and count == 0 and pieces > 0 then
            count = pieces
            return body:sub(1, pieces)
        elseif count >= pieces then
            raise(require("moonflow.server").CUT, 0)
        end
        count = count + 1
        return not is_text and body() or nil
    end
    return cut
end

--- Does the work that is behind a body: a stream is read to its end.
local function drain(body)
    if type(body) ~= "string" and body ~= nil then
        local _ <close> = closing(body)
        while body() ~= nil do end
    end
end

--- Calls `answer(...)` with the faults around it.
-- @tparam table list faults
-- @tparam string face
-- @tparam function answer
-- @return status, headers, body
function faults.wrap(list, face, answer, ...)
    local cut, lose
    for _, fault in ipairs(list) do
        if happens(fault) then
            if fault.latency then
                task.sleep(fault.latency)
            end
            if fault.status then
                return errors.reply(face, fault.status, "a fault on demand", {
                    headers = fault.retry_after and { ["Retry-After"] = ("%d"):format(math.ceil(fault.retry_after)) },
                })
            end
            cut, lose = fault.cut or cut, fault.lose or lose
        end
    end
    local status, headers, body = answer(...)
    if lose then
        drain(body)
        return false
    elseif cut and body then
        return status, headers, cut_body(body, cut)
    end
    return status, headers, body
end

return faults
