--- Text from outside as it may be shown to a person: without secrets, control characters and what is
-- no UTF-8.
local auth = require "moonflow.auth"

local text = {}

--- The text with "?" for what is no UTF-8.
local function valid(given)
    local pieces, from = {}, 1
    while true do
        local length, bad = utf8.len(given, from)
        if length then
            pieces[#pieces + 1] = given:sub(from)
            return table.concat(pieces)
        end
        pieces[#pieces + 1] = given:sub(from, bad - 1) .. "?"
        from = bad + 1
    end
end

--- Text from outside as it may be shown: no secret, no control character except newline and tab, no
-- mark that turns the direction of writing, at most `max` bytes.
---@param given string
---@param max integer
---@return string
function text.clean(given, max)
    -- Cut only after the secrets are out, with room for one that begins before the cut.
    given = auth.redact(given:sub(1, max + 4096))
    local cut = #given > max
    if cut then
        local last = max
        while last > 0 and given:byte(last + 1) & 0xC0 == 0x80 do
            last = last - 1
        end
        given = given:sub(1, last)
    end
    given = valid(given):gsub("[%z\1-\8\11-\31\127]", " ")
        :gsub("\xC2[\x80-\x9F]", " ")
        :gsub("\xE2\x80[\x8E\x8F\xAA-\xAE]", "")
        :gsub("\xE2\x81[\xA6-\xA9]", "")
    return cut and given .. "..." or given
end

--- The same on one line.
---@param given string
---@param max integer
---@return string
function text.one_line(given, max)
    return (text.clean(given:sub(1, max * 4), max):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

--- The text without white space at its ends. A pattern for both ends at once would take time with the
-- square of the length.
---@param given string
---@return string
function text.trim(given)
    local first = given:find("%S")
    return first and given:sub(first, #given - given:reverse():find("%S") + 1) or ""
end

return text
