--- The names of a target's endpoints for completion: from a file that is less than a minute old, else
-- asked for within 300 ms, else from the old file. Nothing here fails, and no program or request that
-- gives a token is started: who logs in that way gets names only from what is kept.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local cache = {}

local FRESH = 60            -- seconds
local STALE = 24 * 3600     -- seconds
local PATIENCE = 0.3        -- seconds that asking takes
local FILE_MAX = 1024 * 1024 -- bytes
local NAMES_MAX = 5000
local ATTEMPT = { max_retries = 0, connect_timeout = PATIENCE, timeout = PATIENCE, total_timeout = PATIENCE }

-- Variables that decide which endpoints a target has.
local VARIABLES = {
    "DATABRICKS_HOST", "DATABRICKS_CONFIG_FILE", "DATABRICKS_CONFIG_PROFILE", "OPENAI_API_BASE", "OPENAI_BASE_URL",
    "AZURE_OPENAI_ENDPOINT", "OPENAI_API_TYPE", "MLFLOW_TRACKING_USERNAME",
}

--- A number for a text; two texts with the same one would only share names of endpoints. FNV-1a.
local function hash(text)
    local sum = 0xcbf29ce484222325
    for i = 1, #text do
        sum = (sum ~ text:byte(i)) * 0x100000001b3
    end
    return ("%016x"):format(sum)
end

local function directory()
    local base = env.XDG_CACHE_HOME
    if not base or base:sub(1, 1) ~= "/" then
        base = env.HOME and env.HOME .. "/.cache"
    end
    return base
end

local function file_of(target)
    local parts = { target }
    for _, name in ipairs(VARIABLES) do
        parts[#parts + 1] = env[name] or ""
    end
    local base = directory()
    return base and ("%s/moonflow/endpoints-%s.json"):format(base, hash(table.concat(parts, "\n")))
end

--- The kept names and how old they are, or nil.
local function read(file)
    local content = sys.read_private(file, FILE_MAX)
    local value = content and json.decode(content)
    if type(value) ~= "table" or type(value.at) ~= "number" or type(value.names) ~= "table" then
        return nil
    end
    return value.names, math.abs(sys.time() - value.at)
end

local function write(file, names)
    local base = directory()
    sys.make_private_dir(base)
    sys.make_private_dir(base .. "/moonflow")
    sys.write_private(file, (assert(json.encode { at = sys.time(), names = json.array(names) })))
end

local function fetch_no_tokens()
    local tokens = require "moonflow.tokens"
    function tokens.get()
        error.raise { kind = "auth", message = "completion logs in nowhere" }
    end
end

local function ask(target)
    fetch_no_tokens()
    local list = task.timeout(PATIENCE, function()
        return deployments.get_deploy_client(target):list_endpoints { options = ATTEMPT }
    end)
    local names = {}
    for _, endpoint in ipairs(list) do
        if type(endpoint.name) == "string" and #names < NAMES_MAX then
            names[#names + 1] = endpoint.name
        end
    end
    return names
end

--- The names, as far as they are known in so short a time.
---@async
---@param target? string
---@return string[]
function cache.names(target)
    function notice.write() end
    local ok, found = pcall(function()
        target = target or deployments.get_deployments_target()
        local file = file_of(target)
        local names, age
        if file then
            names, age = read(file)
        end
        if names and age < FRESH then
            return names
        end
        local asked, fresh = pcall(ask, target)
        if asked then
            if file then
                pcall(write, file, fresh)
            end
            return fresh
        end
        return names and age < STALE and names or {}
    end)
    return ok and found or {}
end

return cache
