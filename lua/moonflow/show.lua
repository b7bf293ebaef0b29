--- Values as a person reads them: nested tables indented, arrays and nulls of JSON visible, strings
-- quoted and without what a terminal would obey. Depth, length and cycles are bounded, and secrets
-- left out.
local auth = require "moonflow.auth"
local json = require "moonflow.json"

local show = {}

--- What bounds a shown value; `,set` of a session changes its own copy.
show.defaults = {
    depth = 8,      -- of tables within tables
    items = 40,     -- of one table
    text = 2000,    -- bytes of one string
    width = 80,     -- columns; a table that fits stands on one line
    total = 100000, -- bytes in all
    color = false,
}

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\""] = "\\\"", ["\\"] = "\\\\" }
local COLORS = { string = "\27[32m", number = "\27[36m", boolean = "\27[35m", null = "\27[35m", note = "\27[2m" }
local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
    KEYWORDS[word] = true
end

--- What must not reach a terminal as it is: controls (C1 too), and marks that turn the direction of
-- writing.
local function is_unsafe(code)
    return code < 0x20 or code >= 0x7F and code <= 0x9F or code == 0x200E or code == 0x200F
        or code >= 0x2028 and code <= 0x202E or code >= 0x2066 and code <= 0x2069 or code == 0xFEFF
end

local function escape_char(char)
    local code = utf8.codepoint(char)
    if ESCAPES[char] then
        return ESCAPES[char]
    end
    return is_unsafe(code) and (code < 0x80 and "\\x%02X" or "\\u{%X}"):format(code) or nil
end

--- A string of valid UTF-8 with its unsafe characters escaped.
local function escape_valid(piece)
    piece = piece:gsub("[%c\"\\\127]", escape_char)
    return (piece:gsub("[\xC2\xE2\xEF][\x80-\xBF]+", escape_char))
end

