--- Environment variables that concern a deployment client, typed as MLflow types them. A value that
-- does not parse is an error of kind "config" that names the variable, never a default in silence.
local check = require "moonflow.check"
local env = require "moonflow.env"
local error = require "moonflow.error"

local config = {}

---@class moonflow.Variable
---@field name string
---@field type "int"|"seconds"|"duration"|"float"|"bool"|"string"
---@field default any
---@field doc string

--- In the order of the documentation.
---@type moonflow.Variable[]
config.variables = {
    { name = "MLFLOW_DEPLOYMENTS_TARGET", type = "string", doc = "the target where none is given" },
    { name = "MLFLOW_DEPLOYMENT_TARGET", type = "string", doc = "the same, as MLflow's documentation spells it" },
    { name = "MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT", type = "seconds", default = 120,
        doc = "seconds that one attempt of predict waits for the server" },
    { name = "MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT", type = "seconds", default = 600,
        doc = "seconds that predict takes with all its attempts" },
    { name = "MLFLOW_DEPLOYMENT_CLIENT_HTTP_REQUEST_TIMEOUT", type = "seconds", default = 300,
        doc = "seconds that another request to an MLflow gateway waits for the server" },
    { name = "MLFLOW_HTTP_REQUEST_TIMEOUT", type = "seconds", default = 120,
        doc = "seconds that any other request waits for the server" },
    { name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", type = "int", default = 7, doc = "how often a request is repeated" },
    { name = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", type = "float", default = 2,
        doc = "seconds before the first repetition at most; each further one doubles them, up to 120" },
    { name = "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", type = "float", default = 1.0,
        doc = "the share of each wait that is random: 0 none, 1 and above all of it" },
    { name = "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", type = "bool", default = true,
        doc = "wait as long as the server asks for" },
    { name = "_MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT", type = "int", default = 10,
        doc = "the number of repetitions must be below this" },
    { name = "_MLFLOW_HTTP_REQUEST_MAX_BACKOFF_FACTOR_LIMIT", type = "int", default = 120,
        doc = "the backoff factor must be below this" },
    { name = "MLFLOW_TRACKING_USERNAME", type = "string", doc = "basic authentication, with the next" },
    { name = "MLFLOW_TRACKING_PASSWORD", type = "string", doc = "basic authentication, with the last" },
    { name = "MLFLOW_TRACKING_TOKEN", type = "string", doc = "bearer token; user name and password go first" },
    { name = "MLFLOW_TRACKING_INSECURE_TLS", type = "bool", default = false, doc = "do not verify the server" },
    { name = "MLFLOW_TRACKING_SERVER_CERT_PATH", type = "string", doc = "file or directory of CA certificates" },
    { name = "MLFLOW_TRACKING_CLIENT_CERT_PATH", type = "string", doc = "client certificate and key in one file" },
    { name = "DATABRICKS_HOST", type = "string", doc = "URL of a Databricks workspace, with the next" },
    { name = "DATABRICKS_TOKEN", type = "string", doc = "personal access token of Databricks" },
    { name = "DATABRICKS_CONFIG_FILE", type = "string", doc = "Databricks' configuration file, else ~/.databrickscfg" },
    { name = "DATABRICKS_CONFIG_PROFILE", type = "string", doc = "profile in it, else DEFAULT" },
    { name = "OPENAI_MAX_RETRIES", type = "int", default = 2, doc = "how often a request to OpenAI is repeated" },
    { name = "OPENAI_TIMEOUT", type = "duration", default = 60,
        doc = "seconds that one attempt of a request to OpenAI waits for the server" },
    { name = "OPENAI_API_KEY", type = "string", doc = "OpenAI's key; Azure's where no other is set" },
    { name = "OPENAI_API_BASE", type = "string", doc = "base URL, or the endpoint of an Azure resource" },
    { name = "OPENAI_BASE_URL", type = "string", doc = "base URL, after OPENAI_API_BASE" },
    { name = "OPENAI_API_TYPE", type = "string", doc = "openai, azure (key) or azure_ad (Entra ID)" },
    { name = "OPENAI_API_VERSION", type = "string", doc = "Azure's api-version; without one the v1 API" },
    { name = "OPENAI_DEPLOYMENT_NAME", type = "string", doc = "Azure's deployment, else the endpoint's name" },
    { name = "OPENAI_ORG_ID", type = "string", doc = "header OpenAI-Organization" },
    { name = "OPENAI_ORGANIZATION", type = "string", doc = "the same, as MLflow spells it" },
    { name = "OPENAI_PROJECT_ID", type = "string", doc = "header OpenAI-Project" },
    { name = "AZURE_OPENAI_ENDPOINT", type = "string", doc = "endpoint of an Azure resource" },
    { name = "AZURE_OPENAI_API_KEY", type = "string", doc = "Azure's key, before OPENAI_API_KEY" },
    { name = "AZURE_OPENAI_AD_TOKEN", type = "string", doc = "token of Entra ID, before both keys" },
    { name = "MOONFLOW_ALLOW_INSECURE_HTTP", type = "bool", default = false,
        doc = "send credentials over plain http to other machines too" },
    { name = "MOONFLOW_TOKEN_CACHE", type = "bool", default = true,
        doc = "keep tokens of applications for later runs, in moonflow/ of XDG_CACHE_HOME or ~/.cache" },
    { name = "MOONFLOW_PLUGIN_PATH", type = "string", doc = "directories of plugins, with \":\" between" },
}

local by_name = {}
for _, variable in ipairs(config.variables) do
    by_name[variable.name] = variable
end

-- Variables of MLflow's that change what a client does and that moonflow does not implement: for
-- each, which values ask for nothing that it does not do anyway.
-- MLFLOW_HTTP_POOL_CONNECTIONS and MLFLOW_HTTP_POOL_MAXSIZE are not among them: they bound a cache
-- of connections, which changes no result.
local OFF = { [""] = true, ["false"] = true, ["0"] = true }
local unsupported = {
    { name = "MLFLOW_TRACKING_AWS_SIGV4", harmless = OFF, doc = "moonflow does not sign requests for AWS" },
    { name = "MLFLOW_TRACKING_AUTH", harmless = { [""] = true },
        doc = "moonflow has no authentication plugins; give headers as an option of the client" },
    { name = "MLFLOW_ALLOW_HTTP_REDIRECTS", harmless = OFF, doc = "moonflow follows no redirects" },
}

local function invalid(variable, raw, expected)
    error.raise {
        kind = "config",
        message = ("environment variable %s must be %s, got %s"):format(variable.name, expected, check.show(raw)),
        hint = variable.default ~= nil and ("unset it for the default, %s"):format(variable.default) or nil,
    }
end

local parsers = {}

function parsers.string(_, raw)
    return raw ~= "" and raw or nil
end

-- MLflow's rule: these four words in any case, nothing else.
function parsers.bool(variable, raw)
    local lower = raw:lower()
    if lower == "true" or lower == "1" then
        return true
    elseif lower == "false" or lower == "0" then
        return false
    end
    return invalid(variable, raw, "one of true, false, 1, 0")
end

function parsers.int(variable, raw)
    local digits = raw:match("^%s*([+-]?%d+)%s*$")
    return digits and math.tointeger(tonumber(digits)) or invalid(variable, raw, "an integer")
end

function parsers.seconds(variable, raw)
    local digits = raw:match("^%s*%+?(%d+)%s*$")
    local value = digits and math.tointeger(tonumber(digits))
    return value and value > 0 and value or invalid(variable, raw, "an integer of seconds above 0")
end

function parsers.duration(variable, raw)
    local value = not raw:find("[xXnN]") and tonumber(raw)
    return value and value > 0 and value < math.huge and value or invalid(variable, raw, "a number of seconds above 0")
end

function parsers.float(variable, raw)
    local value = not raw:find("[xXnN]") and tonumber(raw)
    return value and math.abs(value) < math.huge and value or invalid(variable, raw, "a number")
end

--- The value of a variable: what the environment says, or its default. Raises where that does not
--- parse.
---@param name string one of `config.variables`
---@return any
function config.get(name)
    local variable = by_name[name]
    if not variable then
        error.raise { kind = "usage", message = ("%s is not a variable of moonflow's"):format(check.show(name)) }
    end
    local raw = env[name]
    if raw == nil then
        return variable.default
    end
    local value = parsers[variable.type](variable, raw)
    if value == nil then
        return variable.default
    end
    return value
end

--- Raises where a variable of MLflow's asks for something that moonflow does not do.
function config.refuse_unsupported()
    for _, variable in ipairs(unsupported) do
        local raw = env[variable.name]
        if raw and not variable.harmless[raw:lower()] then
            error.raise {
                kind = "config",
                error_code = "NOT_IMPLEMENTED",
                message = ("environment variable %s=%s is not supported\n%s"):format(variable.name, check.show(raw),
                    variable.doc),
                hint = "unset " .. variable.name,
            }
        end
    end
end

local function out_of_range(message, ...)
    error.raise { kind = "config", message = message:format(...) }
end

--- Checks retry settings against MLflow's limits. Raises where they are beyond.
---@param max_retries integer
---@param backoff number
---@param source? string the variable that holds max_retries, for the message
function config.check_retries(max_retries, backoff, source)
    source = source and "\nit comes from " .. source or ""
    local retries_limit = config.get("_MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT")
    local backoff_limit = config.get("_MLFLOW_HTTP_REQUEST_MAX_BACKOFF_FACTOR_LIMIT")
    if retries_limit < 0 then
        out_of_range("The current maximum retry limit is invalid (%d). Cannot be negative.", retries_limit)
    elseif max_retries >= retries_limit then
        out_of_range("The configured max_retries value (%d) is in excess of the maximum allowable retries (%d)%s",
            max_retries, retries_limit, source)
    elseif max_retries < 0 then
        out_of_range("The max_retries value must be either 0 a positive integer. Got %d%s", max_retries, source)
    elseif backoff_limit < 0 then
        out_of_range("The current maximum backoff factor limit is invalid (%d). Cannot be negative.", backoff_limit)
    elseif backoff >= backoff_limit then
        out_of_range("The configured backoff_factor value (%s) is in excess of the maximum allowable backoff_factor "
            .. "limit (%d)", backoff, backoff_limit)
    elseif backoff < 0 then
        out_of_range("The backoff_factor value must be either 0 a positive integer. Got %s", backoff)
    end
end

return config
