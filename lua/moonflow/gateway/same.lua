--- Whether two texts are the same, in a time that does not tell where they differ.
---@param a string
---@param b string
---@return boolean
local function same(a, b)
    local difference = #a ~ #b
    local both = math.min(#a, #b)
    local words = both - both % 8
    for i = 1, words, 8 do
        difference = difference | (("<i8"):unpack(a, i) ~ ("<i8"):unpack(b, i))
    end
    for i = words + 1, both do
        difference = difference | (a:byte(i) ~ b:byte(i))
    end
    return difference == 0
end

return same
