--- Waiting for a serving endpoint, on a clock that only sleeping turns on.
local fake = require "support.fake"

local ENVIRON = {
    HOME = "/nonexistent", DATABRICKS_HOST = "https://dbc.example", DATABRICKS_TOKEN = "dapi-of-the-test",
}

--- An answer: state, versions that serve and that come, entities.
local function endpoint(ready, update, active, pending, entities)
    return {
        json = {
            name = "chat", id = "1",
            state = { ready = ready, config_update = update },
            config = active and { config_version = active, served_entities = entities or {} },
            pending_config = pending and { config_version = pending, served_entities = entities or {} },
        },
    }
end

local function entity(name, deployment, message, workload_type)
    return {
        name = name, workload_type = workload_type,
        state = { deployment = deployment, deployment_state_message = message },
    }
end

local READY = endpoint("READY", "NOT_UPDATING", 1)
local CREATING = endpoint("NOT_READY", "IN_PROGRESS", nil, 1, { entity("a", "DEPLOYMENT_CREATING", "building") })

describe("wait_endpoint", function()
    local world

    after_each(function()
        world:close()
    end)

    local function client_of(answers, random)
        world = fake.world { answers = answers, environ = ENVIRON, random = random }
        return world.deployments.get_deploy_client "databricks"
    end

    local function failure(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    it("returns at once where all is done", function()
        local client = client_of { READY }
        assert.equal("chat", client:wait_endpoint("chat").name)
        assert.equal("https://dbc.example/api/2.0/serving-endpoints/chat", world.requests[1].url)
        assert.same({}, world.sleeps)
    end)

    it("looks after 1, 2, 3 ... 10 seconds, and a random part of one more", function()
        local answers = {}
        for i = 1, 12 do
            answers[i] = CREATING
        end
        answers[13] = READY
        local client = client_of(answers, 0.25)
        client:wait_endpoint { endpoint = "chat" }
        assert.same({ 1.25, 2.25, 3.25, 4.25, 5.25, 6.25, 7.25, 8.25, 9.25, 10.25, 10.25, 10.25 }, world.sleeps)
    end)

    it("tells of each change once, on stderr", function()
        local client = client_of {
            CREATING, CREATING, endpoint("NOT_READY", "IN_PROGRESS", nil, 1, { entity("a", "DEPLOYMENT_READY", "") }),
            READY,
        }
        client:wait_endpoint { endpoint = "chat" }
        assert.same({
            'moonflow: endpoint "chat": NOT_READY, IN_PROGRESS, version 1 to come; a DEPLOYMENT_CREATING (building)',
            'moonflow: endpoint "chat": NOT_READY, IN_PROGRESS, version 1 to come; a DEPLOYMENT_READY',
            'moonflow: endpoint "chat": READY, NOT_UPDATING, version 1',
        }, world.lines)
    end)

    it("waits for READY, or only for the end of the update", function()
        local unready = endpoint("NOT_READY", "NOT_UPDATING", 1)
        for _, goal in ipairs { "until", "state" } do
            local client = client_of { unready, READY }
            client:wait_endpoint { endpoint = "chat", [goal] = "not_updating" }
            assert.equal(1, #world.requests)
            world:close()
        end
        local client = client_of { unready, READY }
        client:wait_endpoint("chat", 60, "ready")
        assert.equal(2, #world.requests)
    end)

    it("waits for the version that this client's change leads to", function()
        local client = client_of {
            endpoint("READY", "IN_PROGRESS", 1, 2), -- what the change answers
            READY, -- and the first look, from before it
            endpoint("READY", "IN_PROGRESS", 1, 2), endpoint("READY", "NOT_UPDATING", 2),
        }
        client:update_endpoint_config("chat", {})
        assert.equal(2, client:wait_endpoint("chat").config.config_version)
        assert.equal(4, #world.requests)
    end)

    it("takes no failure of an earlier version for one of the new", function()
        local client = client_of {
            endpoint("READY", "IN_PROGRESS", 1, 3), endpoint("READY", "UPDATE_FAILED", 1, 2),
            endpoint("READY", "NOT_UPDATING", 3),
        }
        client:update_endpoint_config("chat", {})
        assert.equal(3, client:wait_endpoint("chat").config.config_version)
    end)

    it("does not wait for a version of an endpoint that was deleted meanwhile", function()
        local other = endpoint("READY", "NOT_UPDATING", 1)
        other.json.id = "2"
        local client = client_of { endpoint("READY", "IN_PROGRESS", 7, 8), other }
        client:update_endpoint_config("chat", {})
        client:wait_endpoint("chat")
        assert.equal(2, #world.requests)
    end)

    it("waits for what create_endpoint created", function()
        local client = client_of { CREATING, CREATING, READY }
        client:create_endpoint { config = { name = "chat", config = {} } }
        client:wait_endpoint("chat")
        assert.equal(3, #world.requests)
    end)

    for _, state in ipairs { "UPDATE_FAILED", "UPDATE_CANCELED" } do
        it("ends with what the entities say at " .. state, function()
            local client = client_of {
                CREATING,
                endpoint("NOT_READY", state, nil, 1, {
                    entity("good", "DEPLOYMENT_READY"), entity("bad", "DEPLOYMENT_FAILED", "no module named x\27[0m"),
                }),
            }
            local err = failure(client.wait_endpoint, client, "chat")
            assert.equal("http", err.kind)
            assert.equal("INVALID_STATE", err.error_code)
            assert.equal("wait_endpoint", err.operation)
            assert.matches(state, err.message, 1, true)
            assert.matches("bad DEPLOYMENT_FAILED (no module named x [0m)", err.message, 1, true)
            assert.matches('served_model = "bad"', err.hint, 1, true)
        end)
    end

    it("ends where an entity failed and no update is under way", function()
        local dead = endpoint("NOT_READY", "NOT_UPDATING", 1, nil, { entity("a", "DEPLOYMENT_ABORTED", "evicted") })
        local client = client_of { dead }
        assert.matches("evicted", failure(client.wait_endpoint, client, "chat").message, 1, true)
        assert.equal("chat", client:wait_endpoint("chat", nil, "not_updating").name)
    end)

    it("waits through states that it does not know, and answers without one", function()
        local client = client_of {
            endpoint("WARMING", "RESHARDING", 1), { json = { name = "chat" } },
            { json = { name = "chat", state = "odd", config = 7, pending_config = { served_entities = { 1 } } } },
            READY,
        }
        client:wait_endpoint("chat")
        assert.matches("WARMING, RESHARDING", world.lines[1], 1, true)
        assert.matches("unknown, unknown", world.lines[2], 1, true)
        assert.equal(4, #world.requests)
    end)

    it("ends with its time, to the second", function()
        local client = client_of { CREATING }
        local err = failure(client.wait_endpoint, client, { endpoint = "chat", timeout = 7 })
        assert.equal("timeout", err.kind)
        assert.equal(1007, world.now)
        assert.matches('was not ready within 7 s: NOT_READY, IN_PROGRESS', err.message, 1, true)
        assert.matches("a DEPLOYMENT_CREATING (building)", err.message, 1, true)
    end)

    --- The machines of the entities, and how long a wait without a time of its own lasts.
    for kind, seconds in pairs { CPU = 2100, GPU_SMALL = 3900, GPU_LARGE = 7500, MULTIGPU_MEDIUM = 3900 } do
        it(("has %d s for %s"):format(seconds, kind), function()
            local client = client_of {
                endpoint("NOT_READY", "IN_PROGRESS", nil, 1, { entity("a", "DEPLOYMENT_CREATING", "", kind) }),
            }
            failure(client.wait_endpoint, client, "chat")
            assert.equal(1000 + seconds, world.now)
        end)
    end

    it("gives each look the time that is left", function()
        local client = client_of { CREATING }
        failure(client.wait_endpoint, client, { endpoint = "chat", timeout = 20 })
        assert.equal(20, world.requests[1].total_timeout)
        assert.equal(5, world.requests[#world.requests].total_timeout)
    end)

    it("goes on after a 503 and ends at a 404", function()
        local client = client_of {
            { status = 503 }, CREATING, { status = 404, json = { error_code = "RESOURCE_DOES_NOT_EXIST" } },
        }
        local err = failure(client.wait_endpoint, client, "chat")
        assert.equal(404, err.http_status)
        assert.equal("RESOURCE_DOES_NOT_EXIST", err.error_code)
    end)

    it("refuses another goal", function()
        local client = client_of { READY }
        local err = failure(client.wait_endpoint, client, { endpoint = "chat", ["until"] = "redy" })
        assert.equal("usage", err.kind)
        assert.equal('did you mean "ready"?', err.hint)
        assert.same({}, world.requests)
    end)
end)
