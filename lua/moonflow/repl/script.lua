--- A session as a script that runs: what failed is dropped, what was shown is printed, and the target
-- is named.
local history = require "moonflow.repl.history"

local script = {}

local function uses(text, name)
    return text:find("%f[%w_]" .. name .. "%f[^%w_]") ~= nil
end

--- Whether a statement ends in a `return`, which would end the script.
local function returns(text)
    return load(text, "=stdin", "t") ~= nil and load(text .. "\n;(...)()", "=stdin", "t") == nil
end

--- An entry as lines of the script. `keeps`: later entries use `_`.
local function lines_of(entry, keeps)
    local text = history.redact(entry.text):gsub("%s+$", "")
    if not entry.expression then
        return returns(text) and ("show((function()\n%s\nend)())"):format(text) or text
    end
    -- A comment at its end would hide what comes behind it.
    text = text:gsub(";%s*$", "") .. (text:find("%-%-") and "\n" or "")
    local call = (entry.muted and "quiet(%s)" or "show(%s)"):format(text)
    return keeps and "_3, _2, _ = _2, _, " .. call or call
end

local MODULES = { "auth", "chat", "deployments", "env", "http", "json", "task" }

local function header(text, target)
    local lines = { "#!/usr/bin/env moonflow" }
    for _, name in ipairs(MODULES) do
        if text:find("%f[%w_]" .. name .. "%s*%.%s*%a") or name == "deployments" and target then
            lines[#lines + 1] = ("local %s = require \"moonflow.%s\""):format(name, name)
        end
    end
    if uses(text, "show") then
        lines[#lines + 1] = "local show = require(\"moonflow.repl.result\").print"
    end
    if uses(text, "quiet") then
        lines[#lines + 1] = "local function quiet(...) return ... end"
    end
    if target then
        lines[#lines + 1] = ("deployments.set_deployments_target(%q)"):format(target)
        if uses(text, "client") then
            lines[#lines + 1] = "client = deployments.get_deploy_client()"
        end
    end
    return table.concat(lines, "\n")
end

--- The script of a session.
---@param entries table[] of a session
---@param target string?
---@return string? text nil where it would not compile
---@return string? message
function script.of(entries, target)
    local body, keeps = {}, false
    for _, entry in ipairs(entries) do
        keeps = keeps or uses(entry.text, "_[23]?")
    end
    for _, entry in ipairs(entries) do
        if not entry.failed then
            body[#body + 1] = entry.target and ("deployments.set_deployments_target(%q)\n"):format(entry.target)
                .. "client = deployments.get_deploy_client()" or lines_of(entry, keeps)
        end
    end
    local text = table.concat(body, "\n")
    text = header(text, target) .. "\n\n" .. text .. "\n"
    local ok, message = load((text:gsub("^#[^\n]*", "")), "=script", "t")
    return ok and text or nil, message
end

return script
