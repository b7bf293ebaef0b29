--- The history of what was typed, across runs: a file of the user's alone, a line for each entry,
-- without secrets. Entries are added one by one, so sessions at once keep each other's.
local auth = require "moonflow.auth"
local env = require "moonflow.env"
local sys = require "moonflow.sys"

local history = {}

local FILE_MAX = 1024 * 1024 -- bytes that are kept; the file is cut at twice as many
local ENTRY_MAX = 16 * 1024  -- bytes of one entry

-- Names whose values are no one else's business.
local PRIVATE = { "token", "secret", "passw", "api_?key", "authorization", "credential", "_key$" }

local function is_private(name)
    name = name:lower()
    for _, pattern in ipairs(PRIVATE) do
        if name:find(pattern) then
            return true
        end
    end
    return false
end

local function hide_value(name, between, quote, value)
    if is_private(name) and value ~= "" then
        return name .. between .. quote .. "<redacted>" .. quote
    end
end

--- A text without secrets: those that are known, and strings that are assigned to what is called like
-- one.
---@param text string
---@return string
function history.redact(text)
    text = auth.redact(text)
    text = text:gsub("([%w_-]+)([\"'%]%s]*=%s*)([\"'])(.-)%3", hide_value)
    return (text:gsub("([Bb]earer%s+)[%w%-._~+/=]+", "%1<redacted>"))
end

--- Where the file is; nil where the user has no home.
---@return string?
function history.path()
    local state = env.XDG_STATE_HOME
    if not state or state:sub(1, 1) ~= "/" then -- as its specification says
        state = env.HOME and env.HOME:sub(1, 1) == "/" and env.HOME .. "/.local/state"
    end
    return state and state .. "/moonflow/history"
end

local CODES = { ["\\"] = "\\\\", ["\n"] = "\\n", ["\0"] = "" }
local CHARS = { ["\\"] = "\\", n = "\n" }

--- An entry as a line of the file.
---@param text string
---@return string
function history.encode(text)
    return (text:gsub("[\\\n%z]", CODES))
end

--- A line of the file as an entry.
---@param line string
---@return string
function history.decode(line)
    return (line:gsub("\\(.)", CHARS))
end

--- The entries of a file, the oldest first.
---@param path string
---@return string[]
function history.load(path)
    local entries = {}
    for line in (sys.read_file(path, 4 * FILE_MAX) or ""):gmatch("([^\n]+)\n") do
        entries[#entries + 1] = history.decode(line)
    end
    return entries
end

--- Whether a text belongs into the history.
---@param text string
---@return boolean
function history.wants(text)
    return not text:find("^[ \t]") and text:find("%S") ~= nil and #text <= ENTRY_MAX
end

--- Adds an entry to the file.
---@param line table the module moonflow._line
---@param path string
---@param text string
---@return boolean? ok or nil and an error
---@return table? err
function history.add(line, path, text)
    if history.wants(text) then
        return line.append(path, history.encode(history.redact(text)))
    end
    return true
end

--- Cuts the file where it has grown too long.
---@param line table the module moonflow._line
---@param path string
function history.trim(line, path)
    return line.trim(path, FILE_MAX)
end

return history
