--- moonflow sends what Python's clients of Databricks send, and returns what those return: every case of
-- tests/conformance/databricks_cases.json against the record that databricks_client.py made of it.
local conformance = require "support.conformance"
local databricks = require "support.databricks"
local deployments = require "moonflow.deployments"
local json = require "moonflow.json"
local probe = require "support.probe"

local HEADERS = { "authorization", "content-type", "accept", "x-databricks-endpoints-api-client" }

local function refused_here(record)
    record.requests, record.result, record.http_status = json.array {}, nil, nil
    record.error = "usage"
end

--- Where moonflow differs on purpose: why, in which cases, and the record with that difference.
local DIFFERENCES = {
    {
        why = "an answer is asked for as JSON, MLflow says nothing of it",
        all = "^MLflow: ",
        change = function(record)
            for _, request in ipairs(record.requests) do
                request.headers.accept = "application/json"
            end
        end,
    },
    {
        why = "all requests say which client sends them, databricks-sdk's do that in User-Agent",
        all = "^databricks%-sdk: ",
        change = function(record)
            for _, request in ipairs(record.requests) do
                request.headers["x-databricks-endpoints-api-client"] = "Databricks Deployment Client"
            end
        end,
    },
    {
        why = "a deletion has no body, and no length of one",
        cases = { "MLflow: delete_endpoint", "MLflow: delete_endpoint, an empty answer" },
        change = function(record)
            record.requests[1].headers["content-length"] = nil
        end,
    },
    {
        why = "comments in a stream are skipped, MLflow fails",
        cases = { "MLflow: predict_stream with a comment" },
        change = function(record)
            record.error = nil
            local chunk = { index = 0, delta = { content = "He" } }
            record.result = { { id = "1", object = "chat.completion.chunk", choices = { chunk } } }
        end,
    },
    {
        why = "an empty listing is an empty list, MLflow fails",
        cases = { "MLflow: list_endpoints, nothing there" },
        change = function(record)
            record.error, record.result = nil, json.array {}
        end,
    },
    {
        why = "an empty answer to a deletion is success, MLflow fails",
        cases = { "MLflow: delete_endpoint, an empty answer" },
        change = function(record)
            record.error, record.result = nil, true
        end,
    },
    {
        why = "an error has the status that was sent, MLflow makes one of the error's code, or 500",
        cases = { "MLflow: get_endpoint, an error without a code", "MLflow: create_endpoint, it exists" },
        change = function(record)
            record.http_status = record.http_status == 500 and 403 or 409
        end,
    },
    {
        why = "route_optimized in config does not conflict with a default",
        cases = { "MLflow: create_endpoint, route_optimized in the body alone" },
        change = function(record)
            local whole = conformance.record("MOONFLOW_TEST_CONFORMANCE_SERVING",
                "MLflow: create_endpoint, route_optimized twice")
            record.error, record.result, record.requests = nil, whole.result, whole.requests
            record.requests[1].headers.accept = "application/json"
        end,
    },
    {
        why = "one type of error, and misuse is one of kind usage",
        cases = {
            "MLflow: create_endpoint, the whole body, two names",
            "MLflow: create_endpoint, the whole body without a name",
            "MLflow: create_endpoint, route_optimized in conflict", "MLflow: update_endpoint, nothing",
        },
        change = refused_here,
    },
    {
        why = "what can not be right is not sent: no name, shares that do not add up",
        cases = {
            "MLflow: create_endpoint, without a name", "MLflow: update_endpoint_config, shares of 110 in all",
        },
        change = refused_here,
    },
    {
        why = "what a target does not offer is an error of kind unsupported",
        cases = { "MLflow: create_deployment" },
        change = function(record)
            record.error = "unsupported"
        end,
    },
    {
        why = "create_endpoint is MLflow's, with a slash at the end of its path",
        cases = { "databricks-sdk: create" },
        change = function(record)
            record.requests[1].path = record.requests[1].path .. "/"
        end,
    },
    {
        why = "only MLflow's body of create_endpoint; databricks-sdk repeats the name inside the configuration",
        cases = { "databricks-sdk: create" },
        change = function(record)
            record.requests[1].body.config.name = nil
        end,
    },
    {
        why = "an OpenAPI schema is decoded",
        cases = { "databricks-sdk: OpenAPI schema" },
        change = function(record)
            record.result = json.decode(record.result)
        end,
    },
}

local function applies(difference, name)
    if difference.all then
        return name:find(difference.all) ~= nil
    end
    for _, case in ipairs(difference.cases) do
        if case == name then
            return true
        end
    end
    return false
end

--- The record of a case with all differences in it.
local function expected(name)
    local record = conformance.record("MOONFLOW_TEST_CONFORMANCE_SERVING", name)
    for _, difference in ipairs(DIFFERENCES) do
        if applies(difference, name) then
            local before = conformance.canonical(record)
            difference.change(record)
            local is_other = conformance.canonical(record) ~= before or difference.all and #record.requests == 0
            assert(is_other, "no difference any more: " .. difference.why)
        end
    end
    record.name = nil
    return record
end

--- What the case does with our client, in the form of the record.
local function run(case)
    local ours = case.ours or {}
    local method, args = ours.method or case.call, ours.args or case.args or {}
    local variables = {
        HOME = "/nonexistent", DATABRICKS_HOST = "SERVER_URL", DATABRICKS_TOKEN = databricks.token,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES = "0",
    }
    return conformance.run(case.replies, HEADERS, variables, function(_, outcome)
        local client = deployments.get_deploy_client "databricks"
        conformance.call(client, method, args, outcome)
    end)
end

describe("the wire of Databricks' Python clients:", function()
    local lines

    before_each(function()
        lines = probe.listen()
    end)

    after_each(function()
        lines:close()
    end)

    local cases = conformance.read("tests/conformance/databricks_cases.json")

    for _, case in ipairs(cases) do
        it(case.name, function()
            local environment <close> = databricks.hide_environment()
            local record, ours = expected(case.name), run(case)
            assert(environment)
            assert.same(record, ours)
            assert.equal(conformance.canonical(record), conformance.canonical(ours))
        end)
    end

    it("differs in cases that there are", function()
        for _, difference in ipairs(DIFFERENCES) do
            local names = {}
            for _, case in ipairs(cases) do
                names[case.name] = true
            end
            for _, name in ipairs(difference.cases or {}) do
                assert.is_true(names[name], name)
            end
        end
    end)
end)
