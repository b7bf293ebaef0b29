-- The client and the scripts against a real MLflow AI Gateway (`mlflow gateway start`).
local deployments = require "moonflow.deployments"
local process = require "support.process"
local skip = require "support.skip"
local task = require "moonflow.task"

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."

local function gateway()
    return skip.unless_env "MOONFLOW_TEST_GATEWAY"
end

local function chat(text)
    return { messages = { { role = "user", content = text } } }
end

--- Calls a method that must fail, and returns its error.
local function failure(client, method, args)
    local ok, err = pcall(client[method], client, args)
    assert.is_false(ok)
    return err
end

describe("a real gateway", function()
    it("lists its endpoints, each with the four fields", function()
        local url = gateway()
        local endpoints = deployments.get_deploy_client(url):list_endpoints()
        local by_name = {}
        for _, endpoint in ipairs(endpoints) do
            by_name[endpoint.name] = endpoint
        end
        assert.equal("llm/v1/chat", by_name.chat.endpoint_type)
        assert.equal("gpt-3.5-turbo", by_name.chat.model.name)
        assert.equal("openai", by_name.chat.model.provider)
        assert.equal(url .. "/gateway/chat/invocations", by_name.chat.endpoint_url)
        assert.equal("minute", by_name.limited.limit.renewal_period)
    end)

    it("gets one endpoint, and says that another is not there", function()
        local client = deployments.get_deploy_client(gateway())
        assert.equal("embeddings", client:get_endpoint { endpoint = "embeddings" }.name)
        local err = failure(client, "get_endpoint", { endpoint = "no-such" })
        assert.equal("http", err.kind)
        assert.equal("ENDPOINT_NOT_FOUND", err.error_code)
        assert.equal(404, err.http_status)
        assert.matches("The endpoint 'no%-such' is not present or active", err.message)
    end)

    it("lists all of 3,002 endpoints, which are two pages", function()
        local url = skip.unless_env "MOONFLOW_TEST_GATEWAY_PAGES"
        local endpoints = deployments.get_deploy_client(url):list_endpoints()
        local seen = {}
        for _, endpoint in ipairs(endpoints) do
            seen[endpoint.name] = true
        end
        local count = 0
        for _ in pairs(seen) do
            count = count + 1
        end
        assert.equal(3002, count)
        assert.equal(3002, #endpoints)
    end)

    it("answers a chat, a completion and an embedding", function()
        local client = deployments.get_deploy_client(gateway())
        local reply = client:predict { endpoint = "chat", inputs = chat "Is the moon far?" }
        assert.truthy(reply.choices[1].message.content:find("Is the moon far?", 1, true))
        assert.equal("integer", math.type(reply.usage.total_tokens))
        local completion = client:predict { endpoint = "completions", inputs = { prompt = "Once" } }
        assert.equal("string", type(completion.choices[1].text))
        local vectors = client:predict { endpoint = "embeddings", inputs = { input = { "a", "b" } } }
        assert.equal(2, #vectors.data)
        assert.equal("float", math.type(vectors.data[1].embedding[1]))
    end)

    it("answers sixteen chats at once, each its own", function()
        local client = deployments.get_deploy_client(gateway())
        local names = {}
        for i = 1, 16 do
            names[i] = "question number " .. i .. "."
        end
        local answers = task.map(names, function(name)
            return client:predict { endpoint = "chat", inputs = chat(name) }.choices[1].message.content
        end)
        for i, name in ipairs(names) do
            assert.truthy(answers[i]:find(name, 1, true))
        end
    end)

    it("refuses inputs that are not a chat's, with what is wrong", function()
        local client = deployments.get_deploy_client(gateway())
        local err = failure(client, "predict", { endpoint = "chat", inputs = { nonsense = 1 } })
        assert.equal(422, err.http_status)
        assert.matches("messages", err.message)
        assert.equal("table", type(err.body))
    end)

    it("passes a provider's refusal on", function()
        local client = deployments.get_deploy_client(gateway())
        local err = failure(client, "predict", { endpoint = "refused", inputs = chat "hello" })
        assert.equal(401, err.http_status)
        assert.equal("UNAUTHENTICATED", err.error_code)
    end)

    it("keeps its rate limit, and the error says so", function()
        local client = deployments.get_deploy_client(gateway(), { max_retries = 0 })
        local err
        for _ = 1, 3 do
            local ok, result = pcall(client.predict, client, { endpoint = "limited", inputs = chat "hello" })
            err = not ok and result or err
        end
        assert.equal(429, err.http_status)
        assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        assert.is_true(err.retryable)
    end)

    it("answers through another model server, aimock", function()
        local client = deployments.get_deploy_client(gateway())
        skip.unless_env "MOONFLOW_TEST_AIMOCK"
        local reply = client:predict { endpoint = "aimock-chat", inputs = chat "hello" }
        assert.equal("Hello from the mock model.", reply.choices[1].message.content)
    end)
end)

describe("scripts", function()
    it("quickstart.lua tours a gateway", function()
        local result = process.run { args = { root .. "/scripts/quickstart.lua", gateway() } }
        assert.equal("", result.stderr)
        assert.equal(0, result.code)
        assert.matches("embeddings +llm/v1/embeddings +text%-embedding%-3%-small", result.stdout)
        assert.matches("Say hello to the moon", result.stdout)
        assert.matches("8 answers in", result.stdout)
        assert.matches("kind http, code ENDPOINT_NOT_FOUND, status 404", result.stdout)
    end)

    it("list_endpoints.lua is MLflow's documentation example", function()
        local url = skip.unless_env "MOONFLOW_TEST_GATEWAY_CHAT"
        local result = process.run { args = { root .. "/scripts/list_endpoints.lua", url } }
        assert.equal("", result.stderr)
        assert.equal(0, result.code)
        assert.equal(("chat  llm/v1/chat  gpt-3.5-turbo  %s/gateway/chat/invocations\n"):format(url), result.stdout)
    end)

    it("list_endpoints.lua fails on another gateway", function()
        local result = process.run { args = { root .. "/scripts/list_endpoints.lua", gateway() } }
        assert.equal(1, result.code)
        assert.matches("list_endpoints.lua:%d+: one endpoint was expected", result.stderr)
    end)

    it("get_client.lua makes clients without a network", function()
        local result = process.run { args = { root .. "/scripts/get_client.lua" } }
        assert.equal("", result.stderr)
        assert.equal(0, result.code)
        assert.matches('MlflowDeploymentClient%("http://localhost:5000"%)', result.stdout)
    end)
end)
