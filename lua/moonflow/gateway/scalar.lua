--- Numbers and booleans in texts, as pydantic reads them.
local json = require "moonflow.json"
local text = require "moonflow.text"

local scalar = {}

--- Characters that a number may have.
scalar.LENGTH_MAX = 4300

local BOOLEANS = {
    ["0"] = false, off = false, f = false, ["false"] = false, n = false, no = false,
    ["1"] = true, on = true, t = true, ["true"] = true, y = true, yes = true,
}

--- What a word or a number says as a boolean; nil where it says nothing.
---@param value any
---@return boolean?
function scalar.boolean(value)
    if type(value) == "string" then
        return BOOLEANS[#value <= 5 and value:lower() or ""]
    elseif value == 0 or value == 1 then
        return value == 1
    end
    return nil
end

--- The digits of a number's text without what Python allows between them; nil where it is no number.
local function plain_digits(given)
    local digits = text.trim(given)
    if digits:find("__", 1, true) or digits:find("^[+-]?_") or digits:find("_$") then
        return nil
    end
    return (digits:gsub("_", ""))
end

--- The integer that a text says.
---@param given string of at most LENGTH_MAX
---@return any? integer nil where it says none; beyond 64 bits what `moonflow.json` decodes
function scalar.integer(given)
    local digits = plain_digits(given)
    local sign, whole, rest = (digits or ""):match("^([+-]?)(%d+)(.*)$")
    if not whole or rest ~= "" and not rest:find("^%.0+$") then
        return nil
    end
    whole = whole:gsub("^0+", "")
    if whole == "" then
        return 0
    end
    return json.decode((sign == "-" and "-" or "") .. whole)
end

local WORDS = { inf = math.huge, infinity = math.huge, nan = math.huge } -- none of them is within any limits

--- The number that a text says.
---@param given string
---@return number? number nil where it says none
function scalar.number(given)
    local digits = #given <= scalar.LENGTH_MAX and plain_digits(given)
    if not digits then
        return nil
    elseif digits:find("[^%d.eE+-]") then
        local sign, word = digits:match("^([+-]?)(%a+)$")
        local number = word and WORDS[word:lower()]
        return number and (sign == "-" and -number or number)
    end
    return tonumber(digits)
end

return scalar
