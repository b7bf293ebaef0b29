--- Base64 for the control interface of the raw server.
local base64 = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local digit, value = {}, {}
for i = 1, #ALPHABET do
    digit[i - 1] = ALPHABET:sub(i, i)
    value[ALPHABET:byte(i)] = i - 1
end

---@param bytes string
---@return string
function base64.encode(bytes)
    local out = {}
    for at = 1, #bytes, 3 do
        local a, b, c = bytes:byte(at, at + 2)
        local group = a << 16 | (b or 0) << 8 | (c or 0)
        out[#out + 1] = digit[group >> 18] .. digit[group >> 12 & 63]
            .. (b and digit[group >> 6 & 63] or "=") .. (c and digit[group & 63] or "=")
    end
    return table.concat(out)
end

---@param text string well-formed
---@return string
function base64.decode(text)
    local out = {}
    for a, b, c, d in text:gmatch("(.)(.)(.)(.)") do
        local group = value[a:byte()] << 18 | value[b:byte()] << 12
            | (value[c:byte()] or 0) << 6 | (value[d:byte()] or 0)
        local bytes = string.pack(">I3", group)
        out[#out + 1] = bytes:sub(1, c == "=" and 1 or d == "=" and 2 or 3)
    end
    return table.concat(out)
end

return base64
