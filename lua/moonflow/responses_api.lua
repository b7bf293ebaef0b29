--- Answers of OpenAI's Responses API out of the events of their streams (spec/openai.md 4).
local delta = require "moonflow.delta"
local json = require "moonflow.json"

local add_text, filled, joined = delta.add_text, delta.filled, delta.joined
local in_order, insert = delta.in_order, delta.insert
local next, type = next, type

local responses_api = {}

-- A part holds the value that an event gave, the pieces of the texts
-- that came after it, and its lists of further parts.
local function new_part(value)
    return { value = value, texts = {}, lists = {} }
end

local function list_of(part, name)
    local list = part.lists[name]
    if not list then
        list = { members = {}, by_key = {} }
        part.lists[name] = list
        local begun = part.value[name]
        for i = 1, type(begun) == "table" and #begun or 0 do
            list.by_key[i - 1] = insert(list.members, i - 1, new_part(type(begun[i]) == "table" and begun[i] or {}))
        end
    end
    return list
end

--- The member of a part's list with this index, or else with this id; and whether it is a new one.
local function member_of(part, name, index, id)
    local list = list_of(part, name)
    index = math.tointeger(index)
    local key = index or filled(id) or 0
    local member = list.by_key[key]
    if member then
        return member, false
    end
    member = insert(list.members, index, new_part {})
    list.by_key[key] = member
    return member, true
end

--- Puts what the server says that a member is in the place of what it was so far.
local function set_member(part, name, index, id, value)
    local member = member_of(part, name, index, id)
    member.value, member.texts, member.lists = value, {}, {}
end

-- Where the events of a text put it: the name of the field, and of the list in the item, with the
-- index in the event and what a part of that list is.
local TEXTS = {
    output_text = { field = "text", list = "content", index = "content_index", part = "output_text" },
    refusal = { field = "refusal", list = "content", index = "content_index", part = "refusal" },
    reasoning_text = {
        field = "text", list = "content", index = "content_index", part = "reasoning_text", item = "reasoning",
    },
    reasoning_summary_text = {
        field = "text", list = "summary", index = "summary_index", part = "summary_text", item = "reasoning",
    },
    function_call_arguments = { field = "arguments", item = "function_call" },
    mcp_call_arguments = { field = "arguments", item = "mcp_call" },
    custom_tool_call_input = { field = "input", item = "custom_tool_call" },
    code_interpreter_call_code = { field = "code", item = "code_interpreter_call" },
}

local PARTS = {
    content_part = { list = "content", index = "content_index" },
    reasoning_summary_part = { list = "summary", index = "summary_index", item = "reasoning" },
}

local function item_of(root, event, type_name)
    local item, is_new = member_of(root, "output", event.output_index, event.item_id)
    if is_new then
        item.value = { id = event.item_id, type = type_name or "message", status = "in_progress" }
        if not type_name then
            item.value.role, item.value.content = "assistant", json.array {}
        end
    end
    return item
end

--- What a text of `spec` goes into: its item, or a part of one.
local function holder_of(root, event, spec)
    local item = item_of(root, event, spec.item)
    if not spec.list then
        return item
    end
    local part, is_new = member_of(item, spec.list, event[spec.index])
    if is_new then
        part.value = { type = spec.part, annotations = spec.part == "output_text" and json.array {} or nil }
    end
    return part
end

-- What each event does to the response so far.
local EVENTS = {}

for stem, spec in next, TEXTS do
    EVENTS["response." .. stem .. ".delta"] = function(root, event)
        if type(event.delta) == "string" then
            local holder = holder_of(root, event, spec)
            if not holder.texts[spec.field] then
                holder.texts[spec.field] = { filled(holder.value[spec.field]) }
            end
            add_text(holder, spec.field, event.delta)
        end
    end
    EVENTS["response." .. stem .. ".done"] = function(root, event)
        if type(event[spec.field]) == "string" then
            holder_of(root, event, spec).texts[spec.field] = { event[spec.field] }
        end
    end
end

for stem, spec in next, PARTS do
    local function set(root, event)
        if type(event.part) == "table" then
            set_member(item_of(root, event, spec.item), spec.list, event[spec.index], nil, event.part)
        end
    end
    EVENTS["response." .. stem .. ".added"] = set
    EVENTS["response." .. stem .. ".done"] = set
end

local function set_item(root, event)
    if type(event.item) == "table" then
        set_member(root, "output", event.output_index, event.item.id, event.item)
    end
end
EVENTS["response.output_item.added"] = set_item
EVENTS["response.output_item.done"] = set_item

EVENTS["response.output_text.annotation.added"] = function(root, event)
    if type(event.annotation) == "table" then
        local part = holder_of(root, event, TEXTS.output_text)
        set_member(part, "annotations", event.annotation_index, nil, event.annotation)
    end
end

-- The events that end a response, and the status that they stand for.
responses_api.FINAL = {
    ["response.completed"] = "completed",
    ["response.incomplete"] = "incomplete",
    ["response.failed"] = "failed",
}

--- A response of which nothing is known yet.
---@return table root
function responses_api.new()
    return new_part { object = "response", status = "in_progress", output = json.array {} }
end

--- Takes an event. What an event of an unknown type says is left out.
---@param root table
---@param event table
function responses_api.add(root, event)
    if type(event.response) == "table" then
        root.value = event.response
    elseif EVENTS[event.type] then
        EVENTS[event.type](root, event)
    end
end

--- The response so far.
---@param part table the root, or a part of it
---@return table
function responses_api.build(part)
    local result = {}
    for name, value in next, part.value do
        result[name] = value
    end
    for name, pieces in next, part.texts do
        result[name] = joined(pieces)
    end
    for name, list in next, part.lists do
        local parts = {}
        for i, member in ipairs(in_order(list.members)) do
            parts[i] = responses_api.build(member)
        end
        result[name] = json.array(parts)
    end
    return result
end

return responses_api
