--- The environment as a table, like Python's os.environ: a copy of the process's environment that
-- scripts may change (`env.NAME = "value"`, nil removes) and that every look-up of moonflow reads.
-- The process's own environment stays as it is.
local error = require "moonflow.error"
local sys = require "moonflow.sys"

-- `changes` counts the assignments, so that whoever keeps a value can see that it may be old.
local metatable = { __name = "moonflow.env", changes = 0 }
local values

local function all()
    values = values or sys.environ()
    return values
end

function metatable.__index(_, name)
    return all()[name]
end

function metatable.__newindex(_, name, value)
    if type(name) ~= "string" or name == "" or name:find("[=%z]") then
        error.raise {
            kind = "usage",
            message = "the name of an environment variable must be a string without \"=\" and NUL",
        }
    end
    if value ~= nil and (type(value) ~= "string" or value:find("%z")) then
        error.raise {
            kind = "usage",
            message = ("environment variable %s must be a string without NUL, or nil, got a %s"):format(name,
                type(value)),
        }
    end
    all()[name] = value
    metatable.changes = metatable.changes + 1
end

--- In the order of the names; assigning while iterating is fine.
function metatable.__pairs()
    local names = {}
    for name in pairs(all()) do
        names[#names + 1] = name
    end
    table.sort(names)
    local i = 0
    return function()
        local name, value
        repeat
            i = i + 1
            name = names[i]
            value = name and values[name]
        until value or not name
        return name, value
    end
end

return setmetatable({}, metatable)
