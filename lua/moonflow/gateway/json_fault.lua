--- Where a text stops being JSON, in the words and at the place that Python's json module names
-- (CPython's Modules/_json.c): clients of MLflow's gateway see both. Slow beside moonflow.json, and only
-- for texts that it refused.
local json_fault = {}

local DEPTH_MAX = 200 -- as moonflow.json

local WORDS = { "true", "false", "null" }

local EXPECTED_NAME = "Expecting property name enclosed in double quotes"

local function skip_space(text, at)
    return text:match("^[ \t\n\r]*()", at)
end

--- The end of the escape whose backslash is at `at`; or nil, what is wrong and where.
local function escape_end(text, at, opened)
    local letter = text:sub(at + 1, at + 1)
    if letter == "" then
        return nil, "Unterminated string starting at", opened
    elseif letter == "u" then
        if at + 6 > #text or not text:find("^%x%x%x%x", at + 2) then
            return nil, "Invalid \\uXXXX escape", at + 1
        end
        return at + 6
    elseif not letter:find("[\"\\/bfnrt]") then
        return nil, "Invalid \\escape", at
    end
    return at + 2
end

--- The end of the string whose quote is at `opened`.
local function string_end(text, opened)
    local at = opened + 1
    while true do
        at = text:find('["\\%z\1-\31]', at)
        if not at then
            return nil, "Unterminated string starting at", opened
        end
        local byte = text:sub(at, at)
        if byte == '"' then
            return at + 1
        elseif byte ~= "\\" then
            return nil, "Invalid control character at", at
        end
        local next_at, message, where = escape_end(text, at, opened)
        if not next_at then
            return nil, message, where
        end
        at = next_at
    end
end

local function number_end(text, at)
    local last = text:match("^%-?0()", at) or text:match("^%-?[1-9]%d*()", at)
    if not last then
        return nil
    end
    last = text:match("^%.%d+()", last) or last
    return text:match("^[eE][+-]?%d+()", last) or last
end

--- The end of a value that is no array or object.
local function scalar_end(text, at)
    if text:sub(at, at) == '"' then
        return string_end(text, at)
    end
    for _, word in ipairs(WORDS) do
        if text:sub(at, at + #word - 1) == word then
            return at + #word
        end
    end
    local last = number_end(text, at)
    if last then
        return last
    end
    return nil, "Expecting value", at
end

--- The beginning of a member's value, behind its name and colon.
local function member_value(text, at)
    if text:sub(at, at) ~= '"' then
        return nil, EXPECTED_NAME, at
    end
    local last, message, where = string_end(text, at)
    if not last then
        return nil, message, where
    end
    last = skip_space(text, last)
    if text:sub(last, last) ~= ":" then
        return nil, "Expecting ':' delimiter", last
    end
    return skip_space(text, last + 1)
end

local CLOSING = { ["["] = "]", ["{"] = "}" }

--- Closes what ends at `at`, up to where the next value begins. Returns its place; or nil, what is wrong and
-- where; only nil at the end of everything.
local function next_value(text, at, open)
    while #open > 0 do
        at = skip_space(text, at)
        local kind = open[#open]
        local found = text:sub(at, at)
        if found == CLOSING[kind] then
            open[#open] = nil
            at = at + 1
        elseif found ~= "," then
            return nil, "Expecting ',' delimiter", at
        else
            at = skip_space(text, at + 1)
            if kind == "{" then
                return member_value(text, at)
            end
            return at
        end
    end
    at = skip_space(text, at)
    if at <= #text then
        return nil, "Extra data", at
    end
    return nil
end

--- Steps over one value or, of one that holds others, to the first of these.
local function step(text, at, open)
    local kind = text:sub(at, at)
    local closing = CLOSING[kind]
    if not closing then
        local last, message, where = scalar_end(text, at)
        if not last then
            return nil, message, where
        end
        return next_value(text, last, open)
    elseif #open == DEPTH_MAX then
        return nil
    end
    at = skip_space(text, at + 1)
    if text:sub(at, at) == closing then
        return next_value(text, at + 1, open)
    end
    open[#open + 1] = kind
    if kind == "{" then
        return member_value(text, at)
    end
    return at
end

--- Finds the first fault of a text that is UTF-8.
---@param text string
---@return string? message nil where Python sees none, or where the text is nested too deep
---@return integer? position in characters, from 0
function json_fault.find(text)
    local open, at = {}, skip_space(text, 1)
    local message, where
    repeat
        at, message, where = step(text, at, open)
    until not at
    if message then
        return message, utf8.len(text, 1, where - 1)
    end
    return nil
end

return json_fault
