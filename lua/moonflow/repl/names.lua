--- Looks values up without running anybody's code: raw fields, and `__index` where it is a plain table.
local names = {}

local CHAIN_MAX = 10 -- tables behind one another

--- The tables in which the fields of a value are found, the nearest first.
---@param value any
---@return table[]
function names.places(value)
    local places, seen = {}, {}
    for _ = 1, CHAIN_MAX do
        if type(value) == "table" then
            if seen[value] then
                break
            end
            seen[value] = true
            places[#places + 1] = value
        end
        local metatable = debug.getmetatable(value)
        value = type(metatable) == "table" and rawget(metatable, "__index")
        if type(value) ~= "table" then
            break
        end
    end
    return places
end

--- A field of a value; nil where only code could tell.
---@param value any
---@param key any
---@return any
function names.field(value, key)
    for _, place in ipairs(names.places(value)) do
        local found = rawget(place, key)
        if found ~= nil then
            return found
        end
    end
end

--- The names of the fields of a value: name -> value.
---@param value any
---@return table<string, any>
function names.fields(value)
    local fields = {}
    for _, place in ipairs(names.places(value)) do
        for key, field in next, place do
            if type(key) == "string" and fields[key] == nil then
                fields[key] = field
            end
        end
    end
    return fields
end

--- What a path of names such as "client.predict" or "a.b:c" leads to.
---@param root table<string, any> names at the beginning
---@param path string
---@return any
function names.resolve(root, path)
    local value
    local first = true
    for name in path:gmatch("[%a_][%w_]*") do
        if first then
            value = root[name]
        else
            value = names.field(value, name)
        end
        first = false
        if value == nil then
            return nil
        end
    end
    return value
end

return names
