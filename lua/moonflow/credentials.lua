--- Where an MLflow target's credential comes from: options, MLFLOW_TRACKING_* variables and
-- ~/.mlflow/credentials. Each value keeps its source, so that errors can name it.
local auth = require "moonflow.auth"
local config = require "moonflow.config"
local env = require "moonflow.env"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"

local credentials = {}

--- What requests to an origin carry to show who sends them. A class of clients has its own way to
-- find it as `_credential(client, origin, seconds)`, with the time that is left for the call.
---@class moonflow.Credential
---@field headers table<string, userdata|string>
---@field anonymous? boolean nothing was found
---@field source string for error texts; without a credential, where it was looked for
---@field is_current? fun(seconds: number): boolean of one that expires: whether it is still the one to send
---@field forget? fun() of one that expires: a server has refused it

local OTHERS_MAY_READ = 0x3F -- the permission bits of group and others
local SECRET_KEYS = { mlflow_tracking_password = true }

--- The section [mlflow] of ~/.mlflow/credentials; an empty table where there is none.
local function read_file()
    local path = (env.HOME or "") .. "/.mlflow/credentials"
    local status = env.HOME and sys.stat(path)
    if not status then
        return {}, path
    end
    local values, err = auth.read_ini(path, "mlflow", SECRET_KEYS)
    if values then
        if status.mode & OTHERS_MAY_READ ~= 0 then
            notice.once(path .. " may be read by others; chmod 600 it")
        end
        return values, path
    elseif err.error_code == "RESOURCE_DOES_NOT_EXIST" then
        return {}, path
    end
    return error.raise(err)
end

--- User name and password, each from the environment or else from the file.
local function ambient_pair()
    local username, password = config.get("MLFLOW_TRACKING_USERNAME"), config.get("MLFLOW_TRACKING_PASSWORD")
    local from, password_from = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
    if not (username and password) then
        local values, path = read_file()
        if not username then
            username, from = values.mlflow_tracking_username, path
        end
        if not password then
            password, password_from = values.mlflow_tracking_password, path
        end
    end
    return username, password, from == password_from and from or from .. " and " .. password_from
end

--- The credential of one header; an error says where its value came from.
---@param make function auth.bearer, auth.basic or the like
---@param source string
---@param header string
---@return moonflow.Credential
function credentials.build(make, source, header, ...)
    local ok, value = pcall(make, ...)
    if ok then
        return { headers = { [header] = value }, source = source }
    elseif error.is(value) then
        value.message = ("%s\nit came from %s"):format(value.message, source)
    end
    return error.raise(value)
end

--- Finds the credential that requests of an MLflow client to an origin carry.
---@param client table
---@param origin string the only origin that it may be sent to
---@return moonflow.Credential
function credentials.find(client, origin)
    local options, build = client.config, credentials.build
    local token = config.get("MLFLOW_TRACKING_TOKEN")
    if options.username or options.token then
        if token or config.get("MLFLOW_TRACKING_USERNAME") then
            notice.once("credentials given as options are used, those in MLFLOW_TRACKING_* variables are not")
        end
        if options.username then
            return build(auth.basic, "the options username and password", "Authorization", options.username,
                options.password, origin)
        end
        return build(auth.bearer, "the option token", "Authorization", options.token, origin)
    end
    local username, password, pair_source = ambient_pair()
    if username and password then
        if token then
            notice.once("MLFLOW_TRACKING_TOKEN is not used, because user name and password are set in " .. pair_source)
        end
        return build(auth.basic, pair_source, "Authorization", username, password, origin)
    elseif token then
        return build(auth.bearer, "MLFLOW_TRACKING_TOKEN", "Authorization", token, origin)
    end
    local half = ""
    if username or password then
        half = (" (%s without %s)"):format(username and "a user name" or "a password",
            username and "a password" or "a user name")
    end
    return {
        headers = {},
        anonymous = true,
        source = "the options token, username and password, the variables MLFLOW_TRACKING_USERNAME, "
            .. "MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN, and ~/.mlflow/credentials" .. half,
    }
end

return credentials
