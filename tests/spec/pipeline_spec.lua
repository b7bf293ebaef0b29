local fake = require "support.fake"

local OK = { json = { answer = 42 } }
local REFUSED = { kind = "network", phase = "connect", message = "can not connect to http://h: Connection refused" }
local BROKEN = { kind = "network", phase = "first byte", request_sent = true }
local CUT = { kind = "network", phase = "body", request_sent = true, error_code = "DATA_LOSS" }
local SLOW_CONNECT = { kind = "timeout", phase = "connect" }
local SILENT = { kind = "timeout", phase = "first byte", request_sent = true }
local UNTRUSTED = { kind = "network", phase = "connect", error_code = "UNAUTHENTICATED" }

describe("moonflow.pipeline", function()
    local world

    after_each(function()
        world:close()
    end)

    --- A client that sends the given request when it is asked to predict.
    local function client_of(request, options)
        local Client = world.client.BaseDeploymentClient:extend {
            predict = function(self, args)
                request.options = args.options
                return self:send(request)
            end,
            list_endpoints = function(self, args)
                request.options = args.options
                return self:pages(request)
            end,
        }
        return Client("http://h", options)
    end

    local function get(options)
        return client_of({ method = "GET", url = "http://h/x" }, options)
    end

    local function failure(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    local function fails(client, ...)
        return failure(client.predict, client, ...)
    end

    describe("success", function()
        local cases = {
            { "JSON", "GET", { json = { a = 1 } }, { a = 1 } },
            { "a JSON text", "GET", { body = '"x"' }, "x" },
            { "false", "GET", { body = "false" }, false },
            { "an empty answer to PUT", "PUT", { body = "" }, true },
            { "an empty answer to PATCH", "PATCH", { status = 200, body = "" }, true },
            { "an empty answer to DELETE", "DELETE", { status = 204, body = "" }, true },
            { "204", "GET", { status = 204, body = "" }, nil },
        }
        for _, case in ipairs(cases) do
            it("is a value: " .. case[1], function()
                world = fake.world { answers = { case[3] } }
                local client = client_of { method = case[2], url = "http://h/x" }
                assert.same(case[4], (client:predict()))
            end)
        end
    end)

    describe("a 2xx that is no JSON", function()
        local cases = {
            { "an empty body", { body = "" }, "with an empty body, not JSON" },
            { "HTML", { body = "<!DOCTYPE html><title>Sign \27[2J in</title>",
                headers = { ["content-type"] = "text/html" } },
                'with an HTML page, not JSON\nGET /x: title "Sign [2J in"' },
            { "HTML without a type", { body = "<html>" }, "with an HTML page" },
            { "text", { body = "hello\7 there" }, 'it begins "hello there"' },
            { "JSON that is cut", { body = '{"a": [1, 2' }, "not JSON" },
        }
        for _, case in ipairs(cases) do
            it("is an error: " .. case[1], function()
                world = fake.world { answers = { case[2] } }
                local err = fails(get())
                assert.equal("decode", err.kind)
                assert.equal(200, err.http_status)
                assert.matches(case[3], err.message, 1, true)
                assert.equal(1, #world.requests)
            end)
        end
    end)

    describe("an error answer", function()
        local cases = {
            { "MLflow's", 400, { json = { error_code = "RESOURCE_ALREADY_EXISTS", message = "taken" } },
                "RESOURCE_ALREADY_EXISTS", "taken" },
            { "MLflow's with a number", 400, { json = { error_code = 404, message = "m" } }, "ENDPOINT_NOT_FOUND",
                "m" },
            { "a text of FastAPI", 404, { json = { detail = "no such endpoint" } }, "ENDPOINT_NOT_FOUND",
                "no such endpoint" },
            { "a list of FastAPI", 422,
                { json = { detail = { { loc = { "body", "messages" }, msg = "Field required" } } } },
                "INTERNAL_ERROR", "body.messages: Field required" },
            { "OpenAI's", 401, { json = { error = { message = "bad key", code = "invalid_api_key" } } },
                "UNAUTHENTICATED",
                "bad key (invalid_api_key)" },
            { "a limiter's", 413, { json = { error = "Rate limit exceeded" } }, "INTERNAL_ERROR",
                "Rate limit exceeded" },
            { "text", 403, { body = "go\27[31m away" }, "PERMISSION_DENIED", "go [31m away" },
            { "HTML", 404, { body = "<html><title>404</title>" }, "ENDPOINT_NOT_FOUND", 'an HTML page, title "404"' },
            { "a code that is none", 400, { json = { error_code = "x y", message = "m" } }, "BAD_REQUEST", "m" },
            { "nothing", 400, { body = "" }, "BAD_REQUEST", "http://h answered 400" },
        }
        for _, case in ipairs(cases) do
            it("is told in its own words: " .. case[1], function()
                case[3].status = case[2]
                world = fake.world { answers = { case[3] } }
                local err = fails(get())
                assert.equal("http", err.kind)
                assert.equal(case[2], err.http_status)
                assert.equal(case[4], err.error_code)
                assert.matches(case[5], err.message, 1, true)
                assert.matches("\nGET /x$", err.message)
            end)
        end

        it("keeps its body parsed, without control characters", function()
            world = fake.world { answers = { { status = 400, body = [[{"message": "a\u001bb", "list": []}]] } } }
            local err = fails(get())
            assert.equal("a b", err.body.message)
            assert.is_true(world.json.is_array(err.body.list))
        end)

        it("keeps 8 KiB of a huge body, at a character's border", function()
            world = fake.world { answers = { { status = 400, body = "x" .. ("é"):rep(100000) } } }
            local err = fails(get())
            assert.is_true(#err.body <= 8200)
            assert.is_truthy(utf8.len(err.body))
            assert.is_true(#err.message < 500)
        end)

        it("does not repeat a secret that the server sent back", function()
            world = fake.world { answers = { { status = 400, json = { message = "you sent canary-token-123" } } } }
            local err = fails(get { token = "canary-token-123" })
            assert.not_matches("canary", tostring(err) .. err.body.message)
        end)

        it("has the server's request id", function()
            world = fake.world { answers = { { status = 400, headers = { ["x-request-id"] = "r-1" } } } }
            assert.equal("r-1", fails(get()).request_id)
        end)

        it("names the credential that was refused", function()
            world = fake.world { answers = { { status = 401 } }, environ = { MLFLOW_TRACKING_TOKEN = "some-token" } }
            assert.equal("the credential came from MLFLOW_TRACKING_TOKEN", fails(get()).hint)
        end)

        it("says where a missing credential was looked for", function()
            world = fake.world { answers = { { status = 403 } } }
            assert.matches("no credential was sent; .*MLFLOW_TRACKING_TOKEN", fails(get()).hint)
        end)
    end)

    describe("a redirect", function()
        local cases = {
            { "https://user:pw@other:8443/a?token=t", "a redirect to https://other:8443\n" },
            { "/login", "another path on the same server" },
            { "//other/x", "a redirect to //other\n" },
            { "file:///etc/passwd", "a redirect to file://\n" },
            { nil, "nowhere" },
        }
        for _, case in ipairs(cases) do
            it("is never followed: " .. tostring(case[1]), function()
                world = fake.world { answers = { { status = 307, headers = { location = case[1] } } } }
                local err = fails(get())
                assert.equal("http", err.kind)
                assert.equal(307, err.http_status)
                assert.matches(case[2], err.message, 1, true)
                assert.not_matches("token", tostring(err))
                assert.equal(1, #world.requests)
            end)
        end
    end)

    -- For each policy, what is repeated. Letters: r refused connection, b broken before the answer,
    -- c answer cut, s slow to connect, t read timeout, u untrusted certificate.
    describe("the retry table", function()
        local failures = { r = REFUSED, b = BROKEN, c = CUT, s = SLOW_CONNECT, t = SILENT, u = UNTRUSTED }
        local rows = {
            { "GET", nil, { 429, 500, 502, 503 }, "rbcst" },
            { "PUT", nil, { 429, 500, 502, 503 }, "rbcs" },
            { "PATCH", nil, { 429, 500, 502, 503 }, "rbcs" },
            { "DELETE", nil, { 429, 500, 502, 503 }, "rbcs" },
            { "POST", nil, { 429, 503 }, "rs" },
            { "POST", "predict", { 429, 500, 502, 503 }, "rbs" },
        }
        local statuses = { 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 501, 502, 503, 504 }

        local function count(row, answer)
            world = fake.world { answers = { answer, OK } }
            local client = client_of { method = row[1], url = "http://h/x", policy = row[2] }
            local ok, err = pcall(client.predict, client)
            assert.equal(#world.requests == 2, ok)
            if not ok then
                assert.is_false(err.retryable)
                assert.equal(1, err.attempts)
            end
            world:close()
            return #world.requests
        end

        for _, row in ipairs(rows) do
            it(("holds for %s %s"):format(row[1], row[2] or ""), function()
                local repeated = {}
                for _, status in ipairs(row[3]) do
                    repeated[status] = true
                end
                for _, status in ipairs(statuses) do
                    assert.equal(repeated[status] and 2 or 1, count(row, { status = status }), status)
                end
                for letter, answer in pairs(failures) do
                    assert.equal(row[4]:find(letter, 1, true) and 2 or 1, count(row, answer), letter)
                end
            end)
        end
    end)

    describe("a create that may have happened", function()
        for _, answer in ipairs { BROKEN, SILENT, { status = 500 }, { status = 504 } } do
            it("says that the outcome is unknown: " .. (answer.status or answer.kind), function()
                world = fake.world { answers = { answer } }
                local err = fails(client_of { method = "POST", url = "http://h/x" })
                assert.matches("the outcome is unknown", err.message)
                assert.matches("look whether it is there", err.hint)
                assert.equal(1, #world.requests)
            end)
        end

        it("is certain where the server refused it", function()
            world = fake.world { answers = { { status = 400 } } }
            assert.not_matches("unknown", fails(client_of { method = "POST", url = "http://h/x" }).message)
        end)
    end)

    it("takes a 404 after a repeated DELETE for success", function()
        world = fake.world { answers = { { status = 503 }, { status = 404 } } }
        assert.is_true(client_of({ method = "DELETE", url = "http://h/x" }):predict())
    end)

    it("takes a 404 to the first DELETE for what it is", function()
        world = fake.world { answers = { { status = 404 } } }
        assert.equal(404, fails(client_of { method = "DELETE", url = "http://h/x" }).http_status)
    end)

    describe("waiting", function()
        it("doubles from the factor on, up to 120 s", function()
            world = fake.world { answers = { { status = 503 } }, environ = { MLFLOW_HTTP_REQUEST_MAX_RETRIES = "8" } }
            local err = fails(get { total_timeout = 1000 })
            assert.same({ 2, 4, 8, 16, 32, 64, 120, 120 }, world.sleeps)
            assert.equal(9, err.attempts)
            assert.is_true(err.retryable)
            assert.matches("9 attempts in 366 s", err.message)
        end)

        it("is random from 0 on", function()
            world = fake.world { answers = { { status = 503 }, OK }, random = 0.75 }
            get():predict()
            assert.same({ 0.5 }, world.sleeps)
        end)

        it("follows factor and jitter of the environment", function()
            world = fake.world {
                answers = { { status = 503 }, { status = 503 }, OK }, random = 0.5,
                environ = { MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0.5", MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = "0" },
            }
            get():predict()
            assert.same({ 0.5, 1.0 }, world.sleeps)
        end)

        it("is told on stderr, one line each", function()
            world = fake.world { answers = { { status = 429, headers = { ["retry-after"] = "2" } }, REFUSED, OK } }
            get():predict()
            assert.same({
                "moonflow: retrying in 2 s (429 from http://h, Retry-After: 2) 1/7",
                "moonflow: retrying in 4 s (can not connect to http://h: Connection refused) 2/7",
            }, world.lines)
        end)

        it("ends with max_retries of the call, the client, or the environment", function()
            local cases = {
                { nil, nil, 2 },
                { nil, 1, 1 },
                { { options = { max_retries = 0 } }, 1, 0 },
            }
            for _, case in ipairs(cases) do
                world = fake.world { answers = { { status = 503 } },
                    environ = { MLFLOW_HTTP_REQUEST_MAX_RETRIES = "2" } }
                fails(get { max_retries = case[2] }, case[1])
                assert.equal(case[3], #world.sleeps)
                world:close()
            end
            world = fake.world {}
        end)

        it("is refused beyond MLflow's limits", function()
            world = fake.world {}
            assert.equal("config", fails(get { max_retries = 10 }).kind)
            assert.matches("max_retries value %(10%)", fails(get(), { options = { max_retries = 10 } }).message)
        end)
    end)

    describe("Retry-After", function()
        -- the clock of the fake world says 1700001000: Tue, 14 Nov 2023 22:30:00 GMT
        local cases = {
            { "0", 0 },
            { "3", 3 },
            { "1.5", 1.5 },
            { "Tue, 14 Nov 2023 22:30:10 GMT", 10 },
            { "Tue, 14 Nov 2023 22:00:00 GMT", 0 },
            { "-1", 2 },
            { "abc", 2 },
            { "nan", 2 },
            { "1e999", 2 },
            { "", 2 },
            { "2, 5", 2 },
            { ("9"):rep(30), 2 },
            { "Fri, 31 Dec 9999 23:59:59 GMT", 2 },
        }
        for _, case in ipairs(cases) do
            it(("%q waits %g s"):format(case[1], case[2]), function()
                world = fake.world { answers = { { status = 429, headers = { ["retry-after"] = case[1] } }, OK } }
                get():predict()
                assert.equal(1, #world.sleeps)
                assert.is_true(math.abs(world.sleeps[1] - case[2]) < 0.001, world.sleeps[1])
            end)
        end

        it("beyond 120 s ends the call at once and says so", function()
            world = fake.world { answers = { { status = 503, headers = { ["retry-after"] = "121" } } } }
            assert.matches("the server asks to wait 121 s", fails(get()).message)
            assert.same({}, world.sleeps)
        end)

        it("beyond the deadline ends the call at once and says so", function()
            world = fake.world { answers = { { status = 503, headers = { ["retry-after"] = "20" } } } }
            assert.matches("only 10 s are left", fails(get { total_timeout = 10 }).message)
            assert.same({}, world.sleeps)
        end)

        it("is ignored where MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER is false", function()
            world = fake.world {
                answers = { { status = 503, headers = { ["retry-after"] = "20" } }, OK },
                environ = { MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER = "false" },
            }
            get():predict()
            assert.same({ 2 }, world.sleeps)
        end)
    end)

    describe("time", function()
        it("comes from the call, the client, then the request's variable", function()
            local cases = {
                { { options = { timeout = 1, connect_timeout = 2 } }, { timeout = 5 }, 1 },
                { nil, { timeout = 5 }, 5 },
                { nil, nil, 77 },
            }
            for _, case in ipairs(cases) do
                world = fake.world { answers = { OK }, environ = { MLFLOW_HTTP_REQUEST_TIMEOUT = "77" } }
                get(case[2]):predict(case[1])
                assert.equal(case[3], world.requests[1].first_byte_timeout)
                assert.equal(case[3], world.requests[1].idle_timeout)
                world:close()
            end
            world = fake.world {}
        end)

        it("is one deadline over all attempts", function()
            world = fake.world { answers = { { status = 503, takes = 3 }, { status = 503, takes = 3 }, OK } }
            get { total_timeout = 20 }:predict()
            assert.same({ 20, 15, 8 }, {
                world.requests[1].total_timeout, world.requests[2].total_timeout, world.requests[3].total_timeout,
            })
        end)

        it("that is too short for another attempt ends the call", function()
            world = fake.world { answers = { { status = 503, takes = 3 } } }
            local err = fails(get { total_timeout = 6 })
            assert.matches("no time is left for another attempt", err.message)
            assert.equal(2, err.attempts)
        end)

        it("of predict is MLFLOW_DEPLOYMENT_PREDICT_*", function()
            world = fake.world {
                answers = { OK },
                environ = { MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT = "30", MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT = "90" },
            }
            client_of({ method = "POST", url = "http://h/x", policy = "predict", json = {} }):predict()
            assert.equal(30, world.requests[1].first_byte_timeout)
            assert.equal(90, world.requests[1].total_timeout)
        end)

        it("for all attempts is never less than for one, unless somebody said so", function()
            world = fake.world { answers = { OK } }
            get { timeout = 900 }:predict()
            assert.equal(900, world.requests[1].total_timeout)
        end)
    end)

    describe("the retry budget", function()
        it("ends repeating where most requests fail", function()
            world = fake.world { answers = { { status = 503 } }, environ = { MLFLOW_HTTP_REQUEST_MAX_RETRIES = "1" } }
            local client = get()
            local last
            for _ = 1, 300 do
                last = fails(client)
            end
            assert.equal(400, #world.requests) -- 500 / 5 repetitions, no more
            assert.matches("too many requests to this server failed lately", last.message)
        end)

        it("is filled again by success, and is of one origin", function()
            world = fake.world { answers = { { status = 503 } }, environ = { MLFLOW_HTTP_REQUEST_MAX_RETRIES = "1" } }
            local client = get()
            for _ = 1, 101 do
                fails(client)
            end
            world.answers = { OK }
            for _ = 1, 5 do
                client:predict()
            end
            world.answers = { { status = 503 } }
            local before = #world.sleeps
            fails(client)
            assert.equal(before + 1, #world.sleeps)
            fails(client)
            assert.equal(before + 1, #world.sleeps)
            fails(client_of { method = "GET", url = "http://other/x" })
            assert.equal(before + 2, #world.sleeps)
        end)
    end)

    describe("what is sent", function()
        it("has a JSON body and its type, or neither", function()
            world = fake.world { answers = { OK } }
            client_of({ method = "POST", url = "http://h/x", policy = "predict", json = { a = 1 } }):predict()
            client_of({ method = "POST", url = "http://h/x", policy = "predict" }):predict()
            assert.equal('{"a":1}', world.requests[1].body)
            assert.equal("application/json", world.requests[1].headers["Content-Type"])
            assert.is_nil(world.requests[2].body)
            assert.is_nil(world.requests[2].headers["Content-Type"])
        end)

        it("has headers of the client, then the request, then the call", function()
            world = fake.world { answers = { OK } }
            local client = client_of({ method = "GET", url = "http://h/x", headers = { B = "request", C = "request" } },
                { headers = { A = "client", B = "client", ["user-agent"] = "mine" } })
            client:predict { options = { headers = { c = "call" } } }
            local headers = world.requests[1].headers
            assert.same({ "client", "request", "call" }, { headers.A, headers.B, headers.c })
            assert.is_nil(headers.C)
            assert.equal("mine", headers["user-agent"])
            assert.is_nil(headers["User-Agent"])
        end)

        it("names what can not be encoded", function()
            world = fake.world { answers = { OK } }
            local err = fails(client_of { method = "POST", url = "http://h/x", json = { f = print } })
            assert.equal("usage", err.kind)
            assert.equal("predict", err.operation)
            assert.equal(0, #world.requests)
        end)

        it("has no field that is unknown", function()
            world = fake.world { answers = { OK } }
            local err = fails(client_of { method = "GET", ulr = "http://h/x" })
            assert.equal('"ulr" is not a field of a request', err.message)
            assert.equal('did you mean "url"?', err.hint)
        end)

        it("follows a change of the environment", function()
            world = fake.world { answers = { OK } }
            local client = get()
            client:predict()
            world.env.MLFLOW_HTTP_REQUEST_TIMEOUT = "9"
            client:predict()
            assert.equal(120, world.requests[1].first_byte_timeout)
            assert.equal(9, world.requests[2].first_byte_timeout)
        end)

        it("goes nowhere while a variable asks for something else", function()
            world = fake.world { answers = { OK }, environ = { MLFLOW_TRACKING_AWS_SIGV4 = "true" } }
            assert.equal("config", fails(get()).kind)
            assert.equal(0, #world.requests)
        end)
    end)

    describe("proxies", function()
        local function proxy_of(environ, url, options)
            world = fake.world { answers = { OK }, environ = environ }
            client_of({ method = "GET", url = url or "https://h/x" }, options):predict()
            local request = world.requests[1]
            world:close()
            return request.proxy, request.no_proxy
        end

        it("come from the variables, small letters first", function()
            assert.equal("p:1", (proxy_of { https_proxy = "p:1", HTTPS_PROXY = "p:2" }))
            assert.equal("p:2", (proxy_of { HTTPS_PROXY = "p:2" }))
            assert.equal("p:3", (proxy_of { ALL_PROXY = "p:3" }))
            assert.is_nil((proxy_of { http_proxy = "p:1" }))
            assert.equal("p:1", (proxy_of({ http_proxy = "p:1" }, "http://h/x")))
            assert.same({ "p:1", "a,b" }, { proxy_of { https_proxy = "p:1", NO_PROXY = "a,b" } })
            world = fake.world {}
        end)

        it("do not come from a header of a CGI program", function()
            assert.equal("p:1", (proxy_of({ HTTP_PROXY = "p:1" }, "http://h/x")))
            assert.is_nil((proxy_of({ HTTP_PROXY = "p:1", REQUEST_METHOD = "GET" }, "http://h/x")))
            world = fake.world {}
        end)

        it("are never used for this machine", function()
            for _, host in ipairs { "127.0.0.1:5000", "localhost", "[::1]:80" } do
                assert.is_nil((proxy_of({ http_proxy = "p:1", ALL_PROXY = "p:2" }, "http://" .. host .. "/x")))
            end
            world = fake.world {}
        end)

        it("are the client's option first, even none", function()
            assert.equal("q:1", (proxy_of({ https_proxy = "p:1" }, nil, { proxy = "q:1" })))
            assert.equal("", (proxy_of({ https_proxy = "p:1" }, nil, { proxy = "" })))
            world = fake.world {}
        end)
    end)

    describe("certificates", function()
        local file, dir = arg[0], "/tmp"

        local function tls(environ, options)
            world = fake.world { answers = { OK }, environ = environ }
            local client = client_of({ method = "GET", url = "https://h/x" }, options)
            local ok, err = pcall(client.predict, client)
            local request = world.requests[1]
            local lines = world.lines
            world:close()
            return ok and request or err, lines
        end

        it("come from the option, MLflow's variable, then the usual ones", function()
            assert.equal(file, tls({ CURL_CA_BUNDLE = file }).ca_file)
            assert.equal(file, tls({ REQUESTS_CA_BUNDLE = file, CURL_CA_BUNDLE = "/none" }).ca_file)
            assert.equal(dir, tls({ MLFLOW_TRACKING_SERVER_CERT_PATH = dir, CURL_CA_BUNDLE = "/none" }).ca_path)
            assert.equal(file, tls({ MLFLOW_TRACKING_SERVER_CERT_PATH = "/none" }, { ca_file = file }).ca_file)
            world = fake.world {}
        end)

        it("that can not be read are an error that names the variable", function()
            local err = tls { REQUESTS_CA_BUNDLE = "/no/such/file" }
            assert.equal("config", err.kind)
            assert.matches('"/no/such/file" can not be read\nnamed by REQUESTS_CA_BUNDLE', err.message, 1, true)
            world = fake.world {}
        end)

        it("are not looked at with MLFLOW_TRACKING_INSECURE_TLS, which is warned of", function()
            local request, lines = tls { MLFLOW_TRACKING_INSECURE_TLS = "true" }
            assert.is_true(request.insecure_tls)
            assert.matches("servers are not verified", lines[1])
            world = fake.world {}
        end)

        it("and MLFLOW_TRACKING_INSECURE_TLS contradict each other", function()
            local err = tls { MLFLOW_TRACKING_INSECURE_TLS = "true", MLFLOW_TRACKING_SERVER_CERT_PATH = file }
            assert.matches("'ignore_tls_verification' is true", err.message)
            world = fake.world {}
        end)

        it("of the client are one file with the key", function()
            local request = tls { MLFLOW_TRACKING_CLIENT_CERT_PATH = file }
            assert.equal(file, request.client_cert)
            assert.is_nil(request.client_key)
            world = fake.world {}
        end)
    end)

    describe("pages", function()
        local function list(answers)
            world = fake.world { answers = answers }
            return client_of { method = "GET", url = "http://h/list", list = "items" }
        end

        local function targets()
            local urls = {}
            for i, request in ipairs(world.requests) do
                urls[i] = request.url
            end
            return urls
        end

        it("are fetched until there is no token", function()
            local client = list {
                { json = { items = { 1, 2 }, next_page_token = "a b/=" } },
                { json = { items = { 3 }, next_page_token = "c" } },
                { body = '{"items": [4], "next_page_token": null}' },
            }
            assert.same({ 1, 2, 3, 4 }, client:list_endpoints())
            assert.same({
                "http://h/list", "http://h/list?page_token=a+b%2F%3D", "http://h/list?page_token=c",
            }, targets())
        end)

        it("end with an empty token, and with one that came before", function()
            assert.same({ 1 }, list({ { json = { items = { 1 }, next_page_token = "" } } }):list_endpoints())
            world:close()
            assert.same({ 1, 1 }, list({ { json = { items = { 1 }, next_page_token = "again" } } }):list_endpoints())
        end)

        it("without the list are an empty list, which stays one", function()
            local items = list({ { body = "{}" } }):list_endpoints()
            assert.same(0, #items)
            assert.equal("[]", world.json.encode(items))
        end)

        local wrong = {
            { "a text for the list", { json = { items = "x" } } },
            { "a text for the answer", { body = '"x"' } },
            { "a number for the token", { json = { items = {}, next_page_token = 5 } } },
            { "a token beyond 8 KiB", { json = { items = {}, next_page_token = ("x"):rep(8193) } } },
        }
        for _, case in ipairs(wrong) do
            it("refuse " .. case[1], function()
                local client = list { case[2] }
                assert.equal("decode", failure(client.list_endpoints, client).kind)
            end)
        end

        it("end after 10,000", function()
            local n = 0
            local client = list {
                function()
                    n = n + 1
                    return { body = ('{"items": [], "next_page_token": "%d"}'):format(n) }
                end,
            }
            assert.matches("more than 10000 pages", failure(client.list_endpoints, client).message)
            assert.equal(10000, #world.requests)
        end)

        it("share one deadline", function()
            local client = list {
                { json = { items = {}, next_page_token = "a" }, takes = 4 },
                { json = { items = {} } },
            }
            client:list_endpoints { options = { total_timeout = 10 } }
            assert.same({ 10, 6 }, { world.requests[1].total_timeout, world.requests[2].total_timeout })
        end)
    end)
end)
