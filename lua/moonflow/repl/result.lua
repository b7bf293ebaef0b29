--- What a line returned, printed: values readably, a stream while it comes. Scripts that `,save` wrote
-- print with it too.
local chat = require "moonflow.chat"
local show = require "moonflow.show"

local result = {}

--- How values are shown; `,set` changes it.
result.options = {}

local function is_stream(value)
    local metatable = debug.getmetatable(value)
    return type(metatable) == "table" and rawget(metatable, "__name") == "moonflow.stream"
end

result.is_stream = is_stream

--- Prints the text of a stream while it comes.
---@async
---@param stream moonflow.Stream
---@return table answer in the form of `predict`
local function print_stream(stream)
    local closing <close> = stream -- luacheck: ignore 211
    local at_start = true
    for chunk in stream do
        local ok, text = pcall(chat.text, chunk)
        if ok and text ~= "" then
            io.write(show.text(text))
            io.flush()
            at_start = text:sub(-1) == "\n"
        end
    end
    if not at_start then
        io.write("\n")
    end
    return stream:collected():result()
end

--- Prints values as the session at the terminal does.
---@async
---@return any the first of them; of a stream the whole answer
function result.print(...)
    local first = ...
    if is_stream(first) then
        return print_stream(first)
    end
    for i = 1, select("#", ...) do
        io.write(show.value((select(i, ...)), result.options), "\n")
    end
    return first
end

return result
