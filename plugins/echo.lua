--- The smallest complete plugin: endpoints and deployments that live in memory and answer with what
-- they are asked. Copy it to start one of your own; plugins/README.md explains the parts.
local client = require "moonflow.client"
local error = require "moonflow.error"

--- Raises the error for something that is not there.
local function missing(what, name)
    error.raise {
        kind = "http",
        error_code = "RESOURCE_DOES_NOT_EXIST",
        http_status = 404,
        message = ("%s %q does not exist"):format(what, name),
    }
end

--- The entries of a table of things, in the order of their names.
local function sorted(things)
    local list = {}
    for _, thing in pairs(things) do
        list[#list + 1] = thing
    end
    table.sort(list, function(a, b)
        return a.name < b.name
    end)
    return list
end

local Client = client.BaseDeploymentClient:extend {
    name = "EchoDeploymentClient",
    options = {
        { name = "prefix", type = "string", doc = "what every answer begins with" },
    },

    init = function(self)
        self._endpoints = { echo = { name = "echo", endpoint_type = "llm/v1/chat" } }
        self._deployments = {}
    end,

    predict = function(self, args)
        local name = args.endpoint or args.deployment_name or "echo"
        if not (self._endpoints[name] or self._deployments[name]) then
            missing("endpoint", name)
        end
        return { endpoint = name, echo = args.inputs, prefix = self.config.prefix }
    end,

    predict_stream = function(_, args)
        local text = tostring(args.inputs)
        return text:gmatch("%S+")
    end,

    explain = function(_, args)
        return { explanation = "the answer is the question", df = args.df }
    end,

    create_endpoint = function(self, args)
        local endpoint = { name = args.name, config = args.config }
        self._endpoints[args.name] = endpoint
        return endpoint
    end,

    update_endpoint = function(self, args)
        local endpoint = self._endpoints[args.endpoint] or missing("endpoint", args.endpoint)
        endpoint.config = args.config
    end,

    delete_endpoint = function(self, args)
        self._endpoints[args.endpoint] = nil
    end,

    list_endpoints = function(self)
        return sorted(self._endpoints)
    end,

    get_endpoint = function(self, args)
        return self._endpoints[args.endpoint] or missing("endpoint", args.endpoint)
    end,

    create_deployment = function(self, args)
        local deployment = { name = args.name, model_uri = args.model_uri, flavor = args.flavor or "echo" }
        self._deployments[args.name] = deployment
        return deployment
    end,

    update_deployment = function(self, args)
        local deployment = self._deployments[args.name] or missing("deployment", args.name)
        deployment.model_uri = args.model_uri or deployment.model_uri
        deployment.flavor = args.flavor or deployment.flavor
        return deployment
    end,

    delete_deployment = function(self, args)
        self._deployments[args.name] = nil
    end,

    list_deployments = function(self)
        return sorted(self._deployments)
    end,

    get_deployment = function(self, args)
        return self._deployments[args.name] or missing("deployment", args.name)
    end,
}

return {
    api = 1,
    name = "echo",
    description = "Answers with what it is asked; for tests and as a template",
    target_help = "echo: (nothing more)   client option: prefix",
    client = Client,
    run_local = function(args)
        return { name = args.name, model_uri = args.model_uri }
    end,
}
