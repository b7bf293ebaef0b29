--- Managing serving endpoints: what each method sends, MLflow's forms of arguments, what is refused before
--- a request, and creations of which no answer came back.
local databricks = require "support.databricks"
local deployments = require "moonflow.deployments"
local fake = require "support.fake"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local process = require "support.process"
local raw = require "support.raw"
local sys = require "moonflow.sys"

local failure, serve = databricks.failure, databricks.serve

local environment, write, said

before_each(function()
    environment = databricks.hide_environment()
    write, said = notice.write, {}
    notice.write = function(line)
        said[#said + 1] = line
    end
end)

after_each(function()
    notice.write = write
    getmetatable(environment).__close(environment)
end)

--- A client that must send nothing: its host has nobody listening.
local function offline()
    return deployments.get_deploy_client("databricks", {
        host = "http://127.0.0.1:1", token = databricks.token, max_retries = 0,
    })
end

local ENTITIES = { { name = "current", entity_name = "m", entity_version = "1" }, { name = "next" } }

local function shares(...)
    local routes = {}
    for i, share in ipairs { ... } do
        routes[i] = { served_entity_name = ENTITIES[i] and ENTITIES[i].name or "x", traffic_percentage = share }
    end
    return { served_entities = ENTITIES, traffic_config = { routes = routes } }
end

describe("a method of one request", function()
    --- method, arguments, HTTP method, path, body
    local CASES = {
        {
            "update_endpoint_config", { endpoint = "e", config = shares(90, 10) }, "PUT",
            "/api/2.0/serving-endpoints/e/config", shares(90, 10),
        },
        {
            "update_endpoint_tags", { endpoint = "a b/c", config = { delete_tags = { "k" } } }, "PATCH",
            "/api/2.0/serving-endpoints/a%20b%2Fc/tags", { delete_tags = { "k" } },
        },
        {
            "update_endpoint_rate_limits", { endpoint = "e", config = { rate_limits = { { calls = 1 } } } }, "PUT",
            "/api/2.0/serving-endpoints/e/rate-limits", { rate_limits = { { calls = 1 } } },
        },
        { "update_endpoint_ai_gateway", { endpoint = "e", config = {} }, "PUT",
            "/api/2.0/serving-endpoints/e/ai-gateway", {} },
        {
            "update_endpoint_notifications", { endpoint = "e", config = { email_notifications = {} } }, "PATCH",
            "/api/2.0/serving-endpoints/e/notifications", { email_notifications = {} },
        },
        {
            "update_endpoint_telemetry", { endpoint = "e", config = { telemetry_config = {} } }, "PATCH",
            "/api/2.0/serving-endpoints/e/telemetry-config", { telemetry_config = {} },
        },
        {
            "update_provisioned_throughput_endpoint_config", { endpoint = "e", config = { config = shares(100) } },
            "PUT", "/api/2.0/serving-endpoints/pt/e/config", { config = shares(100) },
        },
        {
            "create_provisioned_throughput_endpoint", { config = { name = "e", config = shares(100) } }, "POST",
            "/api/2.0/serving-endpoints/pt", { name = "e", config = shares(100) },
        },
        { "get_endpoint", { endpoint = "e" }, "GET", "/api/2.0/serving-endpoints/e" },
        { "delete_endpoint", { endpoint = "e" }, "DELETE", "/api/2.0/serving-endpoints/e" },
        {
            "get_endpoint_build_logs", { endpoint = "e", served_model = "m 1" }, "GET",
            "/api/2.0/serving-endpoints/e/served-models/m%201/build-logs",
        },
        {
            "get_endpoint_logs", { endpoint = "e", served_model = "m" }, "GET",
            "/api/2.0/serving-endpoints/e/served-models/m/logs",
        },
        { "get_endpoint_openapi", { endpoint = "e" }, "GET", "/api/2.0/serving-endpoints/e/openapi" },
        {
            "get_endpoint_permissions", { endpoint_id = "0a1b" }, "GET",
            "/api/2.0/permissions/serving-endpoints/0a1b",
        },
        {
            "get_endpoint_permission_levels", { endpoint_id = "0a1b" }, "GET",
            "/api/2.0/permissions/serving-endpoints/0a1b/permissionLevels",
        },
        {
            "set_endpoint_permissions",
            { endpoint_id = "0a1b", access_control_list = { { group_name = "g", permission_level = "CAN_QUERY" } } },
            "PUT", "/api/2.0/permissions/serving-endpoints/0a1b",
            { access_control_list = { { group_name = "g", permission_level = "CAN_QUERY" } } },
        },
        {
            "update_endpoint_permissions", { endpoint_id = "0a1b", access_control_list = {} }, "PATCH",
            "/api/2.0/permissions/serving-endpoints/0a1b", { access_control_list = {} },
        },
        {
            "predict", { endpoint = "e", served_model = "next", inputs = { prompt = "p" } }, "POST",
            "/serving-endpoints/e/served-models/next/invocations", { prompt = "p" },
        },
    }

    for _, case in ipairs(CASES) do
        local name, args, verb, path, body = table.unpack(case)
        it(("%s sends %s %s"):format(name, verb, path), function()
            local server, client = serve { { json = { answer = 1 } } }
            local _ <close> = server
            assert.same({ answer = 1 }, client[name](client, args))
            local requests = server:requests()
            assert.equal(1, #requests)
            assert.equal(verb, requests[1].method)
            assert.equal(path, requests[1].target)
            assert.same(body, requests[1].body ~= "" and json.decode(requests[1].body) or nil)
            assert.equal("Databricks Deployment Client", requests[1].header "X-Databricks-Endpoints-API-Client")
        end)
    end

    it("takes an empty list of permissions for a list", function()
        local server, client = serve { { json = {} } }
        local _ <close> = server
        client:set_endpoint_permissions { endpoint_id = "1", access_control_list = {} }
        assert.equal('{"access_control_list":[]}', server:requests()[1].body)
    end)

    it("takes an empty answer to a change for done", function()
        local server, client = serve { { body = "" } }
        local _ <close> = server
        assert.is_true(client:delete_endpoint { endpoint = "e" })
        assert.is_true(client:update_endpoint_config("e", {}))
    end)

    it("needs its arguments", function()
        for name, args in pairs {
            update_endpoint_config = { endpoint = "e" }, update_endpoint = { endpoint = "e" }, delete_endpoint = {},
            get_endpoint_logs = { endpoint = "e" }, get_endpoint_permissions = {},
        } do
            local client = offline()
            local err = failure(client[name], client, args)
            assert.equal("usage", err.kind)
            assert.matches(name .. " needs the argument", err.message, 1, true)
        end
    end)
end)

describe("permissions", function()
    it("of an endpoint are found by its name", function()
        local server, client = serve { { json = { name = "chat", id = "0a1b" } }, { json = { object_id = "x" } } }
        local _ <close> = server
        assert.equal("x", client:get_endpoint_permissions("chat").object_id)
        assert.equal("/api/2.0/serving-endpoints/chat", server:requests()[1].target)
        assert.equal("/api/2.0/permissions/serving-endpoints/0a1b", server:requests()[2].target)
    end)

    it("are not there where the endpoint has no id", function()
        local server, client = serve { { json = { name = "databricks-llama" } } }
        local _ <close> = server
        local err = failure(client.get_endpoint_permissions, client, "databricks-llama")
        assert.equal("unsupported", err.kind)
        assert.equal(1, #server:requests())
    end)
end)

describe("create_endpoint", function()
    local DEPRECATED = "Passing '%s' as a parameter is deprecated. Please specify '%s' %swithin the config dictionary."

    local function warning(name, only)
        return DEPRECATED:format(name, name, only and "only " or "")
    end

    local PARTS = "Passing 'name', 'config', and 'route_optimized' as separate parameters is deprecated. Please pass "
        .. "the full API request payload as a single dictionary in the 'config' parameter."

    local function whole(fields)
        local config = { config = { served_entities = {} } }
        for name, value in pairs(fields) do
            config[name] = value
        end
        return config
    end

    --- What MLflow's table of the two forms says: arguments, the body, the warnings.
    local ACCEPTED = {
        { { config = whole { name = "e" } }, whole { name = "e" }, {} },
        { { config = whole { name = "e" }, name = "e" }, whole { name = "e" }, { warning("name", true) } },
        { { config = whole {}, name = "e" }, whole { name = "e" }, { warning "name" } },
        { { config = whole { name = "e", route_optimized = true } }, whole { name = "e", route_optimized = true }, {} },
        {
            { config = whole { name = "e", route_optimized = true }, route_optimized = true },
            whole { name = "e", route_optimized = true }, { warning("route_optimized", true) },
        },
        {
            { config = whole { name = "e" }, route_optimized = true }, whole { name = "e", route_optimized = true },
            { warning "route_optimized" },
        },
        { { config = whole { name = "e" }, route_optimized = false }, whole { name = "e" }, {} },
        {
            { name = "e", config = { served_entities = { { a = 1 } }, tags = { { key = "k" } }, rate_limits = {} } },
            {
                name = "e", route_optimized = false, tags = { { key = "k" } },
                config = { served_entities = { { a = 1 } } },
            },
            { PARTS },
        },
        { { name = "e" }, { name = "e", config = {}, route_optimized = false }, { PARTS } },
        {
            { "e", { ai_gateway = { a = 1 } }, true },
            { name = "e", config = { ai_gateway = { a = 1 } }, route_optimized = true }, { PARTS },
        },
    }

    for i, case in ipairs(ACCEPTED) do
        it("takes MLflow's arguments, case " .. i, function()
            local notices = {}
            notice.once, case.once = function(text)
                notices[#notices + 1] = text
            end, notice.once
            finally(function()
                notice.once = case.once
            end)
            local server, client = serve { { json = { name = "e" } } }
            local _ <close> = server
            local args, body, warnings = table.unpack(case)
            local before = json.encode(args.config or {})
            assert.same({ name = "e" }, args[1] and client:create_endpoint(table.unpack(args))
                or client:create_endpoint(args))
            local request = server:requests()[1]
            assert.equal("POST", request.method)
            assert.equal("/api/2.0/serving-endpoints/", request.target)
            assert.same(body, json.decode(request.body))
            assert.same(warnings, notices)
            assert.equal(before, json.encode(args.config or {}))
        end)
    end

    --- Arguments, and what the refusal says.
    local REFUSED = {
        { { config = whole { name = "a" }, name = "b" }, "Name mismatch. Found 'b' as parameter and 'a' in config." },
        { { config = whole {} }, "The 'name' field is required." },
        { { config = {} }, "The 'name' field is required." },
        { { config = whole { name = 1 } }, "The 'name' field is required." },
        {
            { config = whole { name = "a", route_optimized = true }, route_optimized = false },
            "Conflicting 'route_optimized' values found.",
        },
        { { config = whole { name = "my chat!" } }, '"my chat!" can be no name of an endpoint', 'such as "my-chat-"' },
        { { config = { name = "e", config = shares(90, 20) } }, "must add up to 100, not 110" },
    }

    for i, case in ipairs(REFUSED) do
        it("refuses before the network, case " .. i, function()
            local client = offline()
            local err = failure(client.create_endpoint, client, case[1])
            assert.equal("usage", err.kind)
            assert.matches(case[2], err.message, 1, true)
            assert.matches(case[3] or "", err.hint or "", 1, true)
            assert.same({}, said)
        end)
    end

    it("warns once", function()
        local world = fake.world {
            answers = { { json = { name = "e" } } },
            environ = { HOME = "/x", DATABRICKS_HOST = "https://h.example", DATABRICKS_TOKEN = databricks.token },
        }
        finally(function()
            world:close()
        end)
        local client = world.deployments.get_deploy_client "databricks"
        client:create_endpoint { name = "e", config = {} }
        client:create_endpoint { name = "e", config = {} }
        assert.same({ "moonflow: warning: " .. PARTS }, world.lines)
        client:update_endpoint { endpoint = "e", config = {} }
        client:update_endpoint { endpoint = "e", config = {} }
        assert.equal(2, #world.lines)
        assert.matches("warning: The `update_endpoint` method is deprecated.", world.lines[2], 1, true)
    end)
end)

describe("update_endpoint", function()
    it("sends rate limits by themselves, and all else as the configuration", function()
        local server, client = serve { { json = {} } }
        local _ <close> = server
        client:update_endpoint { endpoint = "e", config = { rate_limits = { { calls = 1 } } } }
        client:update_endpoint { endpoint = "e", config = { rate_limits = {}, served_entities = {} } }
        client:update_endpoint { endpoint = "e", config = {} }
        local targets = {}
        for i, request in ipairs(server:requests()) do
            targets[i] = request.method .. " " .. request.target
        end
        local path = "PUT /api/2.0/serving-endpoints/e/"
        assert.same({ path .. "rate-limits", path .. "config", path .. "config" }, targets)
    end)
end)

describe("before the network", function()
    it("traffic has to add up", function()
        local client = offline()
        --- configuration, message, hint
        for _, case in ipairs {
            { shares(80, 10), 'must add up to 100, not 90 ("current" 80, "next" 10)' },
            { shares(50.5, 49.5), "traffic_percentage must be an integer from 0 to 100, got 50.5" },
            { shares(-1, 101), "must be an integer from 0 to 100, got -1" },
            { shares(), nil },
            {
                {
                    served_entities = ENTITIES,
                    traffic_config = { routes = { { served_entity_name = "curent", traffic_percentage = 100 } } },
                },
                'nothing that is served has the name "curent"', 'did you mean "current"?',
            },
            { { traffic_config = { routes = { 7 } } }, "route 1 of traffic_config must be a table" },
        } do
            local config, message, hint = table.unpack(case, 1, 3)
            local err = failure(client.update_endpoint_config, client, { endpoint = "e", config = config })
            assert.equal(message and "usage" or "network", err.kind)
            assert.matches(message or "", err.message, 1, true)
            assert.matches(hint or "", err.hint or "", 1, true)
        end
    end)

    it("a name that the server may have chosen is not doubted", function()
        local client = offline()
        local err = failure(client.update_endpoint_config, client, {
            endpoint = "e",
            config = {
                served_entities = { { entity_name = "m", entity_version = "1" } },
                traffic_config = { routes = { { served_entity_name = "m-1", traffic_percentage = 100 } } },
            },
        })
        assert.equal("network", err.kind)
    end)

    it("inputs are of one kind", function()
        local client = offline()
        --- inputs, message, hint
        for _, case in ipairs {
            { { messages = {}, prompt = "p" }, "takes one kind of inputs, got messages and prompt" },
            { { message = {} }, "needs inputs with one of", 'did you mean "messages"?' },
            { { temperature = 1 }, "needs inputs with one of dataframe_records, dataframe_split, input" },
            { { messages = {}, temperature = 1 } },
            { { dataframe_split = {}, params = {} } },
            { {} },
            { json.array { 1 } },
        } do
            for _, method in ipairs { "predict", "predict_stream" } do
                local err = failure(client[method], client, { endpoint = "e", inputs = case[1] })
                if case[2] then
                    assert.equal("usage", err.kind)
                    assert.matches(method .. " " .. case[2], err.message, 1, true)
                    assert.matches(case[3] or "", err.hint or "", 1, true)
                elseif not json.is_array(case[1]) then
                    assert.equal("network", err.kind)
                end
            end
        end
    end)
end)

describe("a creation without an answer", function()
    local LOST = { status = 502, body = "" }
    local CONFIG = { name = "chat", config = { served_entities = {} } }

    local function created(seconds_ago)
        return { json = { name = "chat", creation_timestamp = (math.floor(sys.time()) - seconds_ago) * 1000 } }
    end

    it("is a success where the endpoint is there, and new", function()
        local server, client = serve { LOST, created(0) }
        local _ <close> = server
        assert.equal("chat", client:create_endpoint { config = CONFIG }.name)
        local requests = server:requests()
        assert.equal(2, #requests)
        assert.equal("GET", requests[2].method)
        assert.equal("/api/2.0/serving-endpoints/chat", requests[2].target)
        assert.equal(1, #said)
        assert.matches('read back: the endpoint "chat" was created', said[1], 1, true)
    end)

    it("is judged by the server's clock where it tells the time", function()
        local answer = { json = { name = "chat", creation_timestamp = 784111776000 } }
        answer.headers = { Date = "Sun, 06 Nov 1994 08:49:37 GMT" }
        local server, client = serve { LOST, answer }
        local _ <close> = server
        assert.equal("chat", client:create_endpoint { config = CONFIG }.name)
    end)

    --- What is read back, and what is said of it.
    for name, case in pairs {
        ["where it is not there"] = {
            { status = 404, json = { error_code = "RESOURCE_DOES_NOT_EXIST", message = "no" } },
            'read back: there is no endpoint "chat", so it was not created', "create it again",
        },
        ["where it was there before"] = {
            created(3600), 'read back: the endpoint "chat" was there before, so nothing was created', "update_endpoint",
        },
        ["where it does not say since when"] = {
            { json = { name = "chat" } }, "there is an endpoint \"chat\", but it does not say since when", "",
        },
        ["where it can not be read"] = {
            { status = 403, json = { message = "you may not" } }, "reading it back failed too: ", "",
        },
    } do
        it("says so " .. name, function()
            local server, client = serve { LOST, case[1] }
            local _ <close> = server
            local err = failure(client.create_endpoint, client, { config = CONFIG })
            assert.equal("http", err.kind)
            assert.equal(502, err.http_status)
            assert.equal("create_endpoint", err.operation)
            assert.matches(case[2], err.message, 1, true)
            assert.matches(case[3], err.hint, 1, true)
            assert.equal(2, #server:requests())
        end)
    end

    it("is read back when the connection broke behind the request, too", function()
        local server <close> = raw.listen { { { close = true } }, raw.reply(created(0)) }
        assert.equal("chat", databricks.client_of(server):create_endpoint { config = CONFIG }.name)
    end)

    it("is not read back where the answer says that nothing was done", function()
        for _, reply in ipairs {
            { status = 409, json = { error_code = "RESOURCE_ALREADY_EXISTS", message = "it exists" } },
            { status = 429, json = { error_code = "REQUEST_LIMIT_EXCEEDED", message = "slow" } },
            { status = 503, body = "" },
        } do
            local server, client = serve { reply }
            local _ <close> = server
            local err = failure(client.create_endpoint, client, { config = CONFIG })
            assert.equal(reply.status, err.http_status)
            assert.equal(1, #server:requests())
        end
    end)

    it("is never sent twice after a 500, while a change and a deletion are", function()
        local server, client = serve({ { status = 500, body = "" }, { json = { ok = 1 } } }, { max_retries = 3 })
        local _ <close> = server
        failure(client.create_endpoint, client, { config = CONFIG })
        local kinds = {}
        for i, request in ipairs(server:requests()) do
            kinds[i] = request.method
        end
        assert.same({ "POST", "GET" }, kinds)
    end)
end)

describe("retries of changes:", function()
    before_each(function()
        require("moonflow.env").MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0"
    end)

    it("a deletion whose first try had no answer is done where the second finds nothing", function()
        local gone = { status = 404, json = { error_code = "RESOURCE_DOES_NOT_EXIST", message = "gone" } }
        local server, client = serve({ { status = 502, body = "" }, gone }, { max_retries = 2 })
        local _ <close> = server
        assert.is_true(client:delete_endpoint { endpoint = "e" })
        assert.equal(2, #server:requests())
    end)

    it("a deletion of what was never there fails, as in MLflow's client", function()
        local gone = { status = 404, json = { error_code = "RESOURCE_DOES_NOT_EXIST", message = "gone" } }
        local server, client = serve({ gone }, { max_retries = 2 })
        local _ <close> = server
        assert.equal(404, failure(client.delete_endpoint, client, "e").http_status)
    end)

    it("a configuration is sent again after 503, 502 and 500, and not after 409", function()
        local server, client = serve({
            { status = 503, body = "" }, { status = 502, body = "" }, { status = 500, body = "" },
            { json = { name = "e" } },
        }, { max_retries = 3 })
        local _ <close> = server
        assert.equal("e", client:update_endpoint_config("e", {}).name)
        assert.equal(4, #server:requests())
        local other <close>, other_client = serve({ { status = 409, json = { message = "is updating" } } },
            { max_retries = 3 })
        assert.equal(409, failure(other_client.update_endpoint_config, other_client, "e", {}).http_status)
        assert.equal(1, #other:requests())
    end)
end)

describe("scripts/create_endpoint.lua", function()
    it("creates MLflow's own example, and waits for it", function()
        local server <close> = raw.listen {
            raw.reply { json = { name = "chat", state = { ready = "NOT_READY", config_update = "IN_PROGRESS" } } },
            raw.reply { json = { name = "chat", state = { ready = "READY", config_update = "NOT_UPDATING" } } },
        }
        local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
        local result = process.run {
            args = { root .. "/scripts/create_endpoint.lua" },
            env = { DATABRICKS_HOST = server.url, DATABRICKS_TOKEN = databricks.token, HOME = "/nonexistent" },
        }
        assert.equal("chat is READY\n", result.stdout)
        assert.matches("warning: Passing 'name', 'config', and 'route_optimized' as separate parameters", result.stderr,
            1, true)
        assert.equal(0, result.code)
        local requests = server:requests()
        assert.equal("POST", requests[1].method)
        assert.same({
            name = "chat",
            route_optimized = false,
            config = {
                served_entities = {
                    {
                        name = "test",
                        external_model = {
                            name = "gpt-4", provider = "openai", task = "llm/v1/chat",
                            openai_config = { openai_api_key = "{{secrets/scope/key}}" },
                        },
                    },
                },
            },
        }, json.decode(requests[1].body))
        assert.equal("/api/2.0/serving-endpoints/chat", requests[2].target)
    end)
end)
