--- The Databricks face of `moonflow serve`: the life of an endpoint, what is refused, what is told and what is not.
local json = require "moonflow.json"
local support = require "support.workspace"

local API = "/api/2.0/serving-endpoints"
local CHAT = { messages = json.array { { role = "user", content = "hi" } } }
local SECRET = "sk-live-0123456789abcdef"

describe("the life of an endpoint", function()
    it("is not ready, and then is", function()
        local world = support.new()
        local made = world:create("e")
        assert.same({ ready = "NOT_READY", config_update = "IN_PROGRESS" }, made.state)
        assert.is_nil(made.config)
        assert.equal("DEPLOYMENT_CREATING", made.pending_config.served_entities[1].state.deployment)
        assert.equal("NOT_READY IN_PROGRESS - 1", world:state "e")
        world.now = world.now + 0.5
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        local now = world:get("GET " .. API .. "/e")
        assert.equal("DEPLOYMENT_READY", now.config.served_entities[1].state.deployment)
        assert.equal(made.id, now.id)
        assert.same({ served_entity_name = "m", served_model_name = "m", traffic_percentage = 100 },
            now.config.traffic_config.routes[1])
    end)

    it("serves the old configuration until the new one is there", function()
        local world = support.new { deploy = { "reads=2" } }
        world:create("e")
        assert.equal("NOT_READY IN_PROGRESS - 1", world:state "e")
        assert.equal("NOT_READY IN_PROGRESS - 1", world:state "e")
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        local changed = world:get("PUT " .. API .. "/e/config", support.custom "2")
        assert.equal("READY", changed.state.ready)
        assert.equal("1", changed.config.served_entities[1].entity_version)
        assert.equal("2", changed.pending_config.served_entities[1].entity_version)
        local status, body, headers = world:ask("POST /serving-endpoints/e/invocations",
            { instances = json.array { 1 } })
        assert.same({ 200, 1.0, "m" }, { status, body.predictions[1], headers["served-model-name"] })
        assert.equal("READY IN_PROGRESS 1 2", world:state "e")
        assert.equal("READY IN_PROGRESS 1 2", world:state "e")
        assert.equal("READY NOT_UPDATING 2 -", world:state "e")
    end)

    it("refuses a second change meanwhile", function()
        local world = support.new()
        world:create("e")
        for _, line in ipairs { "PUT " .. API .. "/e/config", "PATCH " .. API .. "/e/telemetry-config" } do
            local status, body = world:ask(line, support.custom "2")
            assert.equal(409, status)
            assert.equal("RESOURCE_CONFLICT", body.error_code)
            assert.matches("Endpoint e is currently updating", body.message)
        end
        assert.equal("NOT_READY IN_PROGRESS - 1", world:state "e")
        world.now = world.now + 1
        world:get("PUT " .. API .. "/e/config", support.custom "2")
        world:get("PATCH " .. API .. "/e/tags", { add_tags = json.array { { key = "k", value = "v" } } })
    end)

    it("fails where it is told to, with the old one serving, and recovers", function()
        local world = support.new { deploy = { "e:fail=no image: x,version=2", "reads=0" } }
        world:create("e")
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        world:get("PUT " .. API .. "/e/config", support.custom "2")
        world.now = world.now + 1
        assert.equal("READY UPDATE_FAILED 1 2", world:state "e")
        local entity = world:get("GET " .. API .. "/e").pending_config.served_entities[1]
        assert.same({ deployment = "DEPLOYMENT_FAILED", deployment_state_message = "no image: x" }, entity.state)
        assert.matches("no image: x", world:get("GET " .. API .. "/e/served-models/m/build-logs").logs)
        world:get("PUT " .. API .. "/e/config", support.custom "3")
        assert.equal("READY NOT_UPDATING 3 -", world:state "e")
    end)

    it("says why a query can not be answered", function()
        local world = support.new { deploy = { "fail" } }
        world:create("e")
        local status, body = world:ask("POST /serving-endpoints/e/invocations", CHAT)
        assert.same({ 503, "TEMPORARILY_UNAVAILABLE" }, { status, body.error_code })
        world.now = world.now + 1
        assert.equal("NOT_READY UPDATE_FAILED - 1", world:state "e")
        status, body = world:ask("POST /serving-endpoints/e/invocations", CHAT)
        assert.same({ 400, "INVALID_STATE" }, { status, body.error_code })
    end)

    it("ends with a deletion, and may begin anew", function()
        local world = support.new()
        local first = world:create("e")
        local status, body = world:ask("POST " .. API, { name = "e", config = support.custom() })
        assert.same({ 409, "RESOURCE_ALREADY_EXISTS" }, { status, body.error_code })
        assert.same({}, world:get("DELETE " .. API .. "/e"))
        status, body = world:ask("GET " .. API .. "/e")
        assert.same({ 404, "RESOURCE_DOES_NOT_EXIST" }, { status, body.error_code })
        assert.is_true(world:create("e").id ~= first.id)
    end)

    it("is the same with provisioned model units", function()
        local world = support.new { deploy = { "reads=0" } }
        local function units(count)
            return { served_entities = json.array { { entity_name = "m", provisioned_model_units = count } } }
        end
        world:get("POST " .. API .. "/pt", { name = "e", config = units(50) })
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        world:get("PUT " .. API .. "/pt/e/config", { config = units(100) })
        local shown = world:get("GET " .. API .. "/e").config.served_entities[1]
        assert.same({ "m", 100 }, { shown.name, shown.provisioned_model_units })
    end)

    it("is the same with served models, as they were called before", function()
        local world = support.new { deploy = { "reads=0" } }
        world:create("e", { served_models = json.array { { model_name = "m", model_version = 3 } } })
        local config = world:get("GET " .. API .. "/e").config
        assert.same({ "m-3", "m", "3" },
            { config.served_models[1].name, config.served_models[1].model_name, config.served_models[1].model_version })
        assert.equal("m", config.served_entities[1].entity_name)
    end)

    it("stays with external models, or without", function()
        local world = support.new { deploy = { "reads=0" } }
        world:create("e")
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        local status, body = world:ask("PUT " .. API .. "/e/config", support.external(SECRET))
        assert.same({ 400, "INVALID_PARAMETER_VALUE" }, { status, body.error_code })
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
    end)

    it("ends at a thousand endpoints", function()
        local world = support.new()
        for i = 1, 1000 do
            world.workspace.count = i -- as if they were there
        end
        local status, body = world:ask("POST " .. API, { name = "e", config = support.custom() })
        assert.same({ 400, "BAD_REQUEST" }, { status, body.error_code })
    end)
end)

