--- The two faces of the gateway: MLflow's beside that of MLflow's own gateway 3.17.2, and OpenAI's.
local errors = require "moonflow.gateway.errors"
local error = require "moonflow.error"
local gateway = require "moonflow.gateway"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local reference = require "support.gateway_reference"

local JSON = { ["content-type"] = "application/json" }
local HI = '{"messages":[{"role":"user","content":"hi"}]}'

local METHODS = { "GET", "HEAD", "OPTIONS", "POST", "DELETE", "FOO" }
local PATHS = {
    "/health", "/", "/docs", "/api/2.0/endpoints/", "/api/2.0/endpoints", "/api/2.0/endpoints/chat",
    "/api/2.0/endpoints/chat/", "/api/2.0/endpoints/no", "/api/2.0/endpoints/no/", "/api/2.0/endpoints/limited",
    "/api/3.0/gateway/endpoint/chat", "/api/3.0/gateway/endpoint/no", "/api/3.0/gateway/endpoint/",
    "/api/3.0/gateway/route/no", "/api/2.0/gateway/routes/", "/api/2.0/gateway/routes", "/api/2.0/gateway/routes/chat",
    "/api/2.0/gateway/routes/no", "/api/2.0/gateway/routes/limited", "/api/2.0/endpoints/limits/",
    "/api/2.0/endpoints/limits", "/api/2.0/endpoints/limits/x", "/api/2.0/gateway/limits/", "/api/2.0/gateway/limits",
    "/api/2.0/gateway/limits/x", "/endpoints/chat/invocations", "/endpoints/chat/invocations/",
    "/endpoints/no/invocations", "/endpoints/chat", "/gateway/chat/invocations", "/gateway/chat/invocations/",
    "/gateway/no/invocations", "/gateway/", "/v1/chat/completions", "/v1/chat/completions/", "/v1/completions",
    "/v1/embeddings", "/v1/models", "/v1/nothing", "/nothing", "/health/", "/docs/", "//health", "/health//", "/healt",
    "/openapi.json", "/redoc", "/favicon.ico", "/api/2.0/endpoints/c%68at", "/endpoints/c%68at/invocations",
    "/api/2.0/endpoints/a%2Fb", "/api/2.0/endpoints/chat%2F", "/api/2.0/endpoints/%zz", "/api/2.0/endpoints/%",
    "/api/2.0/endpoints/a%20b'<", "/api/2.0/endpoints/%FF", "/api/2.0/endpoints/a%0Ab", "/api/2.0/endpoints/a+b",
    "/api/2.0/endpoints/%E6%97%A5", "/%68ealth",
}
local QUERIES = {
    "eyJpbmRleCI6IDB9", "eyJpbmRleCI6IDF9", "eyJpbmRleCI6IDk5fQ%3D%3D", "eyJpbmRleCI6IDk5fQ==",
    "a&page_token=eyJpbmRleCI6IDB9", "eyJpbmRleCI6IDB9&x=1", "", "x", "eyJpbmRleCI6IC0xfQ==", "bnVsbA==", "W10=",
    "eyJpbmRleCI6ICIxIn0=",
}

