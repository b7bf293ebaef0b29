--- JSON with line breaks, for people. It works on the text, so that numbers, the order of names and what
-- repeats stay as they are sent.
local pretty = {}

local INDENT = "  "

--- What stands between a bracket and the next token.
local function open(out, token, rest, depth)
    local closer = token == "{" and "}" or "]"
    if rest:find("^%s*" .. "%" .. closer) then
        out[#out + 1] = token
        return depth + 1, true
    end
    out[#out + 1] = token .. "\n" .. INDENT:rep(depth + 1)
    return depth + 1, false
end

--- JSON text, which must be valid, in several lines.
---@param given string
---@return string
function pretty.json(given)
    local out, depth, position, is_empty = {}, 0, 1, false
    while position <= #given do
        local char = given:sub(position, position)
        local stop = position
        if char == '"' then
            repeat
                stop = given:find('["\\]', stop + 1) or #given
                local escaped = given:sub(stop, stop) == "\\"
                stop = escaped and stop + 1 or stop
            until not escaped
            out[#out + 1] = given:sub(position, stop)
        elseif char == "{" or char == "[" then
            depth, is_empty = open(out, char, given:sub(position + 1, position + 64), depth)
        elseif char == "}" or char == "]" then
            depth = depth - 1
            out[#out + 1] = is_empty and char or "\n" .. INDENT:rep(depth) .. char
            is_empty = false
        elseif char == "," then
            out[#out + 1] = ",\n" .. INDENT:rep(depth)
        elseif char == ":" then
            out[#out + 1] = ": "
        elseif not char:find("%s") then
            stop = (given:find('[%s,%]}]', position) or #given + 1) - 1
            out[#out + 1] = given:sub(position, stop)
        end
        position = stop + 1
    end
    return table.concat(out)
end

return pretty
