local fake = require "support.fake"

local CHAT = {
    name = "chat", endpoint_type = "llm/v1/chat", model = { name = "gpt-3.5-turbo", provider = "openai" },
    endpoint_url = "/gateway/chat/invocations",
}

describe("moonflow.backend.mlflow", function()
    local world, client

    local function open(answer, target, options, environ)
        world = fake.world { answers = { answer }, environ = environ }
        client = world.deployments.get_deploy_client(target or "http://localhost:5000", options)
    end

    after_each(function()
        world:close()
    end)

    local function failure(method, ...)
        local ok, err = pcall(client[method], client, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    describe("predict", function()
        it("posts the inputs as JSON and returns the answer", function()
            open { json = { choices = {} } }
            assert.same({ choices = {} }, client:predict { endpoint = "chat", inputs = { messages = {} } })
            local request = world.requests[1]
            assert.equal("POST", request.method)
            assert.equal("http://localhost:5000/endpoints/chat/invocations", request.url)
            assert.equal('{"messages":{}}', request.body)
            assert.equal(120, request.first_byte_timeout)
            assert.equal(600, request.total_timeout)
        end)

        it("sends {} for an empty table, and no body without inputs", function()
            open { body = "1" }
            client:predict { endpoint = "chat", inputs = {} }
            client:predict { endpoint = "chat" }
            assert.equal("{}", world.requests[1].body)
            assert.is_nil(world.requests[2].body)
            assert.is_nil(world.requests[2].headers["Content-Type"])
        end)

        it("returns whatever JSON says", function()
            open { body = '"text"' }
            assert.equal("text", client:predict { endpoint = "chat" })
        end)

        it("needs an endpoint", function()
            open {}
            local err = failure("predict", { deployment_name = "d" })
            assert.equal("usage", err.kind)
            assert.matches('predict needs the argument "endpoint"', err.message)
        end)

        it("obeys the options of the call", function()
            open { body = "1" }
            client:predict { endpoint = "e", options = { timeout = 3, total_timeout = 4, headers = { A = "b" } } }
            local request = world.requests[1]
            assert.same({ 3, 4, "b" }, { request.first_byte_timeout, request.total_timeout, request.headers.A })
        end)

        it("is repeated after 503, and not after a read timeout", function()
            open { status = 503 }
            failure("predict", { endpoint = "e", options = { max_retries = 1 } })
            assert.equal(2, #world.requests)
            world:close()
            open { kind = "timeout", phase = "first byte", request_sent = true }
            failure("predict", { endpoint = "e" })
            assert.equal(1, #world.requests)
        end)
    end)

    describe("names", function()
        local cases = {
            { "a/b", "a%2Fb" }, { "a?x=1", "a%3Fx%3D1" }, { "a#b", "a%23b" }, { "é", "%C3%A9" }, { "a b", "a%20b" },
            { "%2e%2e", "%252e%252e" }, { "../x", "..%2Fx" }, { "a-b_c.d~e", "a-b_c.d~e" },
        }
        for _, case in ipairs(cases) do
            it(("become one segment: %q"):format(case[1]), function()
                open { json = CHAT }
                client:predict { endpoint = case[1] }
                client:get_endpoint(case[1])
                assert.equal("http://localhost:5000/endpoints/" .. case[2] .. "/invocations", world.requests[1].url)
                assert.equal("http://localhost:5000/api/2.0/endpoints/" .. case[2], world.requests[2].url)
            end)
        end

        for _, name in ipairs { "", ".", "..", "a\r\nb", "a\0b", "\127" } do
            it(("are refused: %q"):format(name), function()
                open { json = CHAT }
                assert.equal("usage", failure("predict", { endpoint = name }).kind)
                assert.equal("usage", failure("get_endpoint", name).kind)
                assert.equal(0, #world.requests)
            end)
        end
    end)

    describe("the target", function()
        local cases = {
            { "http://h", "http://h/api/2.0/endpoints/" },
            { "http://h/", "http://h/api/2.0/endpoints/" },
            { "https://h:8443/pfx", "https://h:8443/pfx/api/2.0/endpoints/" },
            { "http://[::1]:5000/a/b/", "http://[::1]:5000/a/b/api/2.0/endpoints/" },
        }
        for _, case in ipairs(cases) do
            it("is what paths are added to: " .. case[1], function()
                open({ body = "{}" }, case[1])
                client:list_endpoints()
                assert.equal(case[2], world.requests[1].url)
            end)
        end
    end)

    describe("list_endpoints", function()
        it("returns all pages, with absolute URLs", function()
            open()
            world.answers = {
                { json = { endpoints = { CHAT }, next_page_token = "t/1" } },
                { json = { endpoints = { { name = "e", endpoint_url = "https://other/x" } } } },
            }
            local endpoints = client:list_endpoints()
            assert.equal(2, #endpoints)
            assert.equal("http://localhost:5000/gateway/chat/invocations", endpoints[1].endpoint_url)
            assert.equal("https://other/x", endpoints[2].endpoint_url)
            assert.equal("http://localhost:5000/api/2.0/endpoints/?page_token=t%2F1", world.requests[2].url)
            assert.equal("GET", world.requests[1].method)
            assert.equal(300, world.requests[1].first_byte_timeout)
        end)

        it("is an empty list on a server without endpoints", function()
            open { body = '{"endpoints": [], "next_page_token": null}' }
            assert.same(0, #client:list_endpoints())
        end)

        it("refuses a list of other things", function()
            open { json = { endpoints = { 5 } } }
            assert.equal("decode", failure("list_endpoints").kind)
        end)
    end)

    describe("get_endpoint", function()
        it("returns the endpoint, with an absolute URL", function()
            open({ json = CHAT }, "http://h/pfx")
            local endpoint = client:get_endpoint "chat"
            assert.equal("http://h/pfx/gateway/chat/invocations", endpoint.endpoint_url)
            assert.equal("gpt-3.5-turbo", endpoint.model.name)
        end)

        it("leaves a URL alone that is none", function()
            open { json = { name = "e", endpoint_url = 5 } }
            assert.equal(5, client:get_endpoint("e").endpoint_url)
            world:close()
            open { json = { name = "e" } }
            assert.is_nil(client:get_endpoint("e").endpoint_url)
        end)

        it("takes its time limit from MLflow's variable", function()
            open({ json = CHAT }, nil, nil, { MLFLOW_DEPLOYMENT_CLIENT_HTTP_REQUEST_TIMEOUT = "11" })
            client:get_endpoint "e"
            assert.equal(11, world.requests[1].idle_timeout)
        end)
    end)

    describe("failures", function()
        it("name the target, the operation and the line in the script", function()
            open { status = 404, json = { detail = "The endpoint 'x' is not present" } }
            local err = failure("get_endpoint", "x")
            assert.equal("http://localhost:5000", err.target)
            assert.equal("get_endpoint", err.operation)
            assert.equal("ENDPOINT_NOT_FOUND", err.error_code)
            assert.matches("mlflow_spec.lua:%d+$", err.where)
            assert.is_nil(err.hint)
        end)

        for _, answer in ipairs {
            { status = 404, json = { detail = "Not Found" } },
            { status = 404, body = "<!doctype html><title>404 Not Found</title>" },
            { status = 405, json = { detail = "Method Not Allowed" }, reason = "Method Not Allowed" },
        } do
            it("hint at another kind of server: " .. (answer.body or answer.json.detail), function()
                open(answer)
                assert.matches("an MLflow tracking server", failure("list_endpoints").hint)
                assert.matches("list_endpoints shows the names .*an MLflow tracking server",
                    failure("predict", { endpoint = "e" }).hint)
            end)
        end

        it("hint at a gateway that is not running", function()
            open { kind = "network", phase = "connect", message = "can not connect to http://h: Connection refused" }
            local err = failure("list_endpoints", { options = { max_retries = 0 } })
            assert.matches("is the gateway running%?  mlflow gateway start", err.hint)
        end)
    end)

    for _, method in ipairs {
        "create_deployment", "update_deployment", "delete_deployment", "list_deployments", "get_deployment",
        "explain", "create_endpoint", "update_endpoint", "delete_endpoint",
    } do
        it("does not offer " .. method .. ", and says what it does", function()
            open {}
            local args = {}
            for _, name in ipairs(client.signatures[method].required) do
                args[name] = "x"
            end
            local err = failure(method, args)
            assert.equal("unsupported", err.kind)
            assert.equal("NOT_IMPLEMENTED", err.error_code)
            assert.equal("http://localhost:5000 offers predict, predict_stream, list_endpoints, get_endpoint", err.hint)
            assert.equal(0, #world.requests)
        end)
    end

    it("works inside a coroutine of the script", function()
        open { json = { answer = 1 } }
        local step = coroutine.wrap(function()
            coroutine.yield(client:predict { endpoint = "e" })
            return client:predict { endpoint = "e" }
        end)
        assert.same({ answer = 1 }, step())
        assert.same({ answer = 1 }, step())
    end)
end)

describe("moonflow.backend.mlflow over the wire", function()
    local deployments = require "moonflow.deployments"
    local notice = require "moonflow.notice"
    local raw = require "support.raw"
    local task = require "moonflow.task"

    local write, lines = notice.write, {}

    before_each(function()
        lines = {}
        notice.write = function(line)
            lines[#lines + 1] = line
        end
    end)

    after_each(function()
        notice.write = write
    end)

    local function failure(client, method, ...)
        local ok, err = pcall(client[method], client, ...)
        assert.is_false(ok)
        return err
    end

    it("sends exactly this", function()
        local server <close> = raw.listen { raw.reply { json = { id = 1 } } }
        local client = deployments.get_deploy_client(server.url, { token = "some-token" })
        assert.same({ id = 1 }, client:predict { endpoint = "a b", inputs = { x = 1 } })
        local request = server:requests()[1]
        assert.equal("POST", request.method)
        assert.equal("/endpoints/a%20b/invocations", request.target)
        assert.equal('{"x":1}', request.body)
        assert.equal("Bearer some-token", request.header "authorization")
        assert.equal("application/json", request.header "content-type")
        assert.matches("^moonflow", request.header "user-agent")
        assert.is_nil(request.header "accept-encoding")
        assert.is_nil(request.header "expect")
    end)

    it("sends a length of 0 and no type without inputs", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        deployments.get_deploy_client(server.url):predict { endpoint = "e" }
        local request = server:requests()[1]
        assert.equal("0", request.header "content-length")
        assert.is_nil(request.header "content-type")
    end)

    it("keeps its connection", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        local client = deployments.get_deploy_client(server.url)
        for _ = 1, 5 do
            client:predict { endpoint = "e" }
        end
        assert.equal(1, #server:connections())
    end)

    it("waits as Retry-After says, and tells", function()
        local server <close> = raw.listen {
            raw.reply { status = 429, headers = { ["Retry-After"] = "0.2" } }, raw.reply { json = { ok = true } },
        }
        assert.same({ ok = true }, deployments.get_deploy_client(server.url):predict { endpoint = "e" })
        assert.same({ ("moonflow: retrying in 0.2 s (429 from %s, Retry-After: 0.2) 1/7"):format(server.url) }, lines)
    end)

    it("reports no answer that was cut as complete", function()
        local whole = raw.reply { json = { text = ("x"):rep(40) }, framing = "close" }
        local server <close> = raw.listen { whole }
        local client = deployments.get_deploy_client(server.url, { max_retries = 0 })
        client:predict { endpoint = "e" }
        for cut = 0, 90, 6 do
            server:script { raw.reply { json = { text = ("x"):rep(40) }, framing = "close", cut = cut } }
            local kind = failure(client, "predict", { endpoint = "e" }).kind
            assert.is_true(kind == "network" or kind == "decode", kind)
        end
    end)

    it("runs calls of several tasks at once", function()
        local server <close> = raw.listen { raw.reply { json = { ok = true }, wait = 0.2 } }
        local client = deployments.get_deploy_client(server.url)
        local started = require("moonflow.sys").monotonic()
        local results = task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
            return client:predict { endpoint = "e" }
        end)
        assert.equal(8, #results)
        assert.is_true(require("moonflow.sys").monotonic() - started < 1)
    end)

    it("ends a call at its deadline", function()
        local server <close> = raw.listen { raw.reply { json = {}, wait = 5 } }
        local err = failure(deployments.get_deploy_client(server.url), "predict",
            { endpoint = "e", options = { total_timeout = 0.2 } })
        assert.equal("timeout", err.kind)
        assert.equal("total", err.phase)
    end)

    it("says that nothing listens", function()
        local err = failure(deployments.get_deploy_client("http://127.0.0.1:" .. raw.closed_port(),
            { max_retries = 0 }),
            "list_endpoints")
        assert.equal("network", err.kind)
        assert.matches("Connection refused", err.message)
        assert.matches("is the gateway running%?", err.hint)
    end)

    it("sends no credential over plain http to another machine", function()
        local client = deployments.get_deploy_client("http://192.0.2.1", { token = "some-token" })
        local err = failure(client, "predict", { endpoint = "e" })
        assert.equal("config", err.kind)
    end)
end)
