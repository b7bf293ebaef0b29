--- Azure OpenAI: its forms of URLs, its credentials, and Entra ID from the token to the renewal.
local auth = require "moonflow.auth"
local json = require "moonflow.json"
local openai = require "support.openai"

local CHAT, KEY = openai.CHAT, openai.KEY
local VERSION = "2024-10-21"
local RESOURCE = "https://r.openai.azure.com"
local QUERY = "?api-version=" .. VERSION

describe("the URL of Azure", function()
    local world, client

    after_each(function()
        world:close()
    end)

    local function open(environ, target, options, answer)
        world, client = openai.open(answer or { json = { id = "m", data = {} } }, target, options, environ)
    end

    local function failure(method, args)
        local ok, err = pcall(client[method], client, args)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    --- The environment of an Azure resource, with these variables changed; false removes one.
    local function resource(changes)
        local environ = {
            OPENAI_API_TYPE = "azure", OPENAI_API_KEY = KEY, OPENAI_API_BASE = RESOURCE, OPENAI_API_VERSION = VERSION,
        }
        for name, value in pairs(changes or {}) do
            environ[name] = value or nil
        end
        return environ
    end

    local ENDPOINT_ALONE = { AZURE_OPENAI_ENDPOINT = RESOURCE, AZURE_OPENAI_API_KEY = KEY }
    local V1 = { OPENAI_API_KEY = KEY }

    local DEPLOYED = "/openai/deployments/m/chat/completions" .. QUERY
    local V1_CHAT = "/openai/v1/chat/completions"

    --- what, environment, URL, target, options, model in the body (default "m")
    local CASES = {
        { "a deployment for each model", resource(), RESOURCE .. DEPLOYED },
        { "a deployment by its variable", resource { OPENAI_DEPLOYMENT_NAME = "d" },
            RESOURCE .. "/openai/deployments/d/chat/completions" .. QUERY },
        { "a deployment by its option", resource { OPENAI_DEPLOYMENT_NAME = "d" },
            RESOURCE .. "/openai/deployments/o/chat/completions" .. QUERY, nil, { deployment = "o" } },
        { "a deployment whose name needs encoding", resource { OPENAI_DEPLOYMENT_NAME = "my d/é?" },
            RESOURCE .. "/openai/deployments/my%20d%2F%C3%A9%3F/chat/completions" .. QUERY },
        { "the version by its option", resource { OPENAI_API_VERSION = "other" },
            RESOURCE .. DEPLOYED, nil, { api_version = VERSION } },
        { "a base with a path", resource { OPENAI_API_BASE = "https://gw.test/azure/" },
            "https://gw.test/azure" .. DEPLOYED },
        { "a base that ends in /openai", resource { OPENAI_API_BASE = RESOURCE .. "/openai/" }, RESOURCE .. DEPLOYED },
        { "a base that ends in /deployments", resource { OPENAI_API_BASE = RESOURCE .. "/openai/deployments" },
            RESOURCE .. DEPLOYED },
        { "a base that names the deployment", resource { OPENAI_API_BASE = RESOURCE .. "/openai/deployments/own" },
            RESOURCE .. "/openai/deployments/own/chat/completions" .. QUERY },
        { "a base that names the deployment, and a variable",
            resource { OPENAI_API_BASE = RESOURCE .. "/openai/deployments/own", OPENAI_DEPLOYMENT_NAME = "d" },
            RESOURCE .. "/openai/deployments/own/chat/completions" .. QUERY },
        { "a host with \"deployments\" in its name", resource { OPENAI_API_BASE = "https://deployments.test" },
            "https://deployments.test" .. DEPLOYED },
        { "a path with \"deployments\" in a name", resource { OPENAI_API_BASE = "https://h.test/deployments-of-us" },
            "https://h.test/deployments-of-us" .. DEPLOYED },
        { "API Management as target", resource { OPENAI_API_TYPE = false },
            "https://example.azure-api.net/PTU/deployments/m/chat/completions" .. QUERY,
            "openai:https://example.azure-api.net/PTU/", { api_type = "azure" } },
        { "API Management as base URL",
            resource { OPENAI_API_BASE = false, OPENAI_BASE_URL = "https://example.azure-api.net/PTU/" },
            "https://example.azure-api.net/PTU/deployments/m/chat/completions" .. QUERY },
        { "a resource as target", V1, RESOURCE .. DEPLOYED, "openai:" .. RESOURCE, { api_version = VERSION } },
        { "a resource as target, without a version", V1, RESOURCE .. V1_CHAT, "openai:" .. RESOURCE },
        { "the v1 API as target", V1, RESOURCE .. V1_CHAT, "openai:" .. RESOURCE .. "/openai/v1/" },
        { "the v1 API, which needs no version", resource { OPENAI_API_BASE = RESOURCE .. "/openai/v1" },
            RESOURCE .. V1_CHAT },
        { "the v1 API's preview", V1, RESOURCE .. V1_CHAT .. "?api-version=preview",
            "openai:" .. RESOURCE .. "/openai/v1", { api_version = "preview" } },
        { "the v1 API with a deployment", V1, RESOURCE .. V1_CHAT, "openai:" .. RESOURCE, { deployment = "d" }, "d" },
        { "the v1 API of a project", V1, "https://r.services.ai.azure.com" .. V1_CHAT,
            "openai:https://r.services.ai.azure.com" },
        { "a project with a version", V1, "https://r.services.ai.azure.com" .. DEPLOYED,
            "openai:https://r.services.ai.azure.com", { api_version = VERSION } },
        { "a resource of Cognitive Services", V1, "https://R.CognitiveServices.azure.com" .. V1_CHAT,
            "openai:https://R.CognitiveServices.azure.com" },
        { "a resource as target, whatever OPENAI_API_TYPE says", { OPENAI_API_KEY = KEY, OPENAI_API_TYPE = "openai" },
            RESOURCE .. V1_CHAT, "openai:" .. RESOURCE },
        { "a resource of the US government", V1, "https://r.openai.azure.us" .. V1_CHAT,
            "openai:https://r.openai.azure.us" },
        { "a resource in China", V1, "https://r.openai.azure.cn" .. V1_CHAT, "openai:https://r.openai.azure.cn" },
        { "AZURE_OPENAI_ENDPOINT alone", ENDPOINT_ALONE, RESOURCE .. V1_CHAT },
        { "AZURE_OPENAI_ENDPOINT with a version",
            { AZURE_OPENAI_ENDPOINT = RESOURCE .. "/", AZURE_OPENAI_API_KEY = KEY, OPENAI_API_VERSION = VERSION },
            RESOURCE .. DEPLOYED },
        { "AZURE_OPENAI_ENDPOINT with OPENAI_API_KEY and the type",
            resource { OPENAI_API_BASE = false, AZURE_OPENAI_ENDPOINT = RESOURCE }, RESOURCE .. DEPLOYED },
        { "OPENAI_API_BASE before AZURE_OPENAI_ENDPOINT", resource { AZURE_OPENAI_ENDPOINT = "https://other.test" },
            RESOURCE .. DEPLOYED },
        { "AZURE_OPENAI_ENDPOINT before OPENAI_BASE_URL", resource {
            OPENAI_API_BASE = false, OPENAI_BASE_URL = "https://other.test/v1", AZURE_OPENAI_ENDPOINT = RESOURCE,
        }, RESOURCE .. DEPLOYED },
        { "the type in other letters", resource { OPENAI_API_TYPE = "Azure" }, RESOURCE .. DEPLOYED },
        { "the type as option", resource { OPENAI_API_TYPE = "openai" }, RESOURCE .. DEPLOYED, nil,
            { api_type = "AZURE" } },
    }
    for _, case in ipairs(CASES) do
        it("has " .. case[1], function()
            open(case[2], case[4], case[5])
            client:predict { endpoint = "m", inputs = CHAT }
            local request = world.requests[1]
            assert.equal(case[3], request.url)
            assert.equal(case[6] or "m", json.decode(request.body).model)
            assert.is_true(auth.is_secret(request.headers["api-key"]))
            assert.is_nil(request.headers.Authorization)
        end)
    end

    --- environment, target, options, URL: not Azure after all
    local OTHERS = {
        { { OPENAI_API_KEY = KEY, AZURE_OPENAI_ENDPOINT = RESOURCE }, "openai", nil, "https://api.openai.com/v1" },
        { { OPENAI_API_KEY = KEY, AZURE_OPENAI_ENDPOINT = RESOURCE, OPENAI_API_TYPE = "openai" }, "openai", nil,
            "https://api.openai.com/v1" },
        { { OPENAI_API_KEY = KEY }, "openai:" .. RESOURCE .. "/openai/v1", { api_type = "openai" },
            RESOURCE .. "/openai/v1" },
        { { OPENAI_API_KEY = KEY }, "openai:https://r.openai.azure.com.test", nil, "https://r.openai.azure.com.test" },
        { { OPENAI_API_KEY = KEY }, "openai:https://r.openai.azure.us.test", nil, "https://r.openai.azure.us.test" },
        { { OPENAI_API_KEY = KEY }, "openai:https://r.notazure.us", nil, "https://r.notazure.us" },
        { { OPENAI_API_KEY = KEY, OPENAI_API_TYPE = "azure" }, "openai:https://h.test/v1", nil, "https://h.test/v1" },
        { { OPENAI_API_KEY = KEY, OPENAI_API_TYPE = "aws" }, "openai:https://h.test/v1", nil, "https://h.test/v1" },
    }
    for i, case in ipairs(OTHERS) do
        it("is one of OpenAI's form where nothing says Azure: " .. i, function()
            open(case[1], case[2], case[3])
            client:predict { endpoint = "m", inputs = CHAT }
            assert.equal(case[4] .. "/chat/completions", world.requests[1].url)
            assert.is_true(auth.is_secret(world.requests[1].headers.Authorization))
            assert.is_nil(world.requests[1].headers["api-key"])
        end)
    end

    it("is said to be unused, once, where a key of OpenAI's speaks against it", function()
        local notice = "moonflow: warning: AZURE_OPENAI_ENDPOINT is not used, because OPENAI_API_KEY is set: "
            .. "requests go to OpenAI; OPENAI_API_TYPE=azure sends them to Azure"
        --- environment, target, lines
        local cases = {
            { {}, nil, { notice } },
            { { OPENAI_API_TYPE = "openai" }, nil, {} },
            { { OPENAI_API_TYPE = "azure" }, nil, {} },
            { { OPENAI_BASE_URL = "https://h.test/v1" }, nil, {} },
            { {}, "openai:https://h.test/v1", {} },
        }
        for _, case in ipairs(cases) do
            case[1].OPENAI_API_KEY, case[1].AZURE_OPENAI_ENDPOINT = KEY, RESOURCE
            open(case[1], case[2])
            client:predict { endpoint = "m", inputs = CHAT }
            world.env.SOMETHING_ELSE = "x"
            client:predict { endpoint = "m", inputs = CHAT }
            assert.same(case[3], world.lines)
            world:close()
        end
        open(resource())
    end)

    it("needs no endpoint where the deployment is named", function()
        local url = RESOURCE .. "/openai/deployments/d/chat/completions" .. QUERY
        --- environment, options, URL
        local cases = {
            { resource { OPENAI_DEPLOYMENT_NAME = "d" }, nil, url },
            { resource(), { deployment = "d" }, url },
            { resource { OPENAI_API_VERSION = false, OPENAI_DEPLOYMENT_NAME = "d" }, nil, RESOURCE .. V1_CHAT },
        }
        for _, case in ipairs(cases) do
            open(case[1], nil, case[2])
            client:predict { inputs = CHAT }
            assert.equal(case[3], world.requests[1].url)
            assert.equal("d", json.decode(world.requests[1].body).model)
            world:close()
        end
        open(resource())
        assert.equal("usage", failure("predict", { inputs = CHAT }).kind)
    end)

    for _, version in ipairs { "a&b c", "2024 10", "a/b", ("1"):rep(65), "a\nb" } do
        it(("has no version %q"):format(version), function()
            --- environment, options, what the message names
            local cases = {
                { resource { OPENAI_API_VERSION = version }, nil, "OPENAI_API_VERSION" },
                { resource(), { api_version = version }, "the option api_version" },
            }
            for _, case in ipairs(cases) do
                open(case[1], nil, case[2])
                local err = failure("predict", { endpoint = "m", inputs = CHAT })
                assert.equal("config", err.kind)
                assert.matches(case[3] .. " is no version of Azure's API", err.message, 1, true)
                assert.equal(0, #world.requests)
                world:close()
            end
            open(resource { OPENAI_API_VERSION = ("1"):rep(64) })
            client:predict { endpoint = "m", inputs = CHAT }
        end)
    end

    it("has only some routes below a deployment", function()
        local routes = {
            { { prompt = "x" }, "/openai/deployments/m/completions" },
            { { input = "x" }, "/openai/deployments/m/embeddings" },
            { { input = "x", instructions = "i" }, "/openai/responses" },
        }
        for _, route in ipairs(routes) do
            open(resource())
            client:predict { endpoint = "m", inputs = route[1] }
            assert.equal(RESOURCE .. route[2] .. QUERY, world.requests[1].url)
            world:close()
        end
        for _, environ in ipairs {
            { OPENAI_DEPLOYMENT_NAME = "d" }, { OPENAI_API_BASE = RESOURCE .. "/openai/deployments/own" },
        } do
            open(resource(environ))
            client:predict { endpoint = "m", inputs = { input = "x", instructions = "i" } }
            assert.equal(RESOURCE .. "/openai/responses" .. QUERY, world.requests[1].url)
            assert.equal(environ.OPENAI_DEPLOYMENT_NAME or "m", json.decode(world.requests[1].body).model)
            world:close()
        end
        open(resource())
    end)

    it("of a model among the inputs is that of its deployment", function()
        open(resource())
        client:predict { inputs = { messages = CHAT.messages, model = "other" } }
        assert.equal(RESOURCE .. "/openai/deployments/other/chat/completions" .. QUERY, world.requests[1].url)
    end)

    it("lists models in both forms", function()
        --- environment, target, what stands before and behind /models
        local cases = {
            { resource(), nil, RESOURCE .. "/openai", QUERY },
            { resource { OPENAI_DEPLOYMENT_NAME = "d" }, nil, RESOURCE .. "/openai", QUERY },
            { resource { OPENAI_API_BASE = RESOURCE .. "/openai/deployments/own" }, nil, RESOURCE .. "/openai", QUERY },
            { V1, "openai:" .. RESOURCE, RESOURCE .. "/openai/v1", "" },
        }
        for _, case in ipairs(cases) do
            open(case[1], case[2])
            client:list_endpoints()
            assert.equal("m", client:get_endpoint("a b").name)
            assert.equal(case[3] .. "/models" .. case[4], world.requests[1].url)
            assert.equal(case[3] .. "/models/a%20b" .. case[4], world.requests[2].url)
            assert.is_true(auth.is_secret(world.requests[1].headers["api-key"]))
            world:close()
        end
        open(resource())
    end)

    for _, name in ipairs { ".", "..", "a\nb" } do
        it(("has no deployment %q"):format(name), function()
            open(resource())
            assert.equal("usage", failure("predict", { endpoint = name, inputs = CHAT }).kind)
            world:close()
            open(resource { OPENAI_DEPLOYMENT_NAME = name })
            assert.equal("config", failure("predict", { endpoint = "m", inputs = CHAT }).kind)
            assert.equal(0, #world.requests)
        end)
    end

    --- what, environment, words of the message and of the hint
    local MISSING = {
        { "a version, where the base has a path",
            resource { OPENAI_API_VERSION = false, OPENAI_API_BASE = RESOURCE .. "/openai" },
            "no api-version for Azure at OPENAI_API_BASE", "OPENAI_API_VERSION" },
        { "a version, where it is empty",
            resource { OPENAI_API_VERSION = "", OPENAI_API_BASE = "https://gw.test/azure" },
            "no api-version for Azure at OPENAI_API_BASE", "/openai/v1" },
        { "an endpoint", resource { OPENAI_API_BASE = false }, "no endpoint of Azure", "AZURE_OPENAI_ENDPOINT" },
        { "a type that there is", resource { OPENAI_API_TYPE = "aws" },
            "OPENAI_API_TYPE must be openai, azure or azure_ad, got \"aws\"", "unset it" },
        { "a base without a query", resource { OPENAI_API_BASE = RESOURCE .. "/openai" .. QUERY }, "it has a query",
            "OPENAI_API_VERSION" },
        { "an endpoint that is a URL", { AZURE_OPENAI_ENDPOINT = "r.openai.azure.com" },
            "AZURE_OPENAI_ENDPOINT is no base URL", "https://" },
    }
    for _, case in ipairs(MISSING) do
        it("needs " .. case[1], function()
            open(case[2])
            local err = failure("predict", { endpoint = "m", inputs = CHAT })
            assert.equal("config", err.kind)
            assert.equal(2, world.error.exit_code(err))
            assert.matches(case[3], err.message, 1, true)
            assert.matches(case[4], err.hint, 1, true)
            assert.equal("config", failure("list_endpoints", {}).kind)
            assert.equal(0, #world.requests)
        end)
    end
end)

describe("Azure's credentials", function()
    local deployments = require "moonflow.deployments"
    local env = require "moonflow.env"
    local error_object = require "moonflow.error"
    local probe = require "support.probe"
    local raw = require "support.raw"
    local task = require "moonflow.task"

    local lines, variables

    before_each(function()
        lines, variables = probe.listen(), openai.hide_environment()
    end)

    after_each(function()
        lines:close()
        variables:close()
    end)

    local function connect(server, options)
        env.OPENAI_API_BASE, env.OPENAI_API_VERSION = server.url, VERSION
        env.OPENAI_API_TYPE = env.OPENAI_API_TYPE or "azure"
        return deployments.get_deploy_client("openai", options)
    end

    local function ask(client)
        return client:predict { endpoint = "m", inputs = CHAT }
    end

    --- The headers that show who asks, in each request.
    local function shown(server)
        local list = {}
        for i, request in ipairs(server:requests()) do
            list[i] = request.header "api-key" or request.header "Authorization" or "none"
            assert(not (request.header "api-key" and request.header "Authorization"))
        end
        return list
    end

    local ALL = {
        AZURE_OPENAI_AD_TOKEN = "token-of-entra", AZURE_OPENAI_API_KEY = "key-of-azure",
        OPENAI_API_KEY = "key-of-openai",
    }
    --- what, environment, options, the header's value
    local CASES = {
        { "the option api_key", ALL, { api_key = "key-of-options" }, "key-of-options" },
        { "the option token", ALL, { token = "token-of-options" }, "Bearer token-of-options" },
        { "AZURE_OPENAI_AD_TOKEN", ALL, nil, "Bearer token-of-entra" },
        { "AZURE_OPENAI_API_KEY", { AZURE_OPENAI_API_KEY = " key-of-azure ", OPENAI_API_KEY = "other" }, nil,
            "key-of-azure" },
        { "OPENAI_API_KEY", { AZURE_OPENAI_AD_TOKEN = "", OPENAI_API_KEY = "key-of-openai" }, nil, "key-of-openai" },
        { "the token, with type azure_ad", { OPENAI_API_TYPE = "azure_ad", AZURE_OPENAI_AD_TOKEN = "token-of-entra" },
            nil, "Bearer token-of-entra" },
        { "the option token, with type azuread", { OPENAI_API_TYPE = "azuread", OPENAI_API_KEY = "x" },
            { token = "token-of-options" }, "Bearer token-of-options" },
        { "nothing on this machine", {}, nil, "none" },
    }
    for _, case in ipairs(CASES) do
        it("are " .. case[1], function()
            local server <close> = raw.listen { raw.reply { json = { choices = {} } } }
            for name, value in pairs(case[2]) do
                env[name] = value
            end
            env.OPENAI_ORG_ID = "org-1"
            ask(connect(server, case[3]))
            assert.same({ case[4] }, shown(server))
            assert.is_nil(server:requests()[1].header "OpenAI-Organization")
        end)
    end

    it("are told where there was none", function()
        local server <close> = raw.listen { raw.reply { status = 401 } }
        local err = probe.failure(ask, connect(server))
        assert.equal("no credential was sent; looked at AZURE_OPENAI_AD_TOKEN, AZURE_OPENAI_API_KEY and OPENAI_API_KEY",
            err.hint)
    end)

    it("are read in no more time than their length", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        env.AZURE_OPENAI_API_KEY = "k" .. (" "):rep(100000) .. "\n."
        local started = os.clock()
        assert.equal("auth", probe.failure(ask, connect(server)).kind)
        env.OPENAI_API_BASE = server.url .. ("/"):rep(60000) .. "x?"
        local client = deployments.get_deploy_client "openai"
        assert.equal("config", probe.failure(ask, client).kind)
        env.OPENAI_API_BASE = server.url .. ("/"):rep(60000) .. "x"
        assert.equal("auth", probe.failure(ask, client).kind)
        assert.is_true(os.clock() - started < 2)
    end)

    it("can not hold a line end, and are not shown", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        for _, name in ipairs { "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN" } do
            env[name] = "hunter2\r\nX-Other: 1"
            local err = probe.failure(ask, connect(server))
            assert.is_nil(tostring(err):find("hunter2", 1, true))
            assert.matches("it came from " .. name, err.message)
            assert.equal(4, error_object.exit_code(err))
            env[name] = nil
        end
        assert.same({}, server:requests())
    end)

    describe("from Entra ID", function()
        local count = 0

        --- An authority that gives entra-token-1, entra-token-2, ... and the variables to ask it.
        local function authority(options)
            options = options or {}
            local replies = {}
            for i = 1, 4 do
                replies[i] = raw.reply {
                    wait = options.wait,
                    json = { access_token = "entra-token-" .. i, expires_in = options.expires_in or 3599 },
                }
            end
            local server = raw.listen(options.replies or replies)
            count = count + 1 -- tokens are kept by tenant: each test has its own
            env.AZURE_TENANT_ID, env.AZURE_CLIENT_ID = "tenant-" .. count, "client-1"
            env.AZURE_CLIENT_SECRET, env.AZURE_AUTHORITY_HOST = "the-client-secret", server.url
            env.OPENAI_API_TYPE = "azure_ad"
            return server
        end

        it("are a token by the application's secret, asked for once", function()
            local server <close> = raw.listen { raw.reply { json = { choices = {} } } }
            local giver <close> = authority()
            env.OPENAI_API_KEY, env.AZURE_OPENAI_API_KEY = "not-used", "not-used"
            local client = connect(server)
            for _ = 1, 3 do
                assert.same({ choices = {} }, ask(client))
            end
            assert.same({ "Bearer entra-token-1", "Bearer entra-token-1", "Bearer entra-token-1" }, shown(server))
            local requests = giver:requests()
            assert.equal(1, #requests)
            assert.equal(("/tenant-%d/oauth2/v2.0/token"):format(count), requests[1].target)
            assert.matches("scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default", requests[1].body, 1, true)
        end)

        it("are a token for the cloud that the host is in", function()
            local asked = {}
            local _ <close> = setmetatable({}, {
                __close = function()
                    package.loaded["moonflow.entra"] = nil
                end,
            })
            package.loaded["moonflow.entra"] = {
                token = function(name, seconds)
                    asked[#asked + 1] = { name, seconds and seconds > 0 and seconds <= 7 }
                    return auth.secret "entra-token", "somewhere", "key"
                end,
            }
            local settings = require "moonflow.settings"
            for _, domain in ipairs { "com", "us", "cn" } do
                local client = deployments.get_deploy_client("openai:https://r.openai.azure." .. domain,
                    { api_type = "azure_ad", total_timeout = 7 })
                local credential = client._credential(client, "https://r.openai.azure." .. domain .. ":443", 7)
                assert.is_false(credential.is_current(5))
                assert.equal("https://r.openai.azure." .. domain .. ":443", settings.place(client).origin)
            end
            local wanted = {}
            for i, domain in ipairs { "com", "us", "cn" } do
                wanted[2 * i - 1] = { "https://cognitiveservices.azure." .. domain, true }
                wanted[2 * i] = wanted[2 * i - 1]
            end
            assert.same(wanted, asked)
        end)

        it("are waited for no longer than the call may take", function()
            local server <close> = raw.listen { raw.reply { json = {} } }
            local giver <close> = authority { wait = 5 }
            local client = connect(server, { total_timeout = 0.3 })
            local seconds, err = probe.timed(probe.failure, ask, client)
            assert.is_true(seconds < 2, seconds)
            assert.equal("timeout", err.kind)
            assert.equal(9, error_object.exit_code(err))
            assert.matches("the Entra ID token for https://cognitiveservices.azure.com", err.message, 1, true)
            assert.equal(1, #giver:requests())
            assert.same({}, server:requests())
        end)

        it("are one token for twenty calls at once", function()
            local server <close> = raw.listen { raw.reply { json = {} } }
            local giver <close> = authority { wait = 0.1 }
            local client, calls = connect(server), {}
            for i = 1, 20 do
                calls[i] = i
            end
            task.map(calls, function()
                ask(client)
            end)
            assert.equal(1, #giver:requests())
            assert.equal(20, #server:requests())
        end)

        it("are renewed once where Azure refuses the token", function()
            local server <close> = raw.listen { raw.reply { status = 401 }, raw.reply { json = { choices = {} } } }
            local giver <close> = authority()
            local client = connect(server)
            assert.same({ choices = {} }, ask(client))
            assert.same({ "Bearer entra-token-1", "Bearer entra-token-2" }, shown(server))
            assert.equal(2, #giver:requests())
            ask(client)
            assert.equal("Bearer entra-token-2", shown(server)[3])
        end)

        it("are renewed once only, and the error says where they came from", function()
            local server <close> = raw.listen { raw.reply { status = 401, body = "not entra-token-2" } }
            local giver <close> = authority()
            local err = probe.failure(ask, connect(server))
            assert.equal(401, err.http_status)
            assert.equal(4, error_object.exit_code(err))
            assert.equal("the credential came from Entra ID, with AZURE_CLIENT_SECRET", err.hint)
            assert.is_nil(tostring(err):find("entra-token", 1, true))
            assert.same({ "Bearer entra-token-1", "Bearer entra-token-2" }, shown(server))
            assert.equal(2, #giver:requests())
        end)

        it("are renewed once for many calls whose token is refused", function()
            local replies = {}
            for i = 1, 8 do
                replies[i] = raw.reply { status = 401, wait = 0.2 }
            end
            replies[9] = raw.reply { json = {} }
            local server <close> = raw.listen(replies)
            local giver <close> = authority()
            local client = connect(server)
            task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
                ask(client)
            end)
            assert.equal(2, #giver:requests())
            assert.equal(16, #server:requests())
        end)

        it("are renewed for streams too", function()
            local server <close> = raw.listen {
                raw.reply { status = 401 },
                raw.reply {
                    headers = { ["Content-Type"] = "text/event-stream" }, body = "data: {}\n\ndata: [DONE]\n\n",
                },
            }
            local giver <close> = authority()
            local chunks = 0
            for _ in connect(server):predict_stream { endpoint = "m", inputs = CHAT } do
                chunks = chunks + 1
            end
            assert.equal(1, chunks)
            assert.same({ "Bearer entra-token-1", "Bearer entra-token-2" }, shown(server))
            assert.equal(2, #giver:requests())
        end)

        it("are renewed before they expire", function()
            local server <close> = raw.listen { raw.reply { json = {} } }
            local giver <close> = authority { expires_in = 1 }
            local client = connect(server)
            ask(client)
            ask(client)
            task.sleep(0.8)
            ask(client)
            assert.same({ "Bearer entra-token-1", "Bearer entra-token-1", "Bearer entra-token-2" }, shown(server))
            assert.equal(2, #giver:requests())
        end)

        it("are not refused by Azure with another status", function()
            local server <close> = raw.listen { raw.reply { status = 403 } }
            local giver <close> = authority()
            assert.equal(403, probe.failure(ask, connect(server)).http_status)
            assert.equal(1, #giver:requests())
            assert.equal(1, #server:requests())
        end)

        it("are not sent for where the authority gives none", function()
            local server <close> = raw.listen { raw.reply { json = {} } }
            local giver <close> = authority { replies = { raw.reply {
                status = 401,
                json = { error = "invalid_client", error_description = "AADSTS7000215: the-client-secret is wrong" },
            } } }
            local err = probe.failure(ask, connect(server))
            assert.equal("auth", err.kind)
            assert.equal(4, error_object.exit_code(err))
            assert.matches("AADSTS7000215: <redacted> is wrong", err.message, 1, true)
            assert.same({}, server:requests())
            assert.equal(1, #giver:requests())
        end)

        it("are looked for in every way, and the error lists them", function()
            local server <close> = raw.listen { raw.reply { json = {} } }
            env.OPENAI_API_TYPE, env.OPENAI_API_KEY = "azure_ad", "not-used"
            local path = env.PATH
            env.PATH = "/nonexistent"
            local err = probe.failure(ask, connect(server))
            env.PATH = path
            assert.equal("auth", err.kind)
            assert.matches("AZURE_CLIENT_SECRET", err.message)
            assert.same({}, server:requests())
        end)
    end)
end)