--- A configuration with these shares of two entities.
local function shares(first, second, name)
    local config = support.external("x", "y")
    config.traffic_config = { routes = json.array {
        { served_model_name = "a", traffic_percentage = first },
        { served_entity_name = name or "b", traffic_percentage = second },
    } }
    return config
end

local function external(model)
    model.provider = model.provider or "openai"
    model.name, model.task = model.name or "m", model.task or "llm/v1/chat"
    return { served_entities = json.array { { name = "a", external_model = model } } }
end

local function entity(fields)
    fields.entity_name = fields.entity_name or "m"
    return { served_entities = json.array { fields } }
end

local function many(count)
    local config = support.external()
    for i = 1, count do
        config.served_entities[i] = { name = "e" .. i, entity_name = "m" }
    end
    return config
end

local function mixed()
    local config = support.external "x"
    config.served_entities[2] = { name = "b", entity_name = "m" }
    return config
end

local function two_tasks()
    local config = support.external("x", "y")
    config.served_entities[2].external_model.task = "llm/v1/embeddings"
    return config
end

describe("a creation is refused", function()
    --- why, the configuration, what the message has, the name
    local CASES = {
        { "without a name", support.custom(), "name must be", false },
        { "with a name of other characters", support.custom(), "name must be", "a b" },
        { "with a name that is too long", support.custom(), "name must be", ("x"):rep(64) },
        { "with a name that is a number", support.custom(), "name must be", 7 },
        { "without a configuration", nil, "config is required" },
        { "with a list for a configuration", json.array {}, "config is required" },
        { "without entities", { served_entities = json.array {} }, "at least one" },
        { "with an object for entities", { served_entities = { a = 1 } }, "must be a list" },
        { "with too many entities", many(16), "15 entities" },
        { "with entities and models", { served_entities = json.array {}, served_models = json.array {} }, "only one" },
        { "with an entity that is none", { served_entities = json.array { 1 } }, "must be an object" },
        { "with an entity of nothing", { served_entities = json.array { { name = "a" } } }, "needs entity_name" },
        { "with an entity's odd name", entity { name = "a.b" }, "served_entities%[0%].name must" },
        { "with two entities of a name", { served_entities = json.array {
            { name = "a", entity_name = "m" }, { name = "a", entity_name = "n" },
        } }, "two entities of the name a" },
        { "with a size that is no text", entity { workload_size = 1 }, "workload_size must be a string" },
        { "with a switch that is no boolean", entity { scale_to_zero_enabled = "yes" }, "true or false" },
        { "with two ways to size", entity { workload_size = "Small", min_provisioned_concurrency = 4 }, "exclude" },
        { "with variables that are a list", entity { environment_vars = json.array { 1 } }, "object of strings" },
        { "with a variable that is no text", entity { environment_vars = { A = 1 } }, "at most 30 strings" },
        { "with external models and others", mixed(), "but not both" },
        { "with two tasks", two_tasks(), "have one task" },
        { "with several entities without shares", support.external("x", "y"), "traffic_config is required" },
        { "with shares of 90 in all", shares(80, 10), "add up to 100, not 90" },
        { "with a share above 100", shares(110, -10), "from 0 to 100" },
        { "with half a share", shares(99.5, 0.5), "from 0 to 100" },
        { "with a share of nobody", shares(90, 10, "c"), "nothing that is served has the name \"c\"" },
        { "with two routes to one", shares(90, 10, "a"), "two routes" },
        { "with routes that are no list", {
            served_entities = json.array { { entity_name = "m" } }, traffic_config = { routes = 1 },
        }, "must be a list" },
        { "with an unknown provider", external { provider = "acme" }, "provider must be one of ai21labs" },
        { "with an unknown task", external { task = "chat" }, "task must be one of" },
        { "without a provider's configuration", external {}, "openai_config must be an object" },
        { "without a key", external { openai_config = {} }, "needs openai_api_key" },
        { "with two keys", external { openai_config = {
            openai_api_key = "{{secrets/a/b}}", openai_api_key_plaintext = SECRET,
        } }, "only one of openai_api_key and" },
        { "with a key in the place of a reference", external { openai_config = { openai_api_key = SECRET } },
            "must be a reference" },
        { "with a key that is no text", external { openai_config = { openai_api_key_plaintext = 5 } },
            "must be a string" },
        { "without a region", external { provider = "amazon-bedrock", amazon_bedrock_config = {
            aws_secret_access_key_plaintext = SECRET,
        } }, "aws_region is required" },
        { "with a size for an external model", (function()
            local config = support.external "x"
            config.served_entities[1].workload_size = "Small"
            return config
        end)(), "workload_size can not be given" },
    }
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local world = support.new()
            local name = case[4]
            if name == nil then
                name = "e"
            end
            local status, body, _, raw = world:ask("POST " .. API, { name = name or nil, config = case[2] })
            assert.equal(400, status)
            assert.equal("INVALID_PARAMETER_VALUE", body.error_code)
            assert.matches(case[3], body.message)
            assert.is_nil(raw:find(SECRET, 1, true))
            assert.equal(1, #world:get("GET " .. API).endpoints)
        end)
    end

    --- why, the other parts of the body, what the message has
    local PARTS = {
        { "with tags that are no list", { tags = { a = 1 } }, "must be a list" },
        { "with a tag without a key", { tags = json.array { { value = "x" } } }, "key must be a string" },
        { "with a text for route_optimized", { route_optimized = "yes" }, "true or false" },
        { "with a description that is a number", { description = 5 }, "description must be" },
        { "with limits that are no list", { rate_limits = 5 }, "must be a list" },
        { "with a limit of nothing", { rate_limits = json.array { { renewal_period = "minute" } } }, "calls or" },
        { "with a limit in an hour", { rate_limits = json.array { { calls = 1, renewal_period = "x" } } }, "minute" },
        { "with a limit's odd key", { ai_gateway = { rate_limits = json.array {
            { calls = 1, renewal_period = "minute", key = "planet" },
        } } }, "key must be one of" },
        { "with half a call", { rate_limits = json.array { { calls = 0.5, renewal_period = "minute" } } }, "integer" },
        { "with a gateway that is a list", { ai_gateway = json.array { 1 } }, "must be an object" },
        { "with guardrails that are a text", { ai_gateway = { guardrails = "all" } }, "guardrails must be an object" },
        { "with mail to nobody", { email_notifications = { on_update_success = 1 } }, "must be a list" },
        { "with telemetry that is a text", { telemetry_config = "x" }, "must be an object" },
    }
    for _, case in ipairs(PARTS) do
        it(case[1], function()
            local world = support.new()
            local request = { name = "e", config = support.custom() }
            for name, value in pairs(case[2]) do
                request[name] = value
            end
            local status, body = world:ask("POST " .. API, request)
            assert.same({ 400, "INVALID_PARAMETER_VALUE" }, { status, body.error_code })
            assert.matches(case[3], body.message)
        end)
    end

    for name, body in pairs {
        ["with no JSON"] = "{oops", ["with a list"] = "[]", ["with a number"] = "7", ["with null"] = "null",
    } do
        it(name, function()
            local status, said = support.new():ask("POST " .. API, body)
            assert.same({ 400, "MALFORMED_REQUEST" }, { status, said.error_code })
        end)
    end

    it("with too many bytes", function()
        local status, body = support.new():ask("POST " .. API, '{"name":"' .. ("x"):rep(65536) .. '"}')
        assert.same({ 400, "INVALID_PARAMETER_VALUE" }, { status, body.error_code })
    end)
end)

