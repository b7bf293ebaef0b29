-- The endpoints of tests/spec/workspace_clients_spec.lua: those of the demonstration, and how deployments go.
return require "moonflow.gateway.demo", {
    deploy = {
        { endpoint = "broken", version = 2, reads = 1, fail = "no image" },
        { reads = 1 }, -- a deployment is over at the second look, however slow the machine is
    },
}
