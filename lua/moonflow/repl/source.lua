--- What was typed as Lua: expression first, whether more lines are to come, and locals that outlive
-- their line.
local source = {}

local NAME = "=stdin"

--- Names of locals that are closed at the end of their chunk: nothing of them may stay.
local function closed_names(text)
    local names = {}
    for name in text:gmatch("([%a_][%w_]*)%s*<%s*close%s*>") do
        names[name] = true
    end
    return names
end

--- Copies the locals of the function at a level of the stack into a table.
local function copy_locals(level, into, except)
    local i = 1
    while true do
        local name, value = debug.getlocal(level + 1, i)
        if not name then
            return
        elseif name:sub(1, 1) ~= "(" and not except[name] then
            rawset(into, name, value)
        end
        i = i + 1
    end
end

--- What a muted line begins with: "x = f();" shows nothing.
local function is_muted(text)
    return text:find(";%s*$") ~= nil
end

---@class moonflow.Line
---@field text string
---@field run function runs it: true and its results, or false, the error value and a traceback
---@field expression boolean its results are to be shown
---@field muted boolean they are not, as it ends with ";"

--- A function that runs a chunk protected and keeps its locals in `env`, also where it fails.
local function runner(text, chunk, env)
    local except = closed_names(text)
    local function keep()
        copy_locals(2, env, except)
    end
    local function on_error(value)
        local level = 2
        local info = debug.getinfo(level, "f")
        while info and info.func ~= chunk do
            level = level + 1
            info = debug.getinfo(level, "f")
        end
        if info then
            copy_locals(level, env, except)
        end
        return { value = value, traceback = debug.traceback(nil, 2) }
    end
    return function()
        local results = table.pack(xpcall(chunk, on_error, keep))
        if results[1] then
            return table.unpack(results, 1, results.n)
        end
        local failure = results[2]
        if type(failure) ~= "table" or failure.traceback == nil then
            return false, failure
        end
        return false, failure.value, failure.traceback
    end
end

--- Compiles a text.
---@param text string
---@param env table its globals
---@return moonflow.Line|nil
---@return string? message
function source.compile(text, env)
    local chunk = load("return " .. text, NAME, "t", env)
    local expression = chunk ~= nil
    if not chunk then
        local message
        chunk, message = load(text, NAME, "t", env)
        if not chunk then
            return nil, message
        end
        -- The call at the end sees the locals. Behind a `return` there can be none, and no locals stay.
        -- A constant that is known beforehand is no variable to Lua, so it is made one.
        local kept = text:gsub("(local%s+[%a_][%w_]*)%s*<%s*const%s*>", "%1")
        chunk = load(kept .. "\n;(...)()", NAME, "t", env) or chunk
    end
    return { text = text, run = runner(text, chunk, env), expression = expression, muted = is_muted(text) }
end

--- Whether Enter runs a text. One that lacks its end is run all the same behind two empty lines.
---@param text string
---@return boolean
function source.is_complete(text)
    if text:find("^%s*,") or text:find("^%s*$") or text:find("\n%s*\n%s*$") then
        return true
    end
    for _, before in ipairs { "return ", "" } do
        local chunk, message = load(before .. text .. "\n", NAME, "t")
        if chunk then
            return true
        elseif message:find("<eof>$") then
            return false
        end
    end
    return true
end

--- Whether the value of an expression is worth a "nil": a name's is, a call's is not.
---@param text string
---@return boolean
function source.is_call(text)
    return text:find("[%)}\"'%]]%s*;?%s*$") ~= nil and not text:find("^%s*[%a_][%w_.]*%s*%b[]%s*;?%s*$")
end

return source
