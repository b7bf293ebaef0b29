--- MLflow's mlflow.deployments: clients by target, and the target where none is named.
local check = require "moonflow.check"
local client = require "moonflow.client"
local env = require "moonflow.env"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local plugins = require "moonflow.plugins"
local target = require "moonflow.target"

local deployments = { BaseDeploymentClient = client.BaseDeploymentClient }

local PLURAL, SINGULAR, RUNTIME = "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET", "DATABRICKS_RUNTIME_VERSION"

-- Classes of single targets, loaded when a script names them.
local class_targets = {
    DatabricksDeploymentClient = "databricks", MlflowDeploymentClient = "http", OpenAIDeploymentClient = "openai",
}

local chosen

local function not_empty(value)
    return value ~= "" and value or nil
end

--- Raises MLflow's error for a target that nothing can speak to.
local function unknown(name, uri)
    local names = {}
    for _, entry in ipairs(plugins.list()) do
        if not entry.problem then
            names[#names + 1] = entry.name
        end
    end
    local near = check.nearest(name, names)
    local hint
    if uri:find("^[%w.-]+:%d+") then
        hint = "http://" .. uri
    elseif near then
        hint = ("did you mean %q?"):format(near)
    else
        hint = ("put a plugin %s.lua into one of these directories"):format(name:match("^[%w_+.-]+$") or "NAME")
    end
    error.raise {
        kind = "config",
        error_code = "RESOURCE_DOES_NOT_EXIST",
        message = ("No plugin found for managing model deployments to %s\nknown targets: %s\nsearched: %s"):format(
            check.show(name), table.concat(names, ", "), table.concat(plugins.search_path(), ", ")),
        target = check.show(uri):gsub("^\"(.*)\"$", "%1"),
        hint = hint,
    }
end

--- The backend of a target URI. Raises where it is no URI, or nothing can speak to it.
local function backend_of(uri)
    if type(uri) ~= "string" then
        error.raise { kind = "usage", message = ("a target must be a string, got %s"):format(check.show(uri)) }
    end
    local parts, err = target.parse(uri)
    if not parts then
        error.raise(err)
    end
    return plugins.get(parts.name) or unknown(parts.name, uri)
end

--- The target that is used where none is named: what `set_deployments_target` said, or else the
-- environment. Raises an error that says what was looked at.
---@return string
function deployments.get_deployments_target()
    if chosen then
        return chosen
    end
    local plural, singular = not_empty(env[PLURAL]), not_empty(env[SINGULAR])
    if plural and singular and plural ~= singular then
        notice.once(("%s and %s differ; the first is used"):format(PLURAL, SINGULAR))
    end
    local found = plural or singular or (not_empty(env[RUNTIME]) and "databricks")
    if found then
        return found
    end
    return error.raise {
        kind = "config",
        error_code = "INTERNAL_ERROR",
        message = "No deployments target has been set\n"
            .. ("set_deployments_target was not called; %s, %s and %s are not set"):format(PLURAL, SINGULAR, RUNTIME),
        hint = ("get_deploy_client(\"http://localhost:5000\")\nexport %s=http://localhost:5000"):format(PLURAL),
    }
end

--- A client for a target. Needs neither a network nor a credential.
---@param uri? string without one, or with an empty one, that of `get_deployments_target`
---@param options? table of the client: token, timeout, max_retries, ...
---@return table client
function deployments.get_deploy_client(uri, options)
    if uri == nil or uri == "" then
        uri = deployments.get_deployments_target()
    end
    return backend_of(uri).client(uri, options)
end

--- Sets the target that is used where none is named.
---@param uri string what MLflow accepts ("databricks", or a URI with a host), or any target that a client can
--- be built for
function deployments.set_deployments_target(uri)
    local mlflow_accepts = uri == "databricks" or type(uri) == "string" and uri:find("^%a[%w+.-]*://[^/?#]")
    if not mlflow_accepts then
        local ok, err = pcall(deployments.get_deploy_client, type(uri) == "string" and uri ~= "" and uri or false)
        if not ok then
            error.raise {
                kind = "usage",
                message = "The target provided is not a valid uri or 'databricks'\n"
                    .. (error.is(err) and err.message:match("^[^\n]*") or tostring(err)),
                hint = "a target is a URI such as http://localhost:5000, or the name of a plugin",
            }
        end
    end
    chosen = uri
end

local run_local_params = check.index {
    { name = "target", type = "string", required = true, doc = "the target" },
    { name = "name", type = "string", required = true, doc = "name of the deployment" },
    { name = "model_uri", type = "string", required = true, doc = "URI of the model" },
    { name = "flavor", type = "string", doc = "flavor of the model" },
    { name = "config", type = "table", doc = "settings that the target defines" },
}

--- Serves a model on this machine, for tests, where the target can do that. Takes MLflow's
-- arguments in its order, or one table of them.
---@param uri string
---@param name string
---@param model_uri string
---@param flavor? string
---@param settings? table
function deployments.run_local(uri, name, model_uri, flavor, settings)
    local args = uri
    if type(uri) ~= "table" then
        args = { target = uri, name = name, model_uri = model_uri, flavor = flavor, config = settings }
    end
    for key, value in next, args do
        if not run_local_params[key] then
            check.unknown(key, run_local_params, "an argument of run_local")
        end
        check.value(run_local_params[key], value, "argument")
    end
    for _, param in ipairs(run_local_params) do
        if param.required and args[param.name] == nil then
            error.raise { kind = "usage", message = ("run_local needs the argument %q"):format(param.name) }
        end
    end
    local backend = backend_of(args.target)
    if not backend.run_local then
        error.raise {
            kind = "unsupported",
            message = ("target %s can not serve a model on this machine"):format(check.show(backend.name)),
            target = args.target,
            operation = "run_local",
        }
    end
    return backend.run_local {
        name = args.name, model_uri = args.model_uri, flavor = args.flavor, config = args.config,
    }
end

--- How targets of this kind are written and what they can do.
---@param uri string
---@return string
function deployments.target_help(uri)
    local backend = backend_of(uri)
    local help = backend.target_help
    if type(help) == "function" then
        help = help()
    end
    return help or backend.description or backend.name
end

--- All targets there are; loads none of them.
---@return table list of {name, builtin?, file?, problem?}
function deployments.list_targets()
    return plugins.list()
end

return setmetatable(deployments, {
    __index = function(self, name)
        local scheme = class_targets[name]
        if scheme then
            self[name] = plugins.get(scheme).client
        end
        return rawget(self, name)
    end,
})
