--- An environment of its own for tests of logging in to Databricks: a home directory with files, its
-- programs on PATH, and no variable of the user's that matters.
local env = require "moonflow.env"

local home = {}

local OWN = "^[A-Za-z]*_?DATABRICKS_"
local OTHERS = { "^ARM_", "^ACTIONS_", "^AZURE_", "^MOONFLOW_ALLOW", "^MOONFLOW_TOKEN", "^XDG_CACHE",
    "^SYSTEM_", "^IS_IN_D", "^DB_MODEL", "^SERVING_" }
local NAMES = {
    "HOME", "PATH", "FAIL", "MY_TOKEN", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy",
    "ALL_PROXY",
}

--- Large enough to be no old Databricks CLI.
home.PADDING = ("#"):rep(1024 * 1024)

local Home = {}
Home.__index = Home

local function concerns(name)
    if name:find(OWN) or name:find "^DATABRICKS_" then
        return true
    end
    for _, pattern in ipairs(OTHERS) do
        if name:find(pattern) then
            return true
        end
    end
    for _, other in ipairs(NAMES) do
        if name == other then
            return true
        end
    end
    return false
end

--- Makes the directory, and its environment that of moonflow until it is closed.
---@return table home fields dir; methods write, set, close
function home.new()
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute(("mkdir %s %s/bin"):format(dir, dir)))
    local saved = {}
    for name, value in pairs(env) do
        if concerns(name) then
            saved[name] = value
            env[name] = nil
        end
    end
    env.HOME = dir
    env.PATH = dir .. "/bin:/usr/bin:/bin"
    return setmetatable({ dir = dir, saved = saved }, Home)
end

--- Writes a file; what is below bin/ can be run.
---@return string path
function Home:write(name, text)
    local path = self.dir .. "/" .. name
    assert(os.execute(("mkdir -p $(dirname '%s')"):format(path)))
    do
        local file <close> = assert(io.open(path, "wb"))
        file:write(text)
    end
    if name:find "^bin/" then
        assert(os.execute(("chmod 755 '%s'"):format(path)))
    end
    return path
end

--- Sets variables.
function Home:set(variables)
    for name, value in pairs(variables) do
        if self.saved[name] == nil then
            self.saved[name] = env[name] or false
        end
        env[name] = value
    end
end

function Home:close()
    for name in pairs(env) do
        if concerns(name) or self.saved[name] ~= nil then
            env[name] = nil
        end
    end
    for name, value in pairs(self.saved) do
        env[name] = value or nil
    end
    os.execute("rm -r " .. self.dir)
end

Home.__close = Home.close

return home
