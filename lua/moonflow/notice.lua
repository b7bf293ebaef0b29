--- The lines that moonflow itself writes to stderr: warnings and retries.
local auth = require "moonflow.auth"

local notice = {}

local said = {}

--- Where the lines go.
---@param line string without its newline
function notice.write(line)
    io.stderr:write(line, "\n")
end

--- Writes "moonflow: TEXT", without secrets.
---@param text string
function notice.say(text)
    notice.write("moonflow: " .. auth.redact(text))
end

--- Writes a warning, the first time that it is given.
---@param text string
function notice.once(text)
    if not said[text] then
        said[text] = true
        notice.say("warning: " .. text)
    end
end

return notice