--- Where moonflow does otherwise, and why. `theirs` and `ours` are the statuses; a row without them is of another
-- field. Each row must be needed.
local DIFFERENT = {
    { "GET /", theirs = 307, ours = 200, why = "a page for people at once; MLflow's is at /docs" },
    { "GET /docs", field = "content", why = "a page for people without scripts from elsewhere" },
    { "HEAD ", theirs = 405, why = "HEAD is answered wherever GET is, for those who look whether a server lives" },
    { " /v1/models$", theirs = 404, why = "OpenAI's list of models, which MLflow's gateway has not" },
    { " /openapi.json$", ours = 404, why = "no description of the whole interface" },
    { " /redoc$", ours = 404, why = "the same" },
    { " /favicon.ico$", ours = 404, why = "no icon" },
    { "page_token=$", theirs = 500, ours = 400, why = "a token that is none is the client's mistake" },
    { "page_token=x$", theirs = 500, ours = 400, why = "the same" },
    { "page_token=eyJpbmRleCI6IC0xfQ==$", theirs = 500, ours = 400, why = "the same" },
    { "page_token=bnVsbA==$", theirs = 500, ours = 400, why = "the same" },
    { "page_token=W10=$", theirs = 500, ours = 400, why = "the same" },
    { "page_token=eyJpbmRleCI6ICIxIn0=$", theirs = 200, ours = 400, why = "no server gives such a token" },
    { "/chat%%2F$", theirs = 307, ours = 404, why = "an escaped slash is a part of a name" },
    { "/%%FF$", field = "body", why = "? in place of U+FFFD for what is no UTF-8" },
    { "/a%%0Ab$", field = "body", why = "no control characters in messages" },
    { "POST .* as text/plain$", theirs = 422, ours = 415, why = "else a page of another site could send queries" },
    { "POST .* as json$", theirs = 422, ours = 415, why = "the same" },
    { "POST .* as none$", theirs = 422, ours = 415, why = "the same" },
    { "POST .* as application/x%-www%-form%-urlencoded$", theirs = 422, ours = 415, why = "the same" },
    { '"model":"no"', theirs = 500, ours = 404, why = "an unknown model is the client's mistake" },
    { '"model":""', theirs = 500, ours = 400, why = "no model is the client's mistake" },
    { '"model":null', theirs = 500, ours = 400, why = "the same" },
    { "/v1/embeddings .*\"model\":1", theirs = 500, ours = 422, why = "the same" },
    { "/v1/%S+ without a model$", theirs = 500, ours = 400, why = "the same" },
    { "/gateway/limited/invocations again$", theirs = 200, ours = 429, why = "one count for all its routes" },
}

local V1 = {
    ["/v1/chat/completions"] = '{"messages":[{"role":"user","content":"hi"}]%s}',
    ["/v1/completions"] = '{"prompt":"x"%s}',
    ["/v1/embeddings"] = '{"input":"x"%s}',
}

