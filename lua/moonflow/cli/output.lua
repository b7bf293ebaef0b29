--- What commands print: the same result as a table, as JSON or as names, whole or through a query; to
-- standard output or to a file.
local env = require "moonflow.env"
local error = require "moonflow.error"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local output = {}

local STDOUT, STDERR = 1, 2
local CELL_MAX = 400 -- bytes of a cell before it is fitted
local IN_ORDER = { sort = true } -- the same result is the same text

local Output = {}
Output.__index = Output

--- Text as a terminal may be given it: a server's escape sequences must not reach it.
local function safe(given)
    return text.clean(given, #given)
end

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

-- Files ------------------------------------------------------------------------------------------

--- A file that appears under its name only when it is whole. What is no file, such as a pipe, is
-- written at once.
local function open_file(path)
    local status = sys.stat(path)
    local temporary = (not status or status.type == "file")
        and ("%s.%08x.part"):format(path, math.floor(sys.random() * 0x100000000)) or nil
    local file, message = io.open(temporary or path, "wb")
    if not file then
        misuse(("--output-path can not be written\n%s"):format(message))
    end
    return file, temporary
end

local function fail_to_write(self, message)
    error.raise { kind = "config", message = ("%s can not be written\n%s"):format(self.path, message) }
end

--- Writes bytes as they are.
---@param bytes string
---@return boolean whether somebody still reads
function Output:write(bytes)
    local ok, message = (self.file or io.stdout):write(bytes)
    if not ok and self.file then
        fail_to_write(self, message)
    end
    return ok ~= nil
end

--- Puts what was written in its place. Without this a file is not touched.
function Output:finish()
    if not self.file then
        return
    end
    local file = self.file
    self.file = nil
    local ok, message = file:close()
    if ok and self.temporary then
        ok, message = os.rename(self.temporary, self.path)
        self.temporary = ok and nil or self.temporary
    end
    if not ok then
        fail_to_write(self, message)
    end
end

function Output:__close()
    if self.file then
        self.file:close()
        self.file = nil
    end
    if self.temporary then
        os.remove(self.temporary)
    end
end

-- Messages ---------------------------------------------------------------------------------------

--- Says something that is no data, on standard error.
function Output:say(message)
    if not self.quiet then
        io.stderr:write(safe(message), "\n")
    end
end

--- The text in one of the terminal's styles, where it has any.
local function styled(self, code, given)
    return self.has_styles and ("\27[%sm%s\27[0m"):format(code, given) or given
end

-- Formats ----------------------------------------------------------------------------------------

local function encode(value)
    if value == nil then
        value = json.null
    end
    local encoded, err = json.encode(value, IN_ORDER)
    if not encoded then
        error.raise(err)
    end
    return encoded
end

local function is_list(value)
    return type(value) == "table" and (json.is_array(value) or #value > 0)
end

local function items_of(value)
    return is_list(value) and value or { value }
end

local function cell(value)
    if value == nil or value == json.null then
        return ""
    end
    local shown = type(value) == "string" and value or encode(value)
    return text.one_line(shown, CELL_MAX)
end

--- The columns of a list of objects that nobody has chosen columns for.
local function columns_of(items)
    local columns, known = {}, {}
    for _, item in ipairs(items) do
        for key, value in next, item do
            if type(value) ~= "table" and not known[key] then
                known[key] = true
                columns[#columns + 1] = {
                    key = tostring(key),
                    title = text.one_line(tostring(key), CELL_MAX):upper(),
                    cell = function(row) return cell(row[key]) end,
                }
            end
        end
    end
    table.sort(columns, function(a, b)
        if (a.key == "name") ~= (b.key == "name") then
            return a.key == "name"
        end
        return a.key < b.key
    end)
    return columns
end

--- The lines "name  value" of an object.
local function write_fields(self, object)
    local keys, width = {}, 0
    for key in next, object do
        local shown = text.one_line(tostring(key), CELL_MAX)
        keys[#keys + 1] = { key, shown }
        width = math.max(width, utf8.len(shown) or #shown)
    end
    table.sort(keys, function(a, b)
        return a[2] < b[2]
    end)
    for _, pair in ipairs(keys) do
        local value, shown = object[pair[1]], pair[2]
        local gap = (" "):rep(width - utf8.len(shown) + 2)
        local whole = type(value) == "string" and value or encode(value)
        self:write(styled(self, "1", shown) .. gap .. text.one_line(whole, #whole) .. "\n")
    end
end

local function are_objects(items)
    for _, item in ipairs(items) do
        if type(item) ~= "table" or is_list(item) then
            return false
        end
    end
    return true
end

local writers = {}

function writers.json(self, value)
    if self.is_terminal then
        self:write(safe(require("moonflow.wire.pretty").json(encode(value))) .. "\n")
    else
        self:write(encode(value) .. "\n")
    end
end

function writers.jsonl(self, value)
    for _, item in ipairs(items_of(value)) do
        local line = encode(item)
        self:write((self.is_terminal and safe(line) or line) .. "\n")
    end
end

function writers.name(self, value)
    for _, item in ipairs(items_of(value)) do
        local name = type(item) == "table" and item.name or item
        if type(name) ~= "string" then
            misuse("-o name: the result has no name", "-o json")
        end
        self:write((self.is_terminal and safe(name) or name) .. "\n")
    end
end

function writers.table(self, value, columns)
    if type(value) ~= "table" then
        self:write(cell(value) .. "\n")
    elseif not is_list(value) and not columns then
        write_fields(self, value)
    elseif not are_objects(items_of(value)) then
        writers.json(self, value)
    elseif next(value) == nil then
        self:say("none")
    else
        local items = items_of(value)
        columns = columns or columns_of(items)
        if #columns == 0 then
            return writers.json(self, value)
        end
        local lines = require("moonflow.cli.grid").lines(columns, items, self.width)
        lines[1] = styled(self, "1", lines[1])
        self:write(table.concat(lines, "\n") .. "\n")
    end
end

--- A value as a line of JSON.
output.encode = encode

--- Prints a string as it is, with one newline at its end.
---@param given string
---@return boolean whether somebody still reads
function Output:text(given)
    given = self.is_terminal and safe(given) or given
    return self:write(given:sub(-1) == "\n" and given or given .. "\n")
end

--- Prints a command's result. nil and true, which say no more than that it worked, print nothing.
---@param value any
---@param columns? table[] of a table, where the result is a list: { title, cell = function(item) -> string }
function Output:result(value, columns)
    if columns and type(value) == "table" and next(value) == nil then
        value = json.array {} -- an empty list of a plugin is a plain table
    end
    if self.query then
        value = self.query(value)
        columns = nil
        if type(value) == "string" then
            self:text(value)
            return
        end
    elseif value == nil or value == true then
        return
    end
    writers[self.format](self, value, columns)
end

--- Where a command prints, by its values `output`, `query`, `quiet` and `output_path`. For a `<close>`
-- variable; `finish` at the end.
---@param values table
---@return table
function output.open(values)
    local path = values.output_path ~= "-" and values.output_path or nil
    local is_terminal = not path and sys.isatty(STDOUT)
    local self = setmetatable({
        path = path,
        is_terminal = is_terminal,
        has_styles = is_terminal and (env.NO_COLOR or "") == "" and env.TERM ~= "dumb",
        width = is_terminal and output.width() or nil,
        format = values.output or (is_terminal and not values.query and "table" or "json"),
        query = values.query and require("moonflow.cli.query").compile(values.query),
        quiet = values.quiet,
    }, Output)
    if path then
        self.file, self.temporary = open_file(path)
    end
    return self
end

--- The characters of a line of the terminal.
---@return integer
function output.width()
    local columns = math.tointeger(tonumber(env.COLUMNS or ""))
    return columns and columns > 0 and columns or sys.columns and sys.columns(STDOUT) or 80
end

--- Whether a person reads what is said on standard error.
---@return boolean
function output.is_watched()
    return sys.isatty(STDERR)
end

return output
