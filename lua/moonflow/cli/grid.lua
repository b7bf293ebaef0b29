--- Tables for people: columns as wide as their longest cell, fitted to the terminal.
local grid = {}

local GAP = "  "
local NARROWEST = 6 -- characters that a column keeps
local CUT = "..."

local function width_of(cell)
    return utf8.len(cell) or #cell
end

local function cut(cell, width)
    if width_of(cell) <= width then
        return cell
    end
    local last = utf8.offset(cell, math.max(width - #CUT, 0) + 1)
    return cell:sub(1, (last or #cell + 1) - 1) .. CUT
end

local function pad(cell, width)
    return cell .. (" "):rep(width - width_of(cell))
end

--- The columns that have a cell with something in it; the first one stays anyway.
local function used(columns, rows)
    local kept = {}
    for i, column in ipairs(columns) do
        local is_used = i == 1
        for _, row in ipairs(rows) do
            is_used = is_used or row[i] ~= ""
        end
        if is_used then
            kept[#kept + 1] = { index = i, title = column.title, width = width_of(column.title) }
        end
    end
    return kept
end

local function total(columns)
    local sum = #GAP * (#columns - 1)
    for _, column in ipairs(columns) do
        sum = sum + column.width
    end
    return sum
end

--- Takes from the widest column until all of them fit, or none can give any more.
local function fit(columns, width)
    local over = total(columns) - width
    while over > 0 do
        local widest = columns[1]
        for _, column in ipairs(columns) do
            widest = column.width > widest.width and column or widest
        end
        if widest.width <= NARROWEST then
            return
        end
        widest.width, over = widest.width - 1, over - 1
    end
end

local function line(columns, cells)
    local parts = {}
    for i, column in ipairs(columns) do
        local cell = cut(cells[column.index], column.width)
        parts[i] = i < #columns and pad(cell, column.width) or cell
    end
    return (table.concat(parts, GAP):gsub(" +$", ""))
end

--- The lines of a table, its head first.
---@param columns table[] list of { title, cell = function(item) -> string }
---@param items table[]
---@param width? integer characters of a line; without it as many as it takes
---@return string[]
function grid.lines(columns, items, width)
    local rows, titles = {}, {}
    for i, item in ipairs(items) do
        rows[i] = {}
        for j, column in ipairs(columns) do
            rows[i][j] = column.cell(item)
        end
    end
    for j, column in ipairs(columns) do
        titles[j] = column.title
    end
    local kept = used(columns, rows)
    for _, column in ipairs(kept) do
        for _, row in ipairs(rows) do
            column.width = math.max(column.width, width_of(row[column.index]))
        end
    end
    if width then
        fit(kept, width)
    end
    local lines = { line(kept, titles) }
    for i, row in ipairs(rows) do
        lines[i + 1] = line(kept, row)
    end
    return lines
end

return grid
