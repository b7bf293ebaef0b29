--- The Databricks face of `moonflow serve`: queries, their limits, tokens, and how deployments are told to go.
local base64 = require "moonflow.base64"
local deploy = require "moonflow.workspace.deploy"
local json = require "moonflow.json"
local support = require "support.workspace"

local API = "/api/2.0/serving-endpoints"
local ASK = "POST /serving-endpoints/e/invocations"
local CHAT = { messages = json.array { { role = "user", content = "is the moon far" } } }
local list = json.array

--- A world with a ready endpoint "e".
local function ready(config, more)
    local world = support.new { deploy = { "reads=0" } }
    world:create("e", config, more)
    world:get("GET " .. API .. "/e")
    return world
end

describe("a custom model answers the sum of each row", function()
    local CASES = {
        { "a data frame, split", { dataframe_split = {
            columns = list { "a", "b" }, index = list { 0, 1 }, data = list { list { 1, 2 }, list { 3.5, "x" } },
        } }, { 3.0, 3.5 } },
        { "a data frame of records", { dataframe_records = list { { a = 1, b = -4 }, {} } }, { -3.0, 0.0 } },
        { "instances", { instances = list { list { list { 1, 2 }, 3 }, 7 } }, { 6.0, 7.0 } },
        { "inputs in rows", { inputs = list { 1, 2 }, params = { a = 5 } }, { 1.0, 2.0 } },
        { "inputs in columns", { inputs = { a = list { 1, 2 }, b = list { 10, 20 } } }, { 11.0, 22.0 } },
        { "large integers", { instances = list { list { math.maxinteger, math.maxinteger } } }, { 2.0 ^ 64 } },
    }
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local body = ready():get(ASK, case[2])
            assert.same(case[3], setmetatable(body.predictions, nil))
        end)
    end

    local REFUSED = {
        { "nothing", {}, "needs one of" },
        { "two kinds", { inputs = list { 1 }, instances = list { 1 } }, "Only one kind of inputs" },
        { "a text for a list", { instances = "x" }, "must be a list" },
        { "columns that are no lists", { inputs = { a = 1 } }, "must be a list" },
        { "columns of two lengths", { inputs = { a = list { 1 }, b = list {} } }, "same length" },
        { "a short row", { dataframe_split = { columns = list { "a" }, data = list { list {} } } }, "row 0" },
        { "numbers that are too large", { instances = list { list { 1e308, 1e308 } } }, "is no number" },
    }
    for _, case in ipairs(REFUSED) do
        it("but not " .. case[1], function()
            local status, body = ready():ask(ASK, case[2])
            assert.same({ 400, "INVALID_PARAMETER_VALUE" }, { status, body.error_code })
            assert.matches(case[3], body.message)
        end)
    end
end)

