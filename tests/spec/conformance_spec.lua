--- moonflow sends what MLflow's Python client sends, and returns what that returns: every case of
-- tests/conformance/cases.json against the record that python_client.py made of it.
local conformance = require "support.conformance"
local deployments = require "moonflow.deployments"

local HEADERS = { "authorization", "content-type" }

--- What the case does with our client, in the form of the record.
local function run(case)
    local variables = {
        HOME = "/nonexistent",
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0",
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = "0",
    }
    for name, value in pairs(case.env or {}) do
        variables[name] = value
    end
    return conformance.run(case.replies, HEADERS, variables, function(url, outcome)
        local client = deployments.get_deploy_client(url)
        outcome.result = client[case.method](client, case.args or {})
    end)
end

describe("the wire of MLflow's Python client:", function()
    for _, case in ipairs(conformance.read("tests/conformance/cases.json")) do
        it(case.name, function()
            local record = conformance.record("MOONFLOW_TEST_CONFORMANCE", case.name)
            local ours = run(case)
            record.name = nil
            assert.same(record, ours)
            assert.equal(conformance.canonical(record), conformance.canonical(ours))
        end)
    end
end)
