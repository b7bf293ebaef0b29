--- The login of a model that Databricks itself serves: a token in a file beside it, which is replaced
-- every few minutes.
local env = require "moonflow.env"
local grants = require "moonflow.grants"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"

local model_serving = {}

local USUAL_DIRECTORY = "/var/credentials-secret"
local NAME = "model-dependencies-oauth-token"
local FILE_MAX = 64 * 1024 -- bytes
local READ_AGAIN = 300     -- seconds
local PAUSE = 0.5          -- seconds before the second attempt, as the file may be about to be replaced

local INSIDE = { "IS_IN_DB_MODEL_SERVING_ENV", "IS_IN_DATABRICKS_MODEL_SERVING_ENV" }
local HOSTS = { "DATABRICKS_MODEL_SERVING_HOST_URL", "DB_MODEL_SERVING_HOST_URL" }

--- The first of some variables that is set, and its name.
local function first_of(names)
    for _, name in ipairs(names) do
        if (env[name] or "") ~= "" then
            return env[name], name
        end
    end
end

local function path()
    local directory = text.trim(env.SERVING_CREDENTIALS_DIR or "")
    return (directory ~= "" and directory or USUAL_DIRECTORY) .. "/" .. NAME
end

--- Why this is no model that is served, or nil where it is one.
---@return string?
function model_serving.missing()
    if first_of(INSIDE) ~= "true" then
        return "this is no model that Databricks serves"
    end
    local status = sys.stat(path())
    return not (status and status.type == "file") and "there is no file " .. path() or nil
end

--- The workspace of the model, or nil where this is none.
---@return string? host
---@return string? source the variable that names it
function model_serving.host()
    if model_serving.missing() then
        return nil
    end
    return first_of(HOSTS)
end

local function read()
    local content, err = sys.read_file(path(), FILE_MAX)
    if not content then
        return nil, err
    end
    local document = json.decode(content)
    local list = type(document) == "table" and document.OAUTH_TOKEN
    local entry = type(list) == "table" and list[1]
    return grants.to_token(path(), type(entry) == "table" and entry.oauthTokenValue, READ_AGAIN)
end

--- The token in the file.
---@async
---@return table? token
---@return table? err
function model_serving.token()
    local token = read()
    if token then
        return token
    end
    task.sleep(PAUSE)
    return read()
end

return model_serving