describe("a workspace", function()
    it("gives no secret back, and keeps references", function()
        local world = support.new { deploy = { "reads=0" } }
        local config = support.external(SECRET)
        config.served_entities[1].external_model.openai_config.openai_organization = "org"
        config.served_entities[1].external_model.openai_config.typo_api_key = SECRET
        local custom = external { provider = "custom", custom_provider_config = {
            custom_provider_url = "https://x", api_key_auth = { key = "X-Key", value_plaintext = SECRET },
        } }
        local referring = external { provider = "anthropic", anthropic_config = {
            anthropic_api_key = "{{secrets/scope/key}}",
        } }
        for name, one in pairs { plain = config, custom = custom, referring = referring } do
            local _, _, _, made = world:ask("POST " .. API, { name = name, config = one })
            local _, shown, _, got = world:ask("GET " .. API .. "/" .. name)
            assert.is_nil((made .. got):find("0123456789", 1, true))
            assert.is_nil((made .. got):find("_plaintext", 1, true))
            local model = shown.config.served_entities[1].external_model
            assert.equal(name == "plain" and "org" or nil,
                model.openai_config and model.openai_config.openai_organization)
            assert.equal(name == "referring" and "{{secrets/scope/key}}" or nil,
                model.anthropic_config and model.anthropic_config.anthropic_api_key)
        end
        local _, _, _, all = world:ask("GET " .. API)
        assert.is_nil(all:find("0123456789", 1, true))
    end)

    it("has the endpoints of the file, ready, which only the file changes", function()
        local world = support.new()
        assert.equal("READY NOT_UPDATING 1 -", world:state "file")
        local status, body = world:ask("POST /serving-endpoints/file/invocations", CHAT)
        assert.same({ 200, "You said: hi" }, { status, body.choices[1].message.content })
        for _, line in ipairs { "PUT " .. API .. "/file/config", "DELETE " .. API .. "/file" } do
            status, body = world:ask(line, support.custom())
            assert.same({ 403, "PERMISSION_DENIED" }, { status, body.error_code })
        end
        status = world:ask("POST " .. API, { name = "file", config = support.custom() })
        assert.equal(409, status)
        status, body = world:ask("POST /serving-endpoints/file/invocations",
            { messages = json.array { { role = "user", content = "fail" } } })
        assert.same({ 429, "REQUEST_LIMIT_EXCEEDED", "too many" }, { status, body.error_code, body.message })
    end)

    it("outlives the file's endpoints, which keep their ids", function()
        local world = support.new { deploy = { "reads=0" } }
        world:create("e")
        local id = world:get("GET " .. API .. "/file").id
        world:read_again "file"
        assert.equal(id, world:get("GET " .. API .. "/file").id)
        assert.equal("READY NOT_UPDATING 1 -", world:state "e")
        world:read_again "other"
        assert.equal(404, (world:ask("GET " .. API .. "/file")))
        assert.equal(2, #world:get("GET " .. API).endpoints)
    end)

    it("lists what is there, in the order of the names", function()
        local world = support.new()
        world:create("z")
        world:create("a")
        local names = {}
        for i, endpoint in ipairs(world:get("GET " .. API .. "/").endpoints) do
            names[i] = endpoint.name
        end
        assert.same({ "a", "file", "z" }, names)
    end)

    for _, line in ipairs {
        "GET " .. API .. "/e/config", "POST " .. API .. "/e/nothing", "GET " .. API .. "/e/served-models/m/nothing",
        "GET /api/2.0/permissions/clusters/1", "GET /serving-endpoints/e/invocations", "PATCH " .. API,
        "GET /oidc/v1/token", "POST " .. API .. "/e/f/g/h/i",
    } do
        it("has no " .. line, function()
            local status, body = support.new():ask(line)
            assert.same({ 404, "ENDPOINT_NOT_FOUND" }, { status, body.error_code })
            assert.matches("No API found for '" .. line:match("^%S+"), body.message)
        end)
    end

    for _, line in ipairs {
        "GET " .. API .. "/x", "DELETE " .. API .. "/x", "PUT " .. API .. "/x/config", "PATCH " .. API .. "/x/tags",
        "PUT " .. API .. "/x/rate-limits", "PUT " .. API .. "/x/ai-gateway", "PATCH " .. API .. "/x/notifications",
        "GET " .. API .. "/x/metrics", "GET " .. API .. "/x/openapi", "GET " .. API .. "/x/served-models/m/logs",
        "GET " .. API .. "/file/served-models/m/logs", "POST /serving-endpoints/x/invocations",
        "POST /serving-endpoints/file/served-models/b/invocations", "GET /api/2.0/permissions/serving-endpoints/x",
        "PUT " .. API .. "/pt/x/config", "GET " .. API .. "/a%2Fb",
    } do
        it("finds nothing for " .. line, function()
            local status, body = support.new():ask(line)
            assert.same({ 404, "RESOURCE_DOES_NOT_EXIST" }, { status, body.error_code })
        end)
    end

    it("changes tags", function()
        local world = support.new()
        world:create("e", nil, { tags = json.array { { key = "a", value = "1" }, { key = "b" } } })
        local tags = world:get("PATCH " .. API .. "/e/tags", {
            add_tags = json.array { { key = "c", value = "3" }, { key = "a", value = "2" } },
            delete_tags = json.array { "b" },
        }).tags
        assert.same({ { key = "c", value = "3" }, { key = "a", value = "2" } }, { tags[1], tags[2] })
        assert.equal(2, #world:get("GET " .. API .. "/e").tags)
    end)

    it("replaces the gateway's settings, and clears them", function()
        local world = support.new()
        world:create("e", nil, { ai_gateway = { usage_tracking_config = { enabled = true } } })
        local set = { fallback_config = { enabled = true } }
        assert.is_true(world:get("PUT " .. API .. "/e/ai-gateway", set).fallback_config.enabled)
        local shown = world:get("GET " .. API .. "/e").ai_gateway
        assert.is_nil(shown.usage_tracking_config)
        world:get("PUT " .. API .. "/e/ai-gateway", {})
        assert.is_nil(world:get("GET " .. API .. "/e").ai_gateway)
    end)

    it("keeps permissions by id, notifications and telemetry", function()
        local world = support.new()
        local id = world:create("e").id
        local path = "/api/2.0/permissions/serving-endpoints/" .. id
        local function access(name, level)
            return { access_control_list = json.array { { user_name = name, permission_level = level } } }
        end
        world:get("PUT " .. path, access("a", "CAN_VIEW"))
        local list = world:get("PATCH " .. path, access("b", "CAN_QUERY")).access_control_list
        assert.equal(2, #list)
        assert.equal("CAN_QUERY", list[2].all_permissions[1].permission_level)
        assert.equal(1, #world:get("PUT " .. path, access("b", "CAN_MANAGE")).access_control_list)
        assert.equal(3, #world:get("GET " .. path .. "/permissionLevels").permission_levels)
        assert.equal(400, (world:ask("PUT " .. path, access("b", "CAN_FLY"))))
        world:get("PATCH " .. API .. "/e/notifications",
            { email_notifications = { on_update_failure = json.array { "a@example.com" } } })
        assert.equal("a@example.com", world:get("GET " .. API .. "/e").email_notifications.on_update_failure[1])
        assert.matches("request_count_total", select(4, world:ask("GET " .. API .. "/e/metrics")))
        assert.equal("3.1.0", world:get("GET " .. API .. "/e/openapi").openapi)
    end)
end)
