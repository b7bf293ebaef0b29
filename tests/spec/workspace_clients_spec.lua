--- The Databricks face of `moonflow serve` through clients: databricks-sdk, MLflow's, the openai package, and
--- moonflow's own.
local clients = require "support.workspace_clients"
local databricks = require "support.databricks"
local deployments = require "moonflow.deployments"
local json = require "moonflow.json"
local notice = require "moonflow.notice"

local DEMO = 'You said: "hi" (This is moonflow\'s demonstration: no model is behind it.)'
local HI = { messages = { { role = "user", content = "hi" } } }

local function plain(list)
    local values = {}
    for i = 1, #list do
        values[i] = list[i] == json.null and "-" or list[i]
    end
    return table.concat(values, " ")
end

describe("moonflow serve, as a workspace of Databricks", function()
    local records

    --- What a case gave.
    local function result(name)
        if not records then
            local server <close> = clients.start()
            records = clients.drive(server.url)
            records.said = server:close()
        end
        local record = assert(records["databricks: " .. name], "no such case: " .. name)
        assert(record.result, ("%s: %s"):format(name, record.error and json.encode(record.error)))
        return record.result
    end

    for _, way in ipairs { "a token", "an application" } do
        it("has a life for databricks-sdk by " .. way, function()
            local life = result("life, by " .. way)
            assert.equal("NOT_READY IN_PROGRESS - 1", plain(life.made))
            assert.equal("READY NOT_UPDATING 1 -", plain(life.waited))
            assert.equal("READY IN_PROGRESS 1 2", plain(life.updating))
            assert.equal("ResourceConflict", life.conflict[1])
            assert.equal(3.0, life.meanwhile[1])
            assert.equal("READY NOT_UPDATING 2 -", plain(life.updated))
            assert.equal("READY NOT_UPDATING 3 -", plain(life.again))
            assert.equal("moon", life.tags.tags[1].value)
            assert.equal(1, life.gateway.rate_limits[1].calls)
            assert.equal(3, life.levels)
            assert.equal("serving-endpoint", life.permissions)
            assert.matches("version 3 of m", life.logs)
            assert.matches("request_count_total{", life.metrics)
            assert.equal(4, #life.listed)
            assert.equal("ResourceDoesNotExist", life.gone[1])
        end)
    end

    it("lets an update fail, with the old one serving", function()
        local broken = result "an update that fails"
        assert.equal("OperationFailed", broken.failed[1])
        assert.matches("UPDATE_FAILED", broken.failed[3])
        assert.equal("READY UPDATE_FAILED 1 2", plain(broken.seen))
        assert.equal("no image", broken.message)
        assert.equal(3.0, broken.answers[1])
    end)

    it("refuses with the class that the SDK has for it", function()
        assert.equal("InvalidParameterValue", result("a refusal")[1])
    end)

    it("answers", function()
        assert.equal(DEMO, result "a chat")
        assert.equal(DEMO, result "a chat of the openai package")
        assert.equal(3.0, result("a route of its own")[1])
        assert.equal("app", result "who I am")
    end)

    it("has a life for MLflow's client", function()
        local life = result "mlflow: a life"
        assert.same({ ready = "NOT_READY", config_update = "IN_PROGRESS" }, life.states[1])
        assert.same({ ready = "READY", config_update = "NOT_UPDATING" }, life.states[2])
        assert.same({ ready = "READY", config_update = "IN_PROGRESS" }, life.updated)
        assert.is_false(life.secret)
        assert.equal(DEMO, life.answer)
        assert.equal(DEMO, life.stream)
        assert.equal(DEMO, life.file)
        assert.matches("409 Client Error: Endpoint mlflow is currently updating", life.conflict[3])
        assert.equal("k", life.tags.tags[1].key)
        assert.equal(9, life.limits.rate_limits[1].calls)
        assert.is_true(life.gateway.usage_tracking_config.enabled)
        assert.matches("^404 Client Error", life.gone[3])
        assert.equal("", records.said)
    end)
end)

describe("moonflow serve, for moonflow's own client", function()
    local environment, write

    before_each(function()
        environment = databricks.hide_environment()
        write, notice.write = notice.write, function() end
    end)

    after_each(function()
        notice.write = write
        getmetatable(environment).__close(environment)
    end)

    local function config(name, version)
        return { served_entities = { { name = name, entity_name = "m", entity_version = version } } }
    end

    it("has the whole life of an endpoint", function()
        local server <close> = clients.start()
        local client = databricks.client_of(server)
        client:create_endpoint { config = { name = "own", config = config("first", "1") } }
        local ready = client:wait_endpoint { endpoint = "own", timeout = 60 }
        assert.equal(1, ready.config.config_version)
        client:update_endpoint_config { endpoint = "own", config = config("second", "2") }
        local err = databricks.failure(client.update_endpoint_config, client,
            { endpoint = "own", config = config("third", "3") })
        assert.same({ 409, "RESOURCE_CONFLICT" }, { err.http_status, err.error_code })
        local rows = { dataframe_records = { { a = 1 }, { a = 2 } } }
        assert.equal(2.0, client:predict { endpoint = "own", inputs = rows }.predictions[2])
        assert.equal("first", client:last_response().headers["served-model-name"])
        ready = client:wait_endpoint { endpoint = "own", timeout = 60 }
        assert.equal(2, ready.config.config_version)
        client:predict { endpoint = "own", inputs = rows }
        assert.equal("second", client:last_response().headers["served-model-name"])
        assert.equal(2.0, client:predict { endpoint = "own", served_model = "second", inputs = rows }.predictions[2])
        assert.matches("version 2", client:get_endpoint_build_logs { endpoint = "own", served_model = "second" }.logs)
        client:set_endpoint_permissions {
            endpoint = "own", access_control_list = { { user_name = "a", permission_level = "CAN_QUERY" } },
        }
        assert.equal(4, #client:list_endpoints())
        client:delete_endpoint { endpoint = "own" }
        err = databricks.failure(client.get_endpoint, client, { endpoint = "own" })
        assert.same({ 404, "RESOURCE_DOES_NOT_EXIST" }, { err.http_status, err.error_code })
    end)

    it("says why an update failed", function()
        local server <close> = clients.start()
        local client = databricks.client_of(server)
        client:create_endpoint { config = { name = "broken", config = config("m", "1") } }
        client:wait_endpoint { endpoint = "broken", timeout = 60 }
        client:update_endpoint_config { endpoint = "broken", config = config("m", "2") }
        local err = databricks.failure(client.wait_endpoint, client, { endpoint = "broken", timeout = 60 })
        assert.equal("INVALID_STATE", err.error_code)
        assert.matches("DEPLOYMENT_FAILED (no image)", err.message, 1, true)
    end)

    it("lets an application in, whose secret is the server's token", function()
        local server <close> = clients.start { MOONFLOW_SERVE_TOKEN = "the-server-token" }
        local function login(id, secret)
            return deployments.get_deploy_client("databricks", {
                host = server.url, client_id = id, client_secret = secret, max_retries = 0,
            })
        end
        assert.equal(3, #login("app", "the-server-token"):list_endpoints())
        local err = databricks.failure(function()
            return login("other", "wrong"):list_endpoints()
        end)
        assert.equal("auth", err.kind)
        err = databricks.failure(function()
            return databricks.client_of(server, { token = "wrong" }):list_endpoints()
        end)
        assert.equal(403, err.http_status)
        local client = login("app", "the-server-token")
        assert.equal(DEMO, client:predict { endpoint = "chat", inputs = HI }.choices[1].message.content)
    end)
end)
