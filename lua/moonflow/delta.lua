--- What the objects in the deltas of a stream add up to, field by field, whatever they are: texts are
-- joined, lists go on, ids and names that come again are kept once. Tool calls are told apart by
-- index and id, as servers give both, one or neither.
local json = require "moonflow.json"

local null = json.null
local next, type = next, type

local delta = {}

-- Strings that a server may repeat in every chunk: they are kept, all others are pieces of a text.
local KEPT = { format = true, id = true, name = true, role = true, type = true }

-- A part of content that goes on in the next chunk has one of these.
local GROWING = { "text", "thinking", "summary" }

--- Whether `new` says the same as `old`, perhaps more of it.
local function continues(old, new)
    return new:sub(1, #old) == old
end

local function keep(old, new)
    if type(old) ~= "string" or #new > #old and continues(old, new) then
        return new
    end
    return old
end

--- The string where it is one and not empty, else nil.
---@param value any
---@return string?
function delta.filled(value)
    return type(value) == "string" and value ~= "" and value or nil
end

--- Adds a member to a list that has the order of ranks. One without a rank stays behind the one that
-- came before it.
---@param members table
---@param rank? number
---@param member table
---@return table member
function delta.insert(members, rank, member)
    local position = #members + 1
    member.rank = rank or position > 1 and members[position - 1].rank or 0
    member.position = position
    members[position] = member
    return member
end

local function before(a, b)
    return a.rank < b.rank or a.rank == b.rank and a.position < b.position
end

--- The members in the order of their ranks.
---@param members table
---@return table
function delta.in_order(members)
    local list = table.move(members, 1, #members, 1, {})
    table.sort(list, before)
    return list
end

--- Whether a table is a list.
---@param value table
---@return boolean
function delta.is_list(value)
    return json.is_array(value) or value[1] ~= nil
end

--- What an object in a delta adds up to. `texts` holds the pieces of its strings; `fields` its other
-- values, where tables are nodes and lists themselves.
---@return table node
function delta.new()
    return { texts = {}, fields = {} }
end

local filled, insert, in_order, is_list, new_node = delta.filled, delta.insert, delta.in_order, delta.is_list, delta.new

local merge, append

--- A value out of a delta as a list or a node holds it: tables anew, since they grow.
local function held(value)
    if type(value) ~= "table" then
        return value
    elseif is_list(value) then
        return append({ items = {} }, value)
    end
    return merge(new_node(), value)
end

local function differs(node, item, name)
    local old, new = filled(node.fields[name]), filled(item[name])
    return old and new and not continues(old, new)
end

--- The member of a list that an item goes on with: of the same index, or else the last part of a
-- text of the same type.
local function continued(list, item)
    local index = math.tointeger(item.index)
    local node
    if index then
        node = list.by_index and list.by_index[index]
        return node and not differs(node, item, "type") and not differs(node, item, "id") and node or nil
    end
    node = list.items[#list.items]
    local fields = type(node) == "table" and node.fields
    if not fields or not filled(item.type) or fields.type ~= item.type or differs(node, item, "id") then
        return nil
    end
    for _, name in ipairs(GROWING) do
        local begun = fields[name] or node.texts[name]
        if begun and item[name] ~= nil and item[name] ~= null then
            return node
        end
    end
end

local function append_item(list, item)
    local plain = type(item) ~= "table" or is_list(item)
    local node = not plain and continued(list, item)
    if node then
        merge(node, item)
        return
    end
    node = held(item)
    list.items[#list.items + 1] = node
    local index = not plain and math.tointeger(item.index)
    if index then
        list.by_index = list.by_index or {}
        list.by_index[index] = node
    end
end

function append(list, items)
    for i = 1, #items do
        append_item(list, items[i])
    end
    return list
end

--- The tool call that a piece of one belongs to, a new one where it begins one.
local function find_call(calls, piece, position)
    local index, id = math.tointeger(piece.index), filled(piece.id)
    local members, by_id = calls.members, calls.by_id
    if index then
        index = index < 0 and 0 or index
        local call = calls.at[index]
        -- Some servers give every call the index 0.
        if call and id and differs(call, piece, "id") then
            call = by_id[id]
            call = call and call.rank == index and call or nil
        end
        call = call or insert(members, index, new_node())
        calls.at[index] = call
        return call
    elseif id then
        return by_id[id] or insert(members, nil, new_node())
    end
    -- The last one goes on, unless this is plainly the beginning of another.
    local call = members[#members]
    local known, called = call and call.fields["function"], piece["function"]
    if type(known) == "table" and known.fields and type(called) == "table" and filled(called.name)
        and (position > 1 or differs(known, called, "name")) then
        call = nil
    end
    return call or insert(members, nil, new_node())
end

local function add_calls(node, pieces)
    local calls = node.calls or { members = {}, by_id = {}, at = {} }
    node.calls = calls
    for i = 1, #pieces do
        local piece = pieces[i]
        if type(piece) == "table" then
            local call = find_call(calls, piece, i)
            merge(call, piece)
            local id = filled(call.fields.id)
            if id then
                calls.by_id[id] = call
            end
        end
    end
end

local function add_text(node, name, piece)
    local pieces = node.texts[name]
    if pieces then
        pieces[#pieces + 1] = piece
    else
        node.texts[name] = { piece }
    end
end

local function add_list(node, name, items)
    local list = node.fields[name]
    if type(list) ~= "table" or not list.items then
        list = { items = {} }
        node.fields[name] = list
    end
    local pieces = node.texts[name]
    if pieces then
        node.texts[name] = nil
        if table.concat(pieces) ~= "" then
            list.items[1] = { texts = { text = pieces }, fields = { type = "text" } }
        end
    end
    append(list, items)
end

local function add_table(node, name, value)
    local field = node.fields[name]
    if name == "tool_calls" then
        add_calls(node, value)
    elseif name == "arguments" then
        local text = json.encode(value)
        if text then
            add_text(node, name, text)
        end
    elseif type(field) == "table" and field.fields and value[1] == nil then
        merge(field, value)
    elseif is_list(value) then
        add_list(node, name, value)
    else
        node.fields[name] = held(value)
    end
end

local function add_field(node, name, value)
    local fields = node.fields
    if type(name) ~= "string" then
        return -- a list is no delta
    elseif type(value) == "table" then
        add_table(node, name, value)
    elseif type(value) ~= "string" then
        fields[name] = value
    elseif KEPT[name] then
        fields[name] = keep(fields[name], value)
    elseif type(fields[name]) == "table" and fields[name].items then
        append_item(fields[name], { type = "text", text = value })
    else
        add_text(node, name, value)
    end
end

function merge(node, object)
    local texts = node.texts
    for name, value in next, object do
        local pieces = texts[name]
        if pieces and type(value) == "string" then
            pieces[#pieces + 1] = value
        elseif value ~= null then
            add_field(node, name, value)
        end
    end
    return node
end

--- The pieces as one string. They are joined in place: whoever asks again does not join them again.
---@param pieces string[]
---@return string
function delta.joined(pieces)
    if pieces[2] then
        local text = table.concat(pieces)
        for i = #pieces, 2, -1 do
            pieces[i] = nil
        end
        pieces[1] = text
    end
    return pieces[1]
end

--- The value that a node, or a list of some, stands for.
---@param value any
---@return any
function delta.build(value)
    if type(value) ~= "table" then
        return value
    end
    local result = {}
    if value.items then
        for i, item in ipairs(value.items) do
            result[i] = delta.build(item)
        end
        return json.array(result)
    end
    for name, field in next, value.fields do
        result[name] = delta.build(field)
    end
    for name, pieces in next, value.texts do
        result[name] = delta.joined(pieces)
    end
    return result
end

--- The list of tool calls.
---@param calls table of a node
---@return table
function delta.build_calls(calls)
    local list = {}
    for i, member in ipairs(in_order(calls.members)) do
        local call = delta.build(member)
        call.index = nil
        local called = call["function"]
        if type(called) == "table" and not is_list(called) then
            call.type = filled(call.type) or "function"
            called.arguments = called.arguments or ""
        end
        list[i] = call
    end
    return json.array(list)
end

delta.merge = merge
delta.add_text = add_text

return delta