--- The text between the quotes.
local function escape(given)
    local pieces, from = {}, 1
    while from <= #given do
        local length, bad = utf8.len(given, from)
        bad = length and #given + 1 or bad
        pieces[#pieces + 1] = escape_valid(given:sub(from, bad - 1))
        if not length then
            pieces[#pieces + 1] = ("\\x%02X"):format(given:byte(bad))
        end
        from = bad + 1
    end
    return table.concat(pieces)
end

--- Cuts a text between two characters.
local function cut(given, max)
    while max > 0 and (given:byte(max + 1) or 0) & 0xC0 == 0x80 do
        max = max - 1
    end
    return given:sub(1, max)
end

--- Text from outside as a terminal may show it, unquoted: line ends and tabs stay.
---@param given string
---@return string
function show.text(given)
    local lines = {}
    for line, ending in given:gmatch("([^\n\t]*)([\n\t]?)") do
        lines[#lines + 1] = escape(line):gsub("\\([\"\\])", "%1") .. ending
    end
    return auth.redact(table.concat(lines))
end

local State = {}
State.__index = State

function State:paint(kind, text)
    return self.options.color and COLORS[kind] and COLORS[kind] .. text .. "\27[0m" or text
end

function State:string(value)
    local max = self.options.text
    local rest = ""
    local given = auth.redact(#value > max and value:sub(1, max + 4096) or value)
    if #given > max then
        given = cut(given, max)
        rest = self:paint("note", ("... (%d bytes)"):format(#value))
    end
    return self:paint("string", "\"" .. escape(given) .. "\"") .. rest
end

--- What a value says of itself, or why it can not.
local function spoken(value)
    local ok, text = pcall(tostring, value)
    if ok then
        return (show.text(cut(text, 1000)):gsub("\n(.)", "\n  %1"))
    end
    local why = type(text) == "string" and show.text(cut(text, 200)):match("^[^\n]*") or "its __tostring fails"
    return ("<%s that can not be shown: %s>"):format(type(value), why)
end

local function function_text(value)
    local info = debug.getinfo(value, "S")
    if info.what == "C" then
        return "<function>"
    end
    return ("<function %s:%d>"):format(info.short_src, info.linedefined)
end

function State:atom(value)
    local kind = type(value)
    if kind == "string" then
        return self:string(value)
    elseif value == json.null then
        return self:paint("null", "null")
    elseif kind == "number" or kind == "boolean" or kind == "nil" then
        return self:paint(kind, tostring(value))
    elseif kind == "function" then
        return self:paint("note", function_text(value))
    end
    return spoken(value)
end

--- Whether a table has a text of its own, as clients and errors have.
local function speaks(value)
    local metatable = debug.getmetatable(value)
    return type(metatable) == "table" and (rawget(metatable, "__tostring") ~= nil)
end

local RANK = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
    local ka, kb = type(a), type(b)
    if ka ~= kb then
        return (RANK[ka] or 4) < (RANK[kb] or 4)
    elseif RANK[ka] and ka ~= "boolean" then
        return a < b
    end
    return tostring(a) < tostring(b)
end

--- The keys outside the list part, in order; at most `max`, and how many there are.
local function other_keys(value, length, max)
    local keys, count = {}, 0
    for key in next, value do
        if not (math.type(key) == "integer" and key >= 1 and key <= length) then
            count = count + 1
            if count <= max * 50 then
                keys[#keys + 1] = key
            end
        end
    end
    table.sort(keys, function(a, b)
        local ok, result = pcall(before, a, b)
        return ok and result
    end)
    return keys, count
end

function State:key(key)
    if type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] then
        return auth.redact(key)
    end
    return "[" .. (type(key) == "table" and "<table>" or self:atom(key)) .. "]"
end

--- The entries of a table, each as text.
function State:entries(value, depth)
    local entries, length, max = {}, rawlen(value), self.options.items
    for i = 1, math.min(length, max) do
        entries[i] = self:value(rawget(value, i), depth + 1)
    end
    if length > max then
        entries[#entries + 1] = self:paint("note", ("... %d more"):format(length - max))
    end
    local keys, count = other_keys(value, length, max)
    for i = 1, math.min(#keys, max) do
        entries[#entries + 1] = self:key(keys[i]) .. " = " .. self:value(rawget(value, keys[i]), depth + 1)
    end
    if count > max then
        entries[#entries + 1] = self:paint("note", ("... %d more"):format(count - max))
    end
    return entries
end

local function visible_length(text)
    return utf8.len((text:gsub("\27%[[%d;]*m", ""))) or #text
end

--- The entries of a list of numbers with several on a line; nil for other tables.
function State:packed(value, entries, indent)
    for key, item in next, value do
        if math.type(key) ~= "integer" or type(item) ~= "number" then
            return nil
        end
    end
    local lines, line, length = {}, {}, indent + 2
    for _, entry in ipairs(entries) do
        local size = visible_length(entry) + 2
        if #line > 0 and length + size > self.options.width then
            lines[#lines + 1] = table.concat(line, ", ")
            line, length = {}, indent + 2
        end
        line[#line + 1] = entry
        length = length + size
    end
    lines[#lines + 1] = table.concat(line, ", ")
    return lines
end

function State:table(value, depth)
    local is_array = json.is_array(value)
    local open, close = is_array and "[" or "{", is_array and "]" or "}"
    if self.path[value] then
        return self:paint("note", "<cycle>")
    elseif next(value) == nil then
        return open .. close
    elseif depth >= self.options.depth or self.used > self.options.total then
        return open .. self:paint("note", "...") .. close
    end
    self.path[value] = true
    local entries = self:entries(value, depth)
    self.path[value] = nil
    local indent = ("  "):rep(depth)
    local line = table.concat(entries, ", ")
    local inner = is_array and line or " " .. line .. " "
    if not line:find("\n", 1, true) and visible_length(inner) + #indent + 2 <= self.options.width then
        return open .. inner .. close
    end
    entries = #entries > 3 and self:packed(value, entries, #indent) or entries
    return open .. "\n" .. indent .. "  " .. table.concat(entries, ",\n" .. indent .. "  ") .. "\n" .. indent .. close
end

function State:value(value, depth)
    local text
    if type(value) == "table" and not speaks(value) then
        text = self:table(value, depth)
    else
        text = self:atom(value)
        self.used = self.used + #text
    end
    return text
end

--- A value as text, of one line or several.
---@param value any
---@param options? table fields of `show.defaults`
---@return string
function show.value(value, options)
    local state = setmetatable({
        options = setmetatable(options or {}, { __index = show.defaults }),
        path = {},
        used = 0,
    }, State)
    return state:value(value, 0)
end

return show