local function all_requests()
    local list = {}
    local function add(name, method, path, body, headers)
        list[#list + 1] = { name = name, method = method, path = path, body = body, headers = headers }
    end
    for _, method in ipairs(METHODS) do
        for _, path in ipairs(PATHS) do
            add(method .. " " .. path, method, path)
        end
    end
    for _, query in ipairs(QUERIES) do
        for _, path in ipairs { "/api/2.0/endpoints/", "/api/2.0/gateway/routes/", "/api/2.0/endpoints" } do
            path = path .. "?page_token=" .. query
            add("GET " .. path, "GET", path)
        end
    end
    for _, kind in ipairs {
        "text/plain", "application/json; charset=utf-8", "application/vnd.x+json", "APPLICATION/JSON", "json",
        "application/json;", "application/x-www-form-urlencoded", "none",
    } do
        local headers = { ["content-type"] = kind ~= "none" and kind or nil }
        add("POST a chat as " .. kind, "POST", "/gateway/chat/invocations", HI, headers)
        add("POST nothing for " .. kind, "POST", "/gateway/chat/invocations", "", headers)
    end
    for _, path in ipairs { "/api/2.0/endpoints/limits/", "/api/2.0/gateway/limits/" } do
        for _, body in ipairs { "{}", '{"route":"x","limits":[]}', '{"route":1,"limits":{}}', "[]", "{" } do
            add("POST " .. path .. " " .. body, "POST", path, body, JSON)
        end
    end
    for path, form in pairs(V1) do
        for _, model in ipairs { '"chat"', '"completions"', '"embeddings"', '"no"', "1", "null", '""' } do
            local body = form:format(',"model":' .. model)
            add("POST " .. path .. " " .. body, "POST", path, body, JSON)
        end
        add("POST " .. path .. " without a model", "POST", path, form:format "", JSON)
        for _, body in ipairs { "{}", "[]", "{", '{"n":0}' } do
            add("POST " .. path .. " " .. body, "POST", path, body, JSON)
        end
    end
    for i = 1, 4 do
        add("POST limited, call " .. i, "POST", "/endpoints/limited/invocations", HI, JSON)
    end
    add("POST limited, wrong", "POST", "/endpoints/limited/invocations", "{}", JSON)
    add("POST /gateway/limited/invocations again", "POST", "/gateway/limited/invocations", HI, JSON)
    add("POST a model", "POST", "/gateway/chat/invocations", HI:sub(1, -2) .. ',"model":"m"}', JSON)
    return list
end

--- The row that allows a difference.
local function row_of(name, theirs, ours)
    for _, row in ipairs(DIFFERENT) do
        local same_status = theirs.status == ours.status
        local fits = (not row.theirs or row.theirs == theirs.status) and (not row.ours or row.ours == ours.status)
        if fits and (row.field ~= nil) == same_status and (name == row[1] or name:find(row[1])) then
            return row
        end
    end
end

local function differences(theirs, ours, is_v1)
    local lines = {}
    reference.differ(theirs.status, ours.status, "status", lines)
    reference.differ(theirs.headers.allow, ours.headers.allow, "allow", lines)
    -- Where to go is relative here, so that it holds behind a proxy of another name.
    local location = ours.headers.location and "http://gateway.test" .. ours.headers.location
    reference.differ(theirs.headers.location, location, "location", lines)
    if theirs.status ~= 307 then
        reference.differ(theirs.headers["content-type"], ours.headers["content-type"], "content-type", lines)
    end
    local left, right = json.decode(theirs.body), json.decode(ours.body)
    if theirs.status == 200 and type(left) == "table" and (left.choices or left.data) then
        return lines -- the answers are another spec's
    elseif is_v1 and type(right) == "table" then
        right.error = nil
    end
    reference.differ(left, right, "body", lines)
    return lines
end

describe("MLflow's face", function()
    it("is that of MLflow's gateway", function()
        local requests = all_requests()
        local served = gateway.new(reference.endpoints(function() end))
        local wrong, used = {}, {}
        for i, theirs in ipairs(reference.ask(requests)) do
            local given = requests[i]
            local ours = reference.play(served, given)
            local lines = differences(theirs, ours, given.path:find("^/v1/"))
            local row = #lines > 0 and row_of(given.name, theirs, ours)
            if row then
                used[row] = true
            elseif #lines > 0 then
                wrong[#wrong + 1] = given.name .. "\n    " .. table.concat(lines, "\n    ")
            end
        end
        for _, row in ipairs(DIFFERENT) do
            if not used[row] then
                wrong[#wrong + 1] = "nothing differs where a row says: " .. row[1]
            end
        end
        assert(#wrong == 0, ("%d of %d differ:\n%s"):format(#wrong, #requests, table.concat(wrong, "\n")))
    end)
end)

local function new(options, change)
    local endpoints = reference.endpoints(function() end)
    if change then
        change(endpoints)
    end
    return gateway.new(endpoints, options)
end

local function play(served, line, body, headers)
    local method, path = line:match("^(%S+) (.*)$")
    return reference.play(served, { method = method, path = path, body = body, headers = headers or JSON })
end

local function decoded(answer)
    return assert(json.decode(answer.body))
end

describe("OpenAI's face", function()
    local function failure(body, path)
        local answer = play(new(), "POST " .. (path or "/v1/chat/completions"), body)
        return decoded(answer), answer
    end

    it("says in both forms that there is no such model, and names the nearest", function()
        local body, answer = failure '{"model":"chats","messages":[{"role":"user","content":"hi"}]}'
        assert.equal(404, answer.status)
        assert.equal("application/json", answer.headers["content-type"])
        assert.equal("the model 'chats' does not exist on this server", body.detail)
        assert.same({
            message = "the model 'chats' does not exist on this server; did you mean 'chat'?",
            type = "invalid_request_error", param = "model", code = "model_not_found",
        }, body.error)
    end)

    it("says which models there are where none is near, and none is given", function()
        local body = failure '{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
        assert.matches("it has chat, completions, embeddings, limited$", body.error.message)
        body = failure(HI)
        assert.equal("model", body.error.param)
        assert.equal(json.null, body.error.code)
        assert.matches("names no model.*it has chat", body.error.message)
    end)

    it("cuts and cleans a model's name", function()
        local name = "\\u001b[31m" .. ("x"):rep(100000)
        local body, answer = failure('{"model":"' .. name .. '","messages":[{"role":"user","content":"hi"}]}')
        assert.equal(404, answer.status)
        assert.is_true(#answer.body < 1500)
        assert.is_nil(body.error.message:find("\27", 1, true))
    end)

    it("has the fault's place as param, and FastAPI's list as detail", function()
        local body, answer = failure '{"model":"chat","messages":[{"content":"x"}]}'
        assert.equal(422, answer.status)
        assert.equal("messages[0].role: Field required", body.error.message)
        assert.equal("messages[0].role", body.error.param)
        assert.equal("invalid_request_error", body.error.type)
        assert.same(json.array { "body", "messages", 0, "role" }, body.detail[1].loc)
    end)

    it("says that the body is no JSON", function()
        local body, answer = failure '{"model":'
        assert.equal(422, answer.status)
        assert.equal("the body is no JSON: Expecting value, at character 9", body.error.message)
        assert.equal(json.null, body.error.param)
    end)

    for line, status in pairs {
        ["GET /v1/chat/completions"] = 405, ["GET /v1/nothing"] = 404, ["POST /v1/models"] = 405,
    } do
        it("has an error for " .. line, function()
            local answer = play(new(), line)
            assert.equal(status, answer.status)
            assert.equal(decoded(answer).detail, decoded(answer).error.message)
        end)
    end

    it("lists its endpoints as models, and gives one", function()
        local served = new()
        local list = decoded(play(served, "GET /v1/models"))
        assert.equal("list", list.object)
        assert.equal(4, #list.data)
        local model = decoded(play(served, "GET /v1/models/c%68at"))
        assert.same(list.data[1], model)
        assert.same({ id = "chat", object = "model", owned_by = "echo", created = model.created }, model)
        assert.is_true(math.abs(model.created - os.time()) < 100)
        local answer = play(served, "GET /v1/models/no")
        assert.equal(404, answer.status)
        assert.equal("model_not_found", decoded(answer).error.code)
    end)

    it("takes a list of texts for stop only here", function()
        local body = '{"model":"chat","messages":[{"role":"user","content":"hi"}],"stop":"x"}'
        assert.equal(200, play(new(), "POST /v1/chat/completions", body).status)
    end)
end)

describe("the gateway's answers", function()
    it("have an id each", function()
        local served, seen = new(), {}
        for _, line in ipairs {
            "GET /health", "GET /nothing", "DELETE /health", "POST /gateway/chat/invocations",
            "GET /api/2.0/endpoints", "GET /v1/models", "GET /" .. ("x"):rep(5000),
        } do
            local id = play(served, line, HI).headers["x-request-id"]
            assert.matches("^req_%x+$", id)
            assert.is_nil(seen[id])
            seen[id] = true
        end
        assert.not_equal(play(new(), "GET /health").headers["x-request-id"]:sub(1, 12),
            play(new(), "GET /health").headers["x-request-id"]:sub(1, 12))
    end)

    it("tell people what there is", function()
        local answer = play(new(), "GET /")
        assert.equal("text/plain; charset=utf-8", answer.headers["content-type"])
        assert.matches("/gateway/chat/invocations +llm/v1/chat +m\n", answer.body)
        assert.matches("/v1", answer.body)
    end)

    it("refuse a path that is too long", function()
        assert.equal(414, play(new(), "GET /" .. ("a/"):rep(3000)).status)
    end)

    it("do not send a client to another server", function()
        for _, path in ipairs { "//evil.test/", "//evil.test/health/", "/%2F/evil.test/", "/health%2F" } do
            assert.equal(404, play(new(), "GET " .. path).status)
        end
        assert.equal("/health?a=//evil.test", play(new(), "GET /health/?a=//evil.test").headers.location)
    end)

    it("keep names that only look like a path", function()
        assert.equal(404, play(new(), "GET /api/2.0/endpoints/..%2Fendpoints%2Fchat").status)
        assert.matches("The endpoint '%.%.' is not", decoded(play(new(), "GET /api/2.0/endpoints/..")).detail)
    end)

    it("are as many pages as they need", function()
        local many = {}
        for i = 1, 6001 do
            many[i] = { name = "e" .. i, endpoint_type = "llm/v1/chat", handler = function() end }
        end
        local served, token, names = gateway.new(many), nil, {}
        repeat
            local page = decoded(play(served, "GET /api/2.0/endpoints/" .. (token and "?page_token=" .. token or "")))
            for _, endpoint in ipairs(page.endpoints) do
                names[#names + 1] = endpoint.name
            end
            token = page.next_page_token
        until token == json.null
        assert.equal(6001, #names)
        assert.equal("e6001", names[6001])
        local last = "eyJpbmRleCI6IDkyMjMzNzIwMzY4NTQ3NzU4MDd9" -- 2^63 - 1
        local page = decoded(play(served, "GET /api/2.0/endpoints/?page_token=" .. last))
        assert.same(json.array {}, page.endpoints)
    end)
end)

describe("a token", function()
    local TOKEN = "s3cret-t0ken-of-20-bytes"
    local served
    before_each(function()
        served = new { token = TOKEN }
    end)

    local function with(authorization)
        return { ["content-type"] = "application/json", authorization = authorization }
    end

    it("is asked for on every route but /health", function()
        assert.equal(200, play(served, "GET /health", nil, {}).status)
        for _, line in ipairs {
            "GET /", "GET /nothing", "GET /api/2.0/endpoints/", "POST /gateway/chat/invocations", "GET /v1/models",
            "POST /v1/chat/completions", "GET /health/", "GET /%68ealth",
        } do
            local answer = play(served, line, HI, {})
            assert.equal(401, answer.status)
            assert.equal("Bearer", answer.headers["www-authenticate"])
            assert.is_string(decoded(answer).detail)
        end
    end)

    it("lets in who has it, however the scheme is written", function()
        for _, scheme in ipairs { "Bearer", "bearer", "BEARER" } do
            assert.equal(200, play(served, "POST /gateway/chat/invocations", HI, with(scheme .. " " .. TOKEN)).status)
        end
    end)

    it("keeps out who has another one, and echoes none", function()
        for _, given in ipairs {
            "Bearer " .. TOKEN .. "x", "Bearer " .. TOKEN:sub(1, -2), "Bearer " .. TOKEN:sub(1, -2) .. "X",
            "Bearer X" .. TOKEN:sub(2), "Bearer ", "Bearer", "", TOKEN, "Basic " .. TOKEN, "Bearer  " .. TOKEN,
            "Bearer " .. ("x"):rep(100000),
        } do
            local answer = play(served, "POST /v1/chat/completions", HI, with(given))
            assert.equal(401, answer.status)
            assert.equal("invalid_api_key", decoded(answer).error.code)
            assert.is_nil(answer.body:find(TOKEN:sub(1, 12), 1, true))
        end
    end)
end)

describe("a limit", function()
    local V1_LIMITED = '{"model":"limited","messages":[{"role":"user","content":"hi"}]}'
    local now, served
    before_each(function()
        now = 1000
        served = new { clock = function() return now end }
    end)

    local function call()
        return play(served, "POST /gateway/limited/invocations", HI)
    end

    it("refuses in MLflow's words, and says for how long", function()
        assert.equal(200, call().status)
        now = now + 20.5
        assert.equal(200, call().status)
        local answer = call()
        assert.equal(429, answer.status)
        assert.same({ error = "Rate limit exceeded: 2 per 1 minute" }, decoded(answer))
        assert.equal("40", answer.headers["retry-after"])
        now = 1060
        assert.equal(200, call().status)
    end)

    it("does not count what is wrong", function()
        for _ = 1, 5 do
            assert.equal(422, play(served, "POST /gateway/limited/invocations", "{}").status)
        end
        assert.equal(200, call().status)
    end)

    it("tells OpenAI's clients how much is left", function()
        local answer = play(served, "POST /v1/chat/completions", V1_LIMITED)
        assert.equal("2", answer.headers["x-ratelimit-limit-requests"])
        assert.equal("1", answer.headers["x-ratelimit-remaining-requests"])
        assert.equal("1m0s", answer.headers["x-ratelimit-reset-requests"])
        now = now + 10
        assert.equal(200, call().status)
        answer = play(served, "POST /v1/chat/completions", V1_LIMITED)
        assert.equal(429, answer.status)
        assert.equal("0", answer.headers["x-ratelimit-remaining-requests"])
        assert.equal("50s", answer.headers["x-ratelimit-reset-requests"])
        assert.equal("50", answer.headers["retry-after"])
        local body = decoded(answer)
        assert.equal("Rate limit exceeded: 2 per 1 minute", body.error.message)
        assert.equal("rate_limit_exceeded", body.error.code)
        assert.equal(body.error.message, body.detail)
    end)
end)

describe("errors.from", function()
    local said
    before_each(function()
        said = nil
        stub(notice, "write", function(line)
            said = line
        end)
    end)
    after_each(function()
        notice.write:revert()
    end)

    local function from(face, fields)
        local status, headers, body = errors.from(face, type(fields) == "table" and error.new(fields) or fields)
        return status, json.decode(body), headers
    end

    it("keeps a provider's status and what it said", function()
        local status, body = from("openai", {
            kind = "http", http_status = 429, message = "You have no credit",
            body = { error = { message = "x", type = "insufficient_quota", code = "insufficient_quota", param = 7 } },
        })
        assert.equal(429, status)
        assert.same({
            message = "You have no credit", type = "insufficient_quota", code = "insufficient_quota",
            param = json.null,
        }, body.error)
        assert.equal("You have no credit", body.detail)
    end)

    for kind, expected in pairs {
        timeout = 504, network = 502, decode = 502, auth = 502, cancelled = 503, config = 500,
    } do
        it(("answers %d to the kind %s"):format(expected, kind), function()
            local status, body = from("mlflow", { kind = kind, message = "m" })
            assert.equal(expected, status)
            assert.same({ detail = "m" }, body)
            assert.is_nil(said)
        end)
    end

    it("tells the log alone what a handler's own fault is", function()
        for _, failure in ipairs { "h.lua:3: attempt to index secret", { kind = "usage", message = "secret" } } do
            for _, face in ipairs { "mlflow", "openai" } do
                local status, body = from(face, failure)
                assert.equal(500, status)
                assert.equal("Internal Server Error", body.detail)
                assert.is_nil(json.encode(body):find("secret", 1, true))
                assert.matches("secret", said)
            end
        end
    end)

    it("answers with no status that is none of a failure", function()
        assert.equal(400, (from("mlflow", { kind = "http", http_status = 200, message = "m" })))
        assert.equal(599, (from("mlflow", { kind = "http", http_status = 999, message = "m" })))
    end)

    it("cuts a long message", function()
        local _, body = from("mlflow", { kind = "http", http_status = 400, message = ("x"):rep(100000) })
        assert.is_true(#body.detail < 2100)
    end)
end)
