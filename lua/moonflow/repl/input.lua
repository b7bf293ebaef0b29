--- Where the lines of a session come from: libedit's editor, or plain lines where that is not there or
-- the terminal can not move its cursor.
local _task = require "moonflow._task"
local env = require "moonflow.env"
local source = require "moonflow.repl.source"
local sys = require "moonflow.sys"

local input = {}

local LINES_MAX = 1024 * 1024 -- bytes of a text of plain lines

--- Whether the terminal can be drawn on.
---@return boolean
function input.is_capable()
    local term = env.TERM
    return term ~= nil and term ~= "" and term ~= "dumb" and sys.isatty(0) and sys.isatty(1)
end

--- Whether colours are wanted.
---@return boolean
function input.wants_color()
    return input.is_capable() and (env.NO_COLOR or "") == ""
end

--- The module of the editor; nil and why where it is not there.
---@return table?
---@return string?
function input.library()
    local ok, line = pcall(require, "moonflow._line")
    return ok and line or nil, not ok and tostring(line):match("^[^\n]*") or nil
end

local Plain = {}
Plain.__index = Plain

--- Reads plain lines until they make a text.
---@return string|nil text nil at the end of input, or where it was interrupted
---@return string? why "end" or "interrupted"
function Plain.read()
    local text
    while true do
        io.write(text and ">> " or "> ")
        io.flush()
        local line = _task.wait_input() and io.read("L")
        if _task.acknowledge() then
            io.write("\n")
            return nil, "interrupted"
        elseif not line then
            return nil, "end"
        end
        text = (text or "") .. line
        if source.is_complete(text) or #text > LINES_MAX then
            return (text:gsub("\n$", ""))
        end
    end
end

function Plain.add()
end

function Plain.close()
end

local Edited = {}
Edited.__index = Edited

function Edited:read()
    return self.editor:read(self.prompt)
end

function Edited:add(text)
    self.editor:add(text)
end

function Edited:close()
    self.editor:close()
end

--- Opens the input of a session.
---@param line table|nil the module moonflow._line
---@param complete function of the module moonflow.repl.complete
---@return table input with read, add and close
function input.open(line, complete)
    local editor = line and input.is_capable() and line.open(source.is_complete, complete)
    if not editor then
        return setmetatable({}, Plain)
    end
    local prompt = input.wants_color() and "\1\27[1;34m\1>\1\27[0m\1 " or "> " -- a colour at the very end is dropped
    return setmetatable({ editor = editor, prompt = prompt }, Edited)
end

return input
