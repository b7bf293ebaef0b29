--- moonflow sends what Python's clients of OpenAI send, and returns what those return: every case of
-- tests/conformance/openai_cases.json against the record that openai_client.py made of it.
local conformance = require "support.conformance"
local deployments = require "moonflow.deployments"
local probe = require "support.probe"

local HEADERS = { "authorization", "api-key", "content-type", "accept", "openai-organization", "openai-project" }

--- Where moonflow differs on purpose: why, in which cases, and the record with that difference.
local DIFFERENCES = {
    {
        why = "every input of predict is sent, MLflow sends messages alone",
        cases = { "MLflow: other inputs than messages" },
        change = function(record)
            record.requests[1].body.temperature, record.requests[1].body.max_tokens = 0.5, 5
        end,
    },
    {
        why = "a model is an endpoint, and has a name as all of MLflow's endpoints",
        cases = {
            "models", "model", "model, a name with colons",
            "model, a name with a slash, a space and a letter that is not ASCII",
        },
        change = function(record)
            for _, model in ipairs(record.result[1] and record.result or { record.result }) do
                model.name = model.id
            end
        end,
    },
    {
        why = "names are percent-encoded to the last character that could mean something in a path",
        cases = { "model, a name with colons" },
        change = function(record)
            record.requests[1].path = record.requests[1].path:gsub(":", "%%3A")
        end,
    },
    {
        why = "numbers are returned as they came; the package makes floats of these",
        cases = { "response", "response, input as a list, tools", "stream of a response", "Azure: response" },
        change = function(record)
            local function change(value)
                for name, item in pairs(value) do
                    if name == "created_at" then
                        value[name] = math.tointeger(item)
                    elseif type(item) == "table" then
                        change(item)
                    end
                end
            end
            change(record.result)
        end,
    },
    {
        why = "an error inside a stream has the status that its type stands for",
        cases = { "stream with an error inside" },
        change = function(record)
            record.error, record.http_status = nil, 500
        end,
    },
}

--- The record of a case with all differences in it.
local function expected(name)
    local record = conformance.record("MOONFLOW_TEST_CONFORMANCE_OPENAI", name)
    for _, difference in ipairs(DIFFERENCES) do
        for _, case in ipairs(difference.cases) do
            if case == name then
                local before = conformance.canonical(record)
                difference.change(record)
                assert(conformance.canonical(record) ~= before, "no difference any more: " .. difference.why)
            end
        end
    end
    record.name = nil
    return record
end

--- What the case does with our client, in the form of the record.
local function run(case)
    local ours = case.ours
    local variables = { HOME = "/nonexistent" }
    for name, value in pairs(ours.env) do
        variables[name] = value
    end
    return conformance.run(case.replies, HEADERS, variables, function(url, outcome)
        local client = deployments.get_deploy_client((ours.target:gsub("SERVER_URL", url)))
        conformance.call(client, ours.method, ours.args, outcome)
    end)
end

describe("the wire of OpenAI's Python clients:", function()
    local lines

    before_each(function()
        lines = probe.listen()
    end)

    after_each(function()
        lines:close()
    end)

    local cases = conformance.read("tests/conformance/openai_cases.json")

    for _, case in ipairs(cases) do
        it(case.name, function()
            local record, ours = expected(case.name), run(case)
            assert.same(record, ours)
            assert.equal(conformance.canonical(record), conformance.canonical(ours))
        end)
    end

    it("differs in cases that there are", function()
        local names = {}
        for _, case in ipairs(cases) do
            names[case.name] = true
        end
        for _, difference in ipairs(DIFFERENCES) do
            for _, name in ipairs(difference.cases) do
                assert.is_true(names[name], name)
            end
        end
    end)
end)