describe("an endpoint", function()
    it("of an external model answers by its task", function()
        local world = ready(support.external "x")
        local body = world:get(ASK, CHAT)
        assert.matches('You said: "is the moon far".*no model is behind it', body.choices[1].message.content)
        assert.equal("gpt-4o-mini", body.model)
        local status, said = world:ask(ASK, { prompt = "x" })
        assert.same({ 400, "INVALID_PARAMETER_VALUE" }, { status, said.error_code })
        status, said = world:ask(ASK, { messages = list {} })
        assert.same({ 400, "BAD_REQUEST" }, { status, said.error_code })
        assert.matches("^Bad request: messages", said.message)
    end)

    it("of a custom model takes all kinds of inputs", function()
        local world = ready()
        assert.equal("text_completion", world:get(ASK, { prompt = "Once" }).object)
        assert.equal(64, #world:get(ASK, { input = "Once" }).data[1].embedding)
        assert.equal("chat.completion", world:get(ASK, CHAT).object)
    end)

    it("streams", function()
        local world = ready()
        local frames = {}
        local status, _, headers, body = world:ask(ASK, { messages = CHAT.messages, stream = true })
        for frame in body do
            frames[#frames + 1] = frame
        end
        assert.equal(200, status)
        assert.matches("^text/event%-stream", headers["Content-Type"])
        assert.equal("m", headers["served-model-name"])
        assert.equal("data: [DONE]\n\n", frames[#frames])
    end)

    it("is asked as OpenAI's clients do", function()
        local world = ready()
        for path, body in pairs {
            ["chat/completions"] = CHAT, completions = { prompt = "x" }, embeddings = { input = "x" },
        } do
            body.model = "e"
            world:get("POST /serving-endpoints/" .. path, body)
            body.model = nil
            assert.equal(400, (world:ask("POST /serving-endpoints/" .. path, body)))
        end
    end)

    it("shares its traffic as it was told", function()
        local config = support.external("x", "y")
        config.traffic_config = { routes = list {
            { served_entity_name = "a", traffic_percentage = 0 },
            { served_entity_name = "b", traffic_percentage = 100 },
        } }
        local world = ready(config)
        for _ = 1, 20 do
            local _, _, headers = world:ask(ASK, CHAT)
            assert.equal("b", headers["served-model-name"])
        end
        local _, _, headers = world:ask("POST /serving-endpoints/e/served-models/a/invocations", CHAT)
        assert.equal("a", headers["served-model-name"])
        assert.matches("has answered 20 queries", world:get("GET " .. API .. "/e/served-models/b/logs").logs)
    end)

    --- which limit, who asks besides the first (false: the first again), whether these are let in
    local LIMITS = {
        { { calls = 2, key = "endpoint" }, "another", 429 },
        { { calls = 2, key = "user" }, "another", 200 },
        { { calls = 2, key = "user" }, "person", 429 },
        { { calls = 2 }, "person", 429 },
        { { calls = 2, key = "user_group", principal = "g" }, "person", 200 },
        { { calls = 2, key = "service_principal", principal = "other" }, "person", 200 },
        { { tokens = 20, key = "endpoint" }, "another", 429 },
        { { tokens = 1000, key = "endpoint" }, "another", 200 },
    }
    for number, case in ipairs(LIMITS) do
        for _, way in ipairs { "ai_gateway", "rate_limits" } do
            it(("has limit %d by %s"):format(number, way), function()
                local limit = { renewal_period = "minute" }
                for name, value in pairs(case[1]) do
                    limit[name] = value
                end
                local limits = list { limit }
                local world = ready(support.external "x",
                    way == "ai_gateway" and { ai_gateway = { rate_limits = limits } } or { rate_limits = limits })
                world:get(ASK, CHAT)
                world:get(ASK, CHAT)
                local status, body, headers = world:ask(ASK, CHAT, { authorization = "Bearer " .. case[2] })
                assert.equal(case[3], status)
                if status == 429 then
                    assert.equal("REQUEST_LIMIT_EXCEEDED", body.error_code)
                    assert.equal("60", headers["Retry-After"])
                    world.now = world.now + 61
                    world:get(ASK, CHAT)
                end
            end)
        end
    end

    it("of the file has the file's limit", function()
        local world = support.new { limit = { calls = 1, renewal_period = "minute" } }
        world:get("POST /serving-endpoints/file/invocations", CHAT)
        local status, body = world:ask("POST /serving-endpoints/file/invocations", CHAT)
        assert.same({ 429, "REQUEST_LIMIT_EXCEEDED" }, { status, body.error_code })
    end)
end)

--- The answer of the token endpoint.
local function token(world, pair, body)
    return world:ask("POST /oidc/v1/token", body or "grant_type=client_credentials&scope=all-apis",
        { authorization = pair and "Basic " .. base64.encode(pair) or false })
end

local function bearer(word)
    return { authorization = "Bearer " .. word }
end

describe("who may ask", function()
    it("is anybody with a token, on this machine", function()
        local world = support.new()
        for given, wanted in pairs {
            ["Bearer x"] = 200, ["bearer  x"] = 200, ["Bearer "] = 401, ["Basic eDp5"] = 401, ["x"] = 401,
        } do
            local status, body = world:ask("GET " .. API, nil, { authorization = given })
            assert.equal(wanted, status)
            assert.equal(wanted == 401 and 401 or nil, body.error_code)
        end
        local status, body, headers = world:ask("GET " .. API, nil, { authorization = false })
        assert.same({ 401, 401, "Bearer" }, { status, body.error_code, headers["WWW-Authenticate"] })
        assert.matches("^Credential was not sent", body.message)
        assert.equal(401, (world:ask("GET " .. API .. "/nobody/at/all", nil, { authorization = false })))
    end)

    it("is who has the token, where there is one", function()
        local world = support.new { token = "the-token" }
        world:get("GET " .. API, nil, bearer "the-token")
        local status, body = world:ask("GET " .. API, nil, bearer "the-tokem")
        assert.same({ 403, 403 }, { status, body.error_code })
        assert.equal(401, (token(world, "id:wrong")))
        local _, given = token(world, "id:the-token")
        world:get("GET " .. API, nil, bearer(given.access_token))
        assert.equal(200, (world:ask("GET /health", nil, { authorization = false })))
        assert.equal(401, (world:ask("GET /v1/models", nil, bearer(given.access_token))))
    end)

    it("is an application, until its token ends", function()
        local world = support.new { settings = { token_lifetime = 60 } }
        local status, given, headers = token(world, "app:secret")
        assert.same({ 200, "Bearer", 60, "all-apis", "no-store" },
            { status, given.token_type, given.expires_in, given.scope, headers["Cache-Control"] })
        assert.matches("^%x+$", given.access_token)
        assert.equal("app", world:get("GET /api/2.0/preview/scim/v2/Me", nil, bearer(given.access_token)).userName)
        local _, other = token(world, "app:secret")
        assert.is_true(other.access_token ~= given.access_token)
        local assertion = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="
        assert.equal(200, (token(world, nil, assertion .. given.access_token)))
        world.now = world.now + 61
        assert.equal(401, (world:ask("GET " .. API, nil, bearer(given.access_token))))
        local _, refused = token(world, nil, assertion .. given.access_token)
        assert.equal("invalid_grant", refused.error)
        world:get("GET " .. API, nil, bearer(given.access_token:reverse()))
    end)

    it("has a limit of its own as an application", function()
        local world = ready(support.external "x", { ai_gateway = { rate_limits = list {
            { calls = 1, key = "service_principal", principal = "app", renewal_period = "minute" },
        } } })
        local _, given = token(world, "app:secret")
        world:get(ASK, CHAT, bearer(given.access_token))
        assert.equal(429, (world:ask(ASK, CHAT, bearer(given.access_token))))
        assert.equal(200, (world:ask(ASK, CHAT)))
    end)

    for name, case in pairs {
        ["no credentials"] = { nil, nil, 401, "invalid_client" },
        ["an empty secret"] = { "id:", nil, 401, "invalid_client" },
        ["an empty id"] = { ":secret", nil, 401, "invalid_client" },
        ["no grant"] = { "id:secret", "a=b", 400, "invalid_request" },
        ["another grant"] = { "id:secret", "grant_type=password", 400, "unsupported_grant_type" },
        ["too much"] = { "id:secret", ("x"):rep(70000), 400, "invalid_request" },
    } do
        it("gets no token with " .. name, function()
            local status, body = token(support.new(), case[1], case[2])
            assert.same({ case[3], case[4] }, { status, body.error })
        end)
    end

    it("finds the token endpoint", function()
        local world = support.new { token = "t" }
        local CASES = { host = "http://localhost:5000", ["x-forwarded-proto"] = "https://localhost:5000" }
        for name, wanted in pairs(CASES) do
            local headers = { authorization = false, [name] = name == "host" and "localhost:5000" or "https" }
            local oidc = world:get("GET /.well-known/databricks-config", nil, headers).oidc_endpoint
            assert.equal(wanted .. "/oidc", oidc)
            assert.equal(wanted .. "/oidc/v1/token",
                world:get("GET /oidc/.well-known/oauth-authorization-server", nil, headers).token_endpoint)
        end
    end)

    it("is known at last by ten thousand tokens", function()
        local world = support.new()
        local login = world.workspace.login
        for i = 1, 10001 do
            login:answer { body = "grant_type=client_credentials", headers = { authorization = "Basic YTpi" }, i = i }
        end
        local count = 0
        for _ in pairs(login.issued) do
            count = count + 1
        end
        assert.equal(10000, count)
    end)
end)

describe("a rule of a deployment", function()
    for words, wanted in pairs {
        ["reads=3"] = { reads = 3 },
        ["chat:seconds=0.25,fail=no image: x,version=2"] = {
            endpoint = "chat", seconds = 0.25, fail = "no image: x", version = 2,
        },
        ["fail"] = { fail = "the deployment failed, as it was told to" },
    } do
        it("is read of " .. words, function()
            assert.same(wanted, deploy.parse(words))
        end)
    end

    for words, message in pairs {
        ["now"] = '"now" is no word', ["seconds=x"] = "seconds can not be", ["reads=-1"] = "reads can not be",
        ["speed=2"] = '"speed" is no field', ["seconds=1e9"] = "seconds can not be",
        ["version=1.5"] = "version can not",
    } do
        it("is not read of " .. words, function()
            local ok, err = pcall(deploy.parse, words)
            assert.is_false(ok)
            assert.equal("config", err.kind)
            assert.matches(message, err.message)
        end)
    end

    it("counts from the file too, behind those of the command line", function()
        local rules = deploy.rules({ "a:reads=1" }, { { endpoint = "a", reads = 2 }, { seconds = 3 } })
        assert.same({ reads = 1 }, deploy.plan(rules, "a", 1))
        assert.same({ seconds = 3 }, deploy.plan(rules, "b", 1))
        assert.same({ seconds = 0.5 }, deploy.plan({}, "b", 1))
    end)

    for _, settings in ipairs { { deploy = 5 }, { deploy = { 5 } }, { token_lifetime = -1 }, { other = 1 } } do
        it("is wrong in a file", function()
            local ok, err = pcall(support.new, { settings = settings })
            assert.is_false(ok)
            assert.equal("config", err.kind)
        end)
    end
end)
