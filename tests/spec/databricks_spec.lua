--- The Databricks backend: queries, streams and listings with a personal access token.
local auth = require "moonflow.auth"
local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local raw = require "support.raw"
local task = require "moonflow.task"

local TOKEN = "dapi0123456789abcdef"
local NAMES = { "DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_FILE", "DATABRICKS_CONFIG_PROFILE", "HOME" }

local saved

before_each(function()
    saved = {}
    for _, name in ipairs(NAMES) do
        saved[name] = env[name]
        env[name] = nil
    end
    env.HOME = "/nonexistent"
end)

after_each(function()
    for _, name in ipairs(NAMES) do
        env[name] = saved[name]
    end
end)

local function read_stream(name)
    local file <close> = assert(io.open(("tests/streams/%s.sse"):format(name), "rb"))
    return file:read("a")
end

local function client_of(server, options)
    env.DATABRICKS_HOST, env.DATABRICKS_TOKEN = server.url, TOKEN
    return deployments.get_deploy_client("databricks", options)
end

local function failure(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    return err
end

describe("a Databricks client", function()
    it("queries an endpoint, whose name is one segment", function()
        local server <close> = raw.listen { raw.reply { json = { predictions = { 1, 2 } } } }
        local reply = client_of(server):predict { endpoint = "a b/c", inputs = { dataframe_split = { data = { 1 } } } }
        assert.same({ predictions = { 1, 2 } }, reply)
        local request = server:requests()[1]
        assert.equal("POST", request.method)
        assert.equal("/serving-endpoints/a%20b%2Fc/invocations", request.target)
        assert.equal("Bearer " .. TOKEN, request.header("Authorization"))
        assert.equal("Databricks Deployment Client", request.header("X-Databricks-Endpoints-API-Client"))
        assert.equal('{"dataframe_split":{"data":[1]}}', request.body)
    end)

    for name, wanted in pairs { ["databricks-chat"] = "Delta lake", ["databricks-reasoning"] = "4" } do
        it("streams " .. name, function()
            local server <close> = raw.listen {
                raw.reply { headers = { ["Content-Type"] = "text/event-stream" }, body = read_stream(name) },
            }
            local pieces = {}
            for chunk in client_of(server):predict_stream { endpoint = "llama", inputs = { messages = {} } } do
                pieces[#pieces + 1] = chat.text(chunk)
            end
            assert.equal(wanted, table.concat(pieces))
            local request = server:requests()[1]
            assert.equal("/serving-endpoints/llama/invocations", request.target)
            assert.matches('"stream":true', request.body, 1, true)
        end)
    end

    it("tells of an error inside a stream, with what came before", function()
        local server <close> = raw.listen {
            raw.reply { headers = { ["Content-Type"] = "text/event-stream" }, body = read_stream "databricks-error" },
        }
        local stream = client_of(server):predict_stream { endpoint = "llama", inputs = { messages = {} } }
        local err = failure(chat.collect, stream)
        assert.equal("http", err.kind)
        assert.matches("output tokens per minute", err.message)
        assert.equal("De", chat.text(err.partial))
        assert.equal("predict_stream", err.operation)
    end)

    it("lists and gets endpoints", function()
        local server <close> = raw.listen {
            raw.reply { json = { endpoints = { { name = "a" } } } }, raw.reply { json = {} },
            raw.reply { json = { name = "a", state = { ready = "READY" } } },
        }
        local client = client_of(server)
        assert.same({ { name = "a" } }, client:list_endpoints())
        assert.same({}, client:list_endpoints())
        assert.equal("READY", client:get_endpoint { endpoint = "a" }.state.ready)
        local targets = {}
        for i, request in ipairs(server:requests()) do
            targets[i] = request.target
        end
        assert.same({
            "/api/2.0/serving-endpoints/", "/api/2.0/serving-endpoints/", "/api/2.0/serving-endpoints/a",
        }, targets)
    end)

    it("takes host and token as options, before the environment", function()
        local server <close> = raw.listen { raw.reply { json = { ok = true } } }
        env.DATABRICKS_HOST, env.DATABRICKS_TOKEN = "https://elsewhere.example", "dapi-of-elsewhere"
        local client = deployments.get_deploy_client("databricks", { host = server.url, token = auth.secret(TOKEN) })
        client:predict { endpoint = "e", inputs = {} }
        assert.equal("Bearer " .. TOKEN, server:requests()[1].header("Authorization"))
    end)

    it("reads a profile of the configuration file, and the one that the target names", function()
        local server <close> = raw.listen { raw.reply { json = { ok = true } } }
        local path = os.tmpname()
        do
            local file <close> = assert(io.open(path, "w"))
            file:write("[DEFAULT]\nhost = ", server.url, "\ntoken = dapi-of-default\n",
                "[work]\nhost = ", server.url, "/\ntoken = dapi-of-work\n")
        end
        env.DATABRICKS_CONFIG_FILE = path
        deployments.get_deploy_client("databricks"):get_endpoint { endpoint = "e" }
        deployments.get_deploy_client("databricks://work"):get_endpoint { endpoint = "e" }
        local err = failure(function()
            deployments.get_deploy_client("databricks://play"):get_endpoint { endpoint = "e" }
        end)
        os.remove(path)
        local requests = server:requests()
        assert.equal("Bearer dapi-of-default", requests[1].header("Authorization"))
        assert.equal("Bearer dapi-of-work", requests[2].header("Authorization"))
        assert.equal(2, #requests)
        assert.equal("config", err.kind)
        assert.matches("[play]", err.message, 1, true)
    end)

    it("takes no half of a pair, and no user name, as options", function()
        for _, options in ipairs {
            { host = "https://h.test" }, { token = TOKEN }, { username = "u", password = "some-password" },
            { host = "https://h.test", token = TOKEN, profile = "p", username = "u", password = "x" },
        } do
            assert.equal("usage", failure(deployments.get_deploy_client, "databricks", options).kind)
        end
    end)

    it("takes host and token from one source, and names it where one of them is missing", function()
        local path = os.tmpname()
        do
            local file <close> = assert(io.open(path, "w"))
            file:write("[work]\nhost = http://127.0.0.1:1\n[play]\ntoken = dapi-of-play\n")
        end
        env.DATABRICKS_CONFIG_FILE = path
        local variables = "DATABRICKS_HOST and DATABRICKS_TOKEN"
        --- environment, target, what is missing, where
        local cases = {
            { { DATABRICKS_HOST = "http://127.0.0.1:1" }, "databricks", "token", variables },
            { { DATABRICKS_TOKEN = TOKEN }, "databricks", "host", variables },
            { { DATABRICKS_TOKEN = TOKEN }, "databricks://work", "token", "profile work of " .. path },
            { { DATABRICKS_HOST = "http://127.0.0.1:1" }, "databricks://play", "host", "profile play of " .. path },
            { { DATABRICKS_CONFIG_PROFILE = "work" }, "databricks", "token", "profile work of " .. path },
        }
        for _, case in ipairs(cases) do
            for name, value in pairs(case[1]) do
                env[name] = value
            end
            local err = failure(function()
                deployments.get_deploy_client(case[2], { max_retries = 0 }):list_endpoints()
            end)
            assert.equal("auth", err.kind)
            assert.matches(("no Databricks %s found in %s"):format(case[3], case[4]), err.message, 1, true)
            assert.equal("set both in " .. case[4], err.hint)
            for name in pairs(case[1]) do
                env[name] = nil
            end
        end
        os.remove(path)
    end)

    it("sends no token to another workspace than the one that it came with", function()
        local page = { endpoints = { { name = "a" } }, next_page_token = "t" }
        local server <close> = raw.listen { raw.reply { json = page, wait = 0.3 } }
        local other <close> = raw.listen { raw.reply { json = {} } }
        local client = client_of(server)
        local err = failure(client.send, client, { method = "GET", url = other.url .. "/x" })
        assert.equal("config", err.kind)
        assert.same({}, other:requests())

        local listing = task.spawn(failure, client.list_endpoints, client)
        task.sleep(0.1)
        env.DATABRICKS_HOST, env.DATABRICKS_TOKEN = other.url, "dapi-of-the-other"
        err = listing:wait()
        assert.equal("config", err.kind)
        assert.matches("is not sent to " .. server.url, err.message, 1, true)
        assert.equal(1, #server:requests())
        assert.equal("Bearer " .. TOKEN, server:requests()[1].header "Authorization")
        assert.same({}, other:requests())
    end)

    it("reads a host in no more time than its length", function()
        env.DATABRICKS_HOST, env.DATABRICKS_TOKEN = "https://h" .. (" "):rep(100000) .. "x", TOKEN
        local started = os.clock()
        local client = deployments.get_deploy_client "databricks"
        assert.equal("config", failure(client.list_endpoints, client).kind)
        assert.is_true(os.clock() - started < 2)
    end)

    it("takes port 443 of http for no default", function()
        local place = require("moonflow.settings").place
        for host, base in pairs {
            ["h.test"] = "https://h.test", ["https://h.test:443/"] = "https://h.test",
            ["http://h.test:443"] = "http://h.test:443", ["https://h.test:8443"] = "https://h.test:8443",
        } do
            assert.equal(base, place(deployments.get_deploy_client("databricks", { host = host, token = TOKEN })).base)
        end
    end)

    it("says what it looked at where there is no credential", function()
        local err = failure(function()
            deployments.get_deploy_client("databricks"):list_endpoints()
        end)
        assert.equal("auth", err.kind)
        for _, name in ipairs { "DATABRICKS_HOST", "DATABRICKS_TOKEN", "/nonexistent/.databrickscfg" } do
            assert.matches(name, err.message, 1, true)
        end
    end)

    it("refuses targets that name no profile", function()
        for _, uri in ipairs { "databricks:/x", "databricks:x", "databricks://a:b", "databricks://a/b" } do
            assert.equal("config", failure(deployments.get_deploy_client, uri).kind)
        end
    end)
end)
