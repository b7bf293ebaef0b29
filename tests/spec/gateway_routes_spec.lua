--- The routes of both faces of the gateway, without a server around them.
local gateway = require "moonflow.gateway"
local json = require "moonflow.json"

local ASKED = { messages = { { role = "user", content = "hi" } } }

local function echo(inputs)
    return "You said: " .. inputs.messages[1].content
end

local function new(options)
    return gateway.new({
        { name = "chat", endpoint_type = "llm/v1/chat", model = { name = "m", provider = "p" }, handler = echo },
        {
            name = "limited", endpoint_type = "llm/v1/chat", limit = { calls = 1, renewal_period = "minute" },
            handler = echo,
        },
        { name = "embed", endpoint_type = "llm/v1/embeddings", handler = function() return { 0.5, 0.25 } end },
    }, options)
end

local function request(line, body)
    local method, path, query = line:match("^(%S+) ([^?]+)%??(.*)$")
    return {
        method = method, path = path, query = query ~= "" and query or nil, peer = "127.0.0.1",
        headers = { ["content-type"] = "application/json" }, body = body and assert(json.encode(body)) or "",
    }
end

local function decoded(body)
    return body and json.decode(body)
end

describe("the gateway", function()
    for _, row in ipairs {
        { "GET /health", 200, { status = "OK" } },
        { "HEAD /health", 200 },
        { "POST /health", 405, { detail = "Method Not Allowed" } },
        { "GET /nobody", 404, { detail = "Not Found" } },
        { "GET /api/2.0/endpoints", 307 },
        { "GET /api/2.0/endpoints/?page_token=nonsense", 400 },
        { "GET /api/2.0/endpoints/nobody", 404, {
            detail = "The endpoint 'nobody' is not present or active on the server. Please verify the endpoint name.",
        } },
        { "GET /api/2.0/endpoints/ch%61t", 200 },
        { "GET /api/2.0/endpoints/limits/chat", 501, { detail = "The get_limits API is not available yet." } },
        { "GET /gateway/chat/invocations", 405, { detail = "Method Not Allowed" } },
        { "GET /v1/models/chat", 200 },
        { "GET /v1/models/nobody", 404 },
    } do
        it("answers " .. row[1], function()
            local status, _, body = new():handle(request(row[1]))
            assert.equal(row[2], status)
            if row[3] then
                assert.same(row[3], decoded(body))
            end
        end)
    end

    it("describes an endpoint as MLflow does", function()
        local _, _, body = new():handle(request "GET /api/2.0/endpoints/chat")
        assert.same({
            name = "chat", endpoint_type = "llm/v1/chat", model = { name = "m", provider = "p" },
            endpoint_url = "/gateway/chat/invocations", limit = json.null,
        }, decoded(body))
    end)

    it("gives pages of 3000", function()
        local many = {}
        for i = 1, 3001 do
            many[i] = { name = "e" .. i, endpoint_type = "llm/v1/chat", handler = echo }
        end
        local served = gateway.new(many)
        local _, _, first = served:handle(request "GET /api/2.0/endpoints/")
        local page = decoded(first)
        assert.equal(3000, #page.endpoints)
        local _, _, second = served:handle(request("GET /api/2.0/endpoints/?page_token=" .. page.next_page_token))
        assert.equal("e3001", decoded(second).endpoints[1].name)
        assert.equal(json.null, decoded(second).next_page_token)
    end)

    it("answers a chat on each of its routes", function()
        for _, line in ipairs { "POST /gateway/chat/invocations", "POST /endpoints/chat/invocations" } do
            local status, _, body = new():handle(request(line, ASKED))
            assert.equal(200, status)
            assert.equal("You said: hi", decoded(body).choices[1].message.content)
        end
        local status, _, body = new():handle(request("POST /v1/chat/completions",
            { model = "chat", messages = ASKED.messages }))
        assert.equal(200, status)
        assert.equal("You said: hi", decoded(body).choices[1].message.content)
    end)

    for _, row in ipairs {
        { "missing", {}, { "body", "messages" } },
        { "too_short", { messages = json.array {} }, { "body", "messages" } },
        { "list_type", { messages = "hi" }, { "body", "messages" } },
        { "missing", { messages = { { content = "x" } } }, { "body", "messages", 0, "role" } },
        { "less_than_equal", { messages = ASKED.messages, temperature = 3 }, { "body", "temperature" } },
        { "greater_than_equal", { messages = ASKED.messages, n = 0 }, { "body", "n" } },
        { "too_short", { messages = ASKED.messages, stop = json.array {} }, { "body", "stop" } },
        { "model_attributes_type", json.array {}, { "body" } },
    } do
        it(("says in pydantic's form what is wrong: %s of %s"):format(row[1], table.concat(row[3], ".")), function()
            local status, _, body = new():handle(request("POST /gateway/chat/invocations", row[2]))
            local detail = decoded(body).detail
            assert.equal(422, status)
            assert.equal(1, #detail)
            assert.equal(row[1], detail[1].type)
            assert.same(json.array(row[3]), detail[1].loc)
        end)
    end

    it("refuses a body that is no JSON, and one that names a model", function()
        local asked = request("POST /gateway/chat/invocations")
        asked.body = '{"messages":'
        assert.equal(422, (new():handle(asked)))
        local status, _, body = new():handle(request("POST /gateway/chat/invocations",
            { model = "x", messages = ASKED.messages }))
        assert.equal(422, status)
        assert.matches("'model' is not permitted", decoded(body).detail)
    end)

    it("wants JSON, so that a page of another site can not ask", function()
        local asked = request("POST /gateway/chat/invocations", ASKED)
        asked.headers["content-type"] = "text/plain"
        assert.equal(415, (new():handle(asked)))
    end)

    it("tells OpenAI's clients what is wrong in their words", function()
        local status, _, body = new():handle(request("POST /v1/chat/completions",
            { model = "nobody", messages = ASKED.messages }))
        assert.equal(404, status)
        assert.equal("model_not_found", decoded(body).error.code)
        status, _, body = new():handle(request("POST /v1/chat/completions",
            { model = "embed", messages = ASKED.messages }))
        assert.equal(400, status)
        assert.equal("Endpoint 'embed' is not a chat endpoint.", decoded(body).detail)
    end)

    it("counts calls over both faces", function()
        local served = new()
        assert.equal(200, (served:handle(request("POST /gateway/limited/invocations", ASKED))))
        local status, headers, body = served:handle(request("POST /v1/chat/completions",
            { model = "limited", messages = ASKED.messages }))
        assert.equal(429, status)
        assert.equal("60", headers["Retry-After"])
        assert.equal("Rate limit exceeded: 1 per 1 minute", decoded(body).error.message)
    end)

    it("lists its endpoints as models", function()
        local _, _, body = new():handle(request "GET /v1/models")
        local models = decoded(body)
        assert.equal("list", models.object)
        assert.equal("embed", models.data[3].id)
    end)

    for message, endpoints in pairs {
        ["a list of endpoints expected"] = {},
        ["endpoint 1: the name must be"] = { { name = "a b" } },
        ["endpoint a: endpoint_type can not be"] = { { name = "a", endpoint_type = "llm/v1/chats" } },
        ["endpoint a: it needs one of handler"] = { { name = "a", endpoint_type = "llm/v1/chat" } },
        ["\"modle\" is no field"] = { { name = "a", modle = {} } },
        ["limit.calls must be"] = {
            { name = "a", endpoint_type = "llm/v1/chat", handler = echo, limit = { calls = 0 } },
        },
        ["there are two of this name"] = {
            { name = "a", endpoint_type = "llm/v1/chat", handler = echo },
            { name = "a", endpoint_type = "llm/v1/chat", handler = echo },
        },
    } do
        it("refuses a configuration: " .. message, function()
            local ok, err = pcall(gateway.new, endpoints)
            assert.is_false(ok)
            assert.equal("config", err.kind)
            assert.is_truthy(err.message:find(message, 1, true))
        end)
    end
end)
