local json = require "moonflow.json"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"
local sys = require "moonflow.sys"

local SECRET = "tok-very-secret-1234"
local CLEAN = {
    "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET", "DATABRICKS_RUNTIME_VERSION", "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL",
    "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_FILE", "DATABRICKS_CONFIG_PROFILE",
}

local function examine(target, env, output)
    skip.unless_env("MOONFLOW_BIN")
    local environment = { HOME = "/nonexistent" }
    for _, name in ipairs(CLEAN) do
        environment[name] = false
    end
    for name, value in pairs(env or {}) do
        environment[name] = value
    end
    local code = 'require("moonflow.cli.doctor").run { target = arg[1] ~= "" and arg[1] or nil, output = arg[2] }'
    local result = process.run {
        args = { "-e", code, target, output or "json" }, env = environment, timeout = 40,
    }
    assert.is_nil((result.stdout .. result.stderr):find(SECRET, 1, true))
    result.report = output == nil and assert(json.decode(result.stdout), result.stdout .. result.stderr)
    return result
end

local LIST = { json = { endpoints = { { name = "chat", endpoint_type = "llm/v1/chat" } } } }

describe("moonflow doctor", function()
    it("says what is used and that it answers", function()
        local server <close> = raw.listen { raw.reply(LIST) }
        local result = examine("", { MLFLOW_DEPLOYMENTS_TARGET = server.url, MLFLOW_TRACKING_TOKEN = SECRET })
        local report = result.report
        assert.equal(0, result.code, result.stdout)
        assert.equal(server.url, report.target)
        assert.equal("MLFLOW_DEPLOYMENTS_TARGET", report.target_source)
        assert.equal("MLFLOW_TRACKING_TOKEN", report.credential)
        assert.equal("the holder of a bearer token", report.as)
        assert.is_true(report.reachable)
        assert.equal(200, report.status)
        assert.equal(1, report.endpoints)
        assert.is_true(report.latency_ms > 0)
        assert.same({}, report.problems)
        assert.is_truthy(report.versions.libcurl:find("^%d+%.%d+"))
        assert.is_truthy(report.versions.tls:find("/"))
        assert.equal(sys.version, report.versions.moonflow)
    end)

    it("names the user, and the person at Databricks", function()
        local server <close> = raw.listen { raw.reply(LIST), raw.reply { json = { userName = "ann@example.com" } } }
        local report = examine(server.url, {
            MLFLOW_TRACKING_USERNAME = "ann", MLFLOW_TRACKING_PASSWORD = SECRET,
        }).report
        assert.equal("user ann", report.as)
        report = examine("databricks", { DATABRICKS_HOST = server.url, DATABRICKS_TOKEN = SECRET }).report
        assert.equal("ann@example.com", report.as)
        assert.is_truthy(report.credential:find("DATABRICKS_TOKEN", 1, true))
    end)

    it("names file and line of a profile", function()
        local server <close> = raw.listen { raw.reply(LIST) }
        local file = os.tmpname()
        local handle = assert(io.open(file, "w"))
        handle:write("[prod]\nhost = ", server.url, "\ntoken = ", SECRET, "\n")
        handle:close()
        os.execute("chmod 600 " .. file)
        local report = examine("databricks://prod", { DATABRICKS_CONFIG_FILE = file }).report
        os.remove(file)
        assert.is_truthy(report.credential:find(file, 1, true), report.credential)
        assert.is_truthy(report.credential:find("3", 1, true), report.credential)
    end)

    local cases = {
        { "no target", "", {}, 2, "No deployments target", "export MLFLOW_DEPLOYMENTS_TARGET" },
        { "an unknown target", "nowhere:x", {}, 2, "No plugin found", "nowhere.lua" },
        { "no credential", "openai", {}, 4, "OPENAI_API_KEY", "export OPENAI_API_KEY" },
        { "no way to log in", "databricks", {}, 4, "no Databricks host", "DATABRICKS_HOST" },
        { "nothing that listens", false, {}, 8, "Connection refused", "mlflow gateway start" },
        { "a refusal", { status = 401, json = {} }, { MLFLOW_TRACKING_TOKEN = SECRET }, 4, "401", nil },
        { "no such thing", { status = 404, json = {} }, {}, 3, "404", nil },
        { "a server's error", { status = 500, json = {} }, {}, 6, "500", nil },
        { "a page in place of JSON", { body = "<html><title>Sign in</title>" }, {}, 6, "HTML", nil },
    }
    for _, case in ipairs(cases) do
        it("ends with the code for " .. case[1], function()
            skip.unless_env("MOONFLOW_BIN")
            local target = case[2]
            local server = type(target) == "table" and raw.listen { raw.reply(target) }
            if server then
                target = server.url
            elseif not target then
                target = "http://127.0.0.1:" .. raw.closed_port()
            end
            local result = examine(target, case[3])
            local problem = result.report.problems[1]
            if server then
                server:close()
            end
            assert.equal(case[4], result.code, result.stdout)
            assert.equal(case[4], result.report.exit)
            assert.is_truthy(problem.problem:find(case[5], 1, true), problem.problem)
            if case[6] then
                assert.is_truthy(problem.try:find(case[6], 1, true), problem.try)
            end
        end)
    end

    it("is for people as well", function()
        local server <close> = raw.listen { raw.reply(LIST) }
        local good = examine(server.url, {}, "table")
        assert.is_truthy(good.stdout:find("\ntarget      http://127.0.0.1:%d+ %(from %-%-target%)\n"), good.stdout)
        assert.is_truthy(good.stdout:find("all is well"))
        local bad = examine("openai", {}, "table")
        assert.equal(4, bad.code)
        assert.is_truthy(bad.stdout:find("problem: OPENAI_API_KEY.*\n  why:   .*\n  try:   export"), bad.stdout)
    end)

    it("shows no password of a target", function()
        local result = examine("http://ann:" .. SECRET .. "@127.0.0.1:1", {})
        assert.is_true(result.code ~= 0)
    end)

    it("has an end", function()
        local server <close> = raw.listen { raw.reply { wait = 60, body = "{}" } }
        local started = sys.monotonic()
        assert.equal(9, examine(server.url, {}).code)
        assert.is_true(sys.monotonic() - started < 30)
    end)
end)

describe("moonflow targets", function()
    local function run(arguments, env)
        skip.unless_env("MOONFLOW_BIN")
        local code = ('require("moonflow.cli.targets").run(%s)'):format(arguments)
        return process.run { args = { "-e", code }, env = env }
    end

    it("lists what there is, and what says so", function()
        local list = assert(json.decode(run('{output="json"}', { OPENAI_API_KEY = SECRET }).stdout))
        local by_name = {}
        for _, entry in ipairs(list) do
            by_name[entry.name] = entry
        end
        assert.equal("OPENAI_API_KEY", by_name.openai.configured)
        assert.equal("built in", by_name.databricks.kind)
        assert.equal("plugin", by_name.echo.kind)
        assert.equal("http://localhost:5000", by_name.http.examples[1])
    end)

    it("is a table, or names", function()
        assert.is_truthy(run('{output="table"}').stdout:find("^NAME +KIND +CONFIGURED +EXAMPLES\n"))
        assert.is_truthy(run('{output="name"}').stdout:find("^databricks\nhttp\nhttps\nopenai\n"))
    end)

    it("helps on one", function()
        assert.is_truthy(run('{action="help", scheme="openai"}').stdout:find("OPENAI_API_BASE", 1, true))
        assert.equal(2, run('{action="help", scheme="nowhere"}').code)
    end)
end)
