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
local text = require "moonflow.text"
local url = require "moonflow.url"

local databricks = {}

--- Options of a Databricks client besides the usual ones.
---@type moonflow.Param[]
databricks.options = {
    { name = "host", type = "string", doc = "URL of the workspace, with token" },
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
    local options, profile = self.config, profile_of(self.target_uri)
    if profile and options.profile and profile ~= options.profile then
        error.raise { kind = "usage", message = "the option profile is another one than the target's" }
    elseif (options.host == nil) ~= (options.token == nil) then
        error.raise { kind = "usage", message = "options \"host\" and \"token\" belong together" }
    elseif options.username then
        error.raise {
            kind = "usage",
            message = "Databricks takes no options \"username\" and \"password\"",
            hint = "give \"host\" and \"token\", a personal access token",
        }
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

local function origin_of(host, source)
    local address = text.trim(host)
    local parts, err = url.parse(address:find("://", 1, true) and address or "https://" .. address)
    if not parts then
        error.raise {
            kind = "config",
            message = ("the Databricks host of %s is no host: %s"):format(source, err.message),
        }
    end
    return parts.origin
end

--- Host and token out of the first source that has one of them, and that source.
local function find_pair(self)
    local options, profile = self.config, profile_of(self.target_uri) or self.config.profile
    if options.host then
        return options.host, options.token, "the options host and token"
    end
    local host, token = config.get("DATABRICKS_HOST"), config.get("DATABRICKS_TOKEN")
    if not profile and (host or token) then
        return host, token, "DATABRICKS_HOST and DATABRICKS_TOKEN"
    end
    profile = profile or config.get("DATABRICKS_CONFIG_PROFILE")
    local values, path = read_profile(profile)
    return values.host, values.token, ("profile %s of %s"):format(profile or "DEFAULT", path)
end

local function refuse_pair(host, token, source)
    local message, hint = "no Databricks %s found in %s\nhost and token come from one source", "set both in " .. source
    if not host and not token then
        message = "no Databricks %s found\nlooked at the options host and token, DATABRICKS_HOST and DATABRICKS_TOKEN, "
            .. "and %s"
        hint = "export DATABRICKS_HOST=https://...\nexport DATABRICKS_TOKEN=..."
    end
    error.raise {
        kind = "auth",
        message = message:format(host and "token" or "host", source)
            .. "; personal access tokens are the only way to log in so far",
        hint = hint,
    }
end

--- Where a client's requests go, and with which token.
---@class moonflow.DatabricksPlace
---@field base string URL of the workspace, without a slash at its end
---@field origin string the only one that the token is for
---@field token userdata|string
---@field source string what named both

---@param self table
---@return moonflow.DatabricksPlace
function databricks.find_place(self)
    local host, token, source = find_pair(self)
    if not host or not token then
        refuse_pair(host, token, source)
    end
    local origin = origin_of(host, source)
    return { base = origin:gsub("^(https:.*):443$", "%1"), origin = origin, token = token, source = source }
end

--- The credential of requests; see `moonflow.credentials`. It is for the workspace that the token came
-- with, so that the transport sends it to no other.
---@param self table
---@return moonflow.Credential
function databricks.credential(self)
    local place = settings.place(self)
    local found = credentials.build(auth.bearer, place.source, "Authorization", place.token, place.origin)
    found.headers["X-Databricks-Endpoints-API-Client"] = "Databricks Deployment Client"
    return found
end

return databricks
