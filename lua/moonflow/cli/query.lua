--- The expressions of --query: Lua over the result `r`, with the functions that only compute.
local error = require "moonflow.error"
local json = require "moonflow.json"
local tables = require "moonflow.tables"

local query = {}

local FUNCTIONS = { "ipairs", "next", "pairs", "select", "tonumber", "tostring", "type" }
local LIBRARIES = { "math", "string", "table", "utf8" }

local function environment()
    local globals = { null = json.null }
    for _, name in ipairs(FUNCTIONS) do
        globals[name] = _G[name]
    end
    for _, name in ipairs(LIBRARIES) do
        globals[name] = tables.copy(_G[name])
    end
    globals.string.dump, globals.math.randomseed = nil, nil
    return globals
end

local function misuse(expression, message)
    error.raise {
        kind = "usage",
        message = ("--query %s\n%s"):format(expression, (message:gsub("^%-%-query:%d+: ", ""))),
        hint = "-q 'r.choices[1].message.content'\nmoonflow help query",
    }
end

--- Makes a function of an expression.
---@param expression string
---@return function of the result
function query.compile(expression)
    local globals = environment()
    local chunk, message = load("return " .. expression, "=--query", "t", globals)
    if not chunk then
        misuse(expression, message)
    end
    return function(result)
        globals.r = result
        local ok, value = pcall(chunk)
        if not ok then
            misuse(expression, tostring(value))
        end
        return value
    end
end

return query
