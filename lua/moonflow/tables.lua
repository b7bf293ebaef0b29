--- What more than one module does with plain tables.
local tables = {}

--- A new table with the same fields; their values are shared, and it has no metatable.
---@param from table
---@return table
function tables.copy(from)
    local to = {}
    for name, value in next, from do
        to[name] = value
    end
    return to
end

return tables
