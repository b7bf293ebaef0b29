--- Which Databricks workspace a target means, and its personal access token: the options host and token,
-- DATABRICKS_HOST and DATABRICKS_TOKEN, or a profile of the configuration file, each pair as a whole.
local auth = require "moonflow.auth"
local config = require "moonflow.config"
local credentials = require "moonflow.credentials"
local env = require "moonflow.env"
local error = require "moonflow.error"
local settings = require "moonflow.settings"
local sys = require "moonflow.sys"
local target = require "moonflow.target"
local url = require "moonflow.url"

local databricks = {}

--- Options of a Databricks client besides the usual ones.
---@type moonflow.Param[]
databricks.options = {
    { name = "host", type = "string", doc = "URL of the workspace" },
    { name = "profile", type = "string", doc = "profile of the configuration file" },
}

local SECRET_KEYS = { token = true }

--- The profile that a target names: databricks://PROFILE.
local function profile_of(uri)
    local rest = assert(target.parse(uri)).rest
    if not rest or rest == "" then
        return nil
    elseif not uri:find("^%s*%a+://") or rest:find("[/: ]") then
        error.raise {
            kind = "config",
            message = ("%s is no Databricks target"):format(uri),
            hint = "databricks, or databricks://PROFILE with a profile of ~/.databrickscfg",
        }
    end
    return rest
end

--- Checks a new client's target and options.
---@param self table
function databricks.init(self)
    local profile = profile_of(self.target_uri)
    if profile and self.config.profile and profile ~= self.config.profile then
        error.raise { kind = "usage", message = "the option profile is another one than the target's" }
    end
end

--- The values of a profile, and the file; an empty table where neither is there and nobody named them.
local function read_profile(name)
    local path = config.get("DATABRICKS_CONFIG_FILE") or (env.HOME or "") .. "/.databrickscfg"
    if not name and not sys.stat(path) then
        return {}, path
    end
    local values, err = auth.read_ini(path, name or "DEFAULT", SECRET_KEYS)
    if values then
        return values, path
    elseif not name and err.error_code == "RESOURCE_DOES_NOT_EXIST" then
        return {}, path
    end
    return error.raise(err)
end

local function base_of(host, source)
    local text = host:match("^%s*(.-)%s*$")
    local base = text:find("://", 1, true) and text or "https://" .. text
    local parts, err = url.parse(base)
    if not parts then
        error.raise {
            kind = "config",
            message = ("the Databricks host of %s is no host: %s"):format(source, err.message),
        }
    end
    return parts.origin:gsub(":443$", "")
end

--- Where a client's requests go, and with which token.
---@class moonflow.DatabricksPlace
---@field base string URL of the workspace, without a slash at its end
---@field token userdata|string
---@field source string what named both

---@param self table
---@return moonflow.DatabricksPlace
function databricks.find_place(self)
    local options = self.config
    local profile = profile_of(self.target_uri) or options.profile
    local host, token, source
    if options.host or options.token then
        host, token, source = options.host, options.token, "the options host and token"
    end
    if not profile and not (host and token) then
        host, token = host or config.get("DATABRICKS_HOST"), token or config.get("DATABRICKS_TOKEN")
        source = source or "DATABRICKS_HOST and DATABRICKS_TOKEN"
    end
    if not host and not token then
        local values, path = read_profile(profile or config.get("DATABRICKS_CONFIG_PROFILE"))
        host, token = values.host, values.token
        source = ("profile %s of %s"):format(profile or config.get("DATABRICKS_CONFIG_PROFILE") or "DEFAULT", path)
    end
    if not host or not token then
        error.raise {
            kind = "auth",
            message = ("no Databricks %s found\nlooked at the options host and token, DATABRICKS_HOST and "
                .. "DATABRICKS_TOKEN%s; personal access tokens are the only way to log in so far"):format(
                host and "token" or "host", source and ", and " .. source or ""),
            hint = "export DATABRICKS_HOST=https://...\nexport DATABRICKS_TOKEN=...",
        }
    end
    return { base = base_of(host, source), token = token, source = source }
end

--- The credential of requests to an origin; see `moonflow.credentials`.
---@param self table
---@param origin string
---@return moonflow.Credential
function databricks.credential(self, origin)
    local place = settings.place(self)
    local found = credentials.build(auth.bearer, place.source, "Authorization", place.token, origin)
    found.headers["X-Databricks-Endpoints-API-Client"] = "Databricks Deployment Client"
    return found
end

return databricks
