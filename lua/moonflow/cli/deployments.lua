--- The commands of deployments and endpoints: each calls the client's method of its name.
local _task = require "moonflow._task"
local client = require "moonflow.cli.client"
local columns = require "moonflow.cli.columns"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local output = require "moonflow.cli.output"
local settings = require "moonflow.cli.settings"
local sys = require "moonflow.sys"

local deployments = {}

local STDIN, STDERR = 0, 2
local ANSWER_NO = 1 -- exit code

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

--- The endpoint that is named, as an option or as a word.
local function endpoint_of(values)
    local named, word = values.endpoint, values.endpoint_word
    if named and word and named ~= word then
        misuse(("two endpoints are named, %q and %q"):format(named, word))
    end
    return named or word or misuse("the name of an endpoint is missing", "--endpoint NAME")
end

--- Asks on a terminal whether something is to be deleted. Elsewhere --yes has to say so.
local function confirm(values, what, name)
    if values.yes or values.dry_run or values.curl then
        return
    end
    local question = ("delete %s %q on %s?"):format(what, name, client.target(values))
    if not (sys.isatty(STDIN) and sys.isatty(STDERR)) then
        misuse(question .. "\nnobody can be asked, as this is no terminal", "--yes")
    end
    io.stderr:write(question, " [y/N] ")
    local answer = _task.wait_input() and io.read("l") or ""
    if not answer:lower():find("^%s*ye?s?%s*$") then
        io.stderr:write("nothing was deleted\n")
        os.exit(ANSWER_NO, true)
    end
end

--- Prints what a method returned.
local function print_result(values, value, list_columns)
    local out <close> = output.open(values)
    out:result(value, list_columns)
    out:finish()
end

local function say(values, message, ...)
    if not values.quiet then
        notice.write(message:format(...))
    end
end

-- Deployments ------------------------------------------------------------------------------------

local function deployment_arguments(values)
    return {
        name = values.name,
        model_uri = values.model_uri,
        flavor = values.flavor,
        config = settings.parse(values.config),
        endpoint = values.endpoint,
    }
end

local function flavor_of(result)
    return type(result) == "table" and type(result.flavor) == "string" and " (flavor " .. result.flavor .. ")" or ""
end

function deployments.create(values)
    local result = client.open(values):create_deployment(deployment_arguments(values))
    print_result(values, result)
    say(values, "created deployment %q%s", values.name, flavor_of(result))
end

function deployments.update(values)
    local result = client.open(values):update_deployment(deployment_arguments(values))
    print_result(values, result)
    say(values, "updated deployment %q%s", values.name, flavor_of(result))
end

function deployments.delete(values)
    local opened = client.open(values)
    confirm(values, "deployment", values.name)
    opened:delete_deployment(deployment_arguments(values))
    say(values, "deleted deployment %q", values.name)
end

function deployments.list(values)
    local list = client.open(values):list_deployments { endpoint = values.endpoint }
    print_result(values, list, columns.deployments)
end

function deployments.get(values)
    print_result(values, client.open(values):get_deployment { name = values.name, endpoint = values.endpoint })
end

function deployments.run_local(values)
    local arguments = deployment_arguments(values)
    arguments.endpoint, arguments.target = nil, client.target(values)
    print_result(values, require("moonflow.deployments").run_local(arguments))
end

function deployments.target_help(values)
    local out <close> = output.open(values)
    out:text(require("moonflow.deployments").target_help(client.target(values)))
end

-- Endpoints --------------------------------------------------------------------------------------

--- The arguments of create_endpoint. Where the name is part of the configuration, as on Databricks, it
--- goes there.
local function creation(opened, name, config)
    local param = opened.signatures.create_endpoint.params.name
    if config and config.config ~= nil and not param.required then
        if config.name ~= nil and config.name ~= name then
            misuse(("two names are given, %q and, in the configuration, %q"):format(name, tostring(config.name)))
        end
        config.name, name = name, nil
    end
    return { name = name, config = config }
end

function deployments.create_endpoint(values)
    local name, config = endpoint_of(values), settings.parse(values.config)
    local opened = client.open(values)
    local result = opened:create_endpoint(creation(opened, name, config))
    print_result(values, result)
    say(values, "created endpoint %q%s", name,
        opened.signatures.wait_endpoint and ("\nnext: moonflow endpoints wait %s"):format(name) or "")
end

--- The method and the config that change an endpoint. Where what it serves has a method of its own, as on
--- Databricks, that takes the configuration alone or, from the file of its creation, as "config".
local function change(opened, config)
    if not config or not opened.signatures.update_endpoint_config then
        return "update_endpoint", config
    end
    local inner = config
    if type(config.config) == "table" then
        inner = config.config
        for key in next, config do
            if key ~= "config" and key ~= "name" then
                misuse(("the configuration goes beside %q, which this command does not change"):format(key),
                    "leave it out; a script changes it with update_endpoint_tags and the like")
            end
        end
    end
    local is_served = inner.served_entities or inner.served_models or inner.traffic_config
    return is_served and "update_endpoint_config" or "update_endpoint", inner
end

function deployments.update_endpoint(values)
    local name, opened = endpoint_of(values), client.open(values)
    local method, config = change(opened, settings.parse(values.config))
    print_result(values, opened[method](opened, { endpoint = name, config = config }))
    say(values, "updated endpoint %q", name)
end

function deployments.delete_endpoint(values)
    local name, opened = endpoint_of(values), client.open(values)
    confirm(values, "endpoint", name)
    opened:delete_endpoint { endpoint = name }
    say(values, "deleted endpoint %q", name)
end

function deployments.list_endpoints(values)
    print_result(values, client.open(values):list_endpoints(), columns.endpoints)
end

function deployments.get_endpoint(values)
    print_result(values, client.open(values):get_endpoint { endpoint = endpoint_of(values) })
end

--- Waits for an endpoint. What it says on the way is for people only.
function deployments.wait(values)
    local seconds = values.timeout
    values.timeout = nil
    local opened = client.open(values)
    if not opened.signatures.wait_endpoint then
        error.raise {
            kind = "unsupported",
            message = "wait_endpoint is not implemented for this deployment target",
            target = opened.target_uri,
            operation = "wait_endpoint",
            hint = "its endpoints serve as soon as they are there",
        }
    end
    local write = notice.write
    function notice.write(line)
        if output.is_watched() or not line:find("^moonflow: endpoint ") then
            write(line)
        end
    end
    local arguments = { endpoint = endpoint_of(values), timeout = seconds, state = values.wait_for }
    print_result(values, opened:wait_endpoint(arguments))
end

-- Models -----------------------------------------------------------------------------------------

function deployments.predict(values)
    require("moonflow.cli.predict").predict(values)
end

function deployments.explain(values)
    require("moonflow.cli.predict").explain(values)
end

return deployments
