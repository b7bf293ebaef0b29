--- moonflow.backend.openai and moonflow.openai: what is sent where, who asks, and what endpoints are.
-- Failures and repetitions have a spec of their own, and so have Azure and embeddings.
local auth = require "moonflow.auth"
local json = require "moonflow.json"
local openai = require "support.openai"

local CHAT, KEY = openai.CHAT, openai.KEY
local OK = { json = { choices = {} } }

describe("moonflow.backend.openai", function()
    local world, client

    local function open(...)
        world, client = openai.open(...)
    end

    after_each(function()
        world:close()
    end)

    --- The error object that a function raises.
    local function raised(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    local function failure(method, ...)
        return raised(client[method], client, ...)
    end

    local function ask(options)
        return client:predict { endpoint = "m", inputs = CHAT, options = options }
    end

    local function ask_in_vain(options)
        return failure("predict", { endpoint = "m", inputs = CHAT, options = options })
    end

    describe("predict", function()
        it("sends every input, with the endpoint as model", function()
            open(OK)
            assert.same({ choices = {} }, client:predict {
                endpoint = "gpt-4o",
                inputs = {
                    messages = CHAT.messages, temperature = 0.5, n = 2, stop = json.array {}, user = json.null,
                    tools = { { type = "function", ["function"] = { name = "f" } } }, unknown_to_all = true,
                },
            })
            local request = world.requests[1]
            assert.equal("POST", request.method)
            assert.equal("https://api.openai.com/v1/chat/completions", request.url)
            assert.same({
                model = "gpt-4o", messages = CHAT.messages, temperature = 0.5, n = 2, stop = {}, user = json.null,
                tools = { { type = "function", ["function"] = { name = "f" } } }, unknown_to_all = true,
            }, json.decode(request.body))
            assert.matches('"stop":[]', request.body, 1, true)
            assert.equal("application/json", request.headers["Content-Type"])
            assert.equal("application/json", request.headers.Accept)
        end)

        it("leaves the caller's inputs as they are", function()
            open(OK)
            local inputs = { messages = CHAT.messages }
            client:predict { endpoint = "m", inputs = inputs }
            assert.same({ messages = CHAT.messages }, inputs)
        end)

        it("sends the model among the inputs rather than the endpoint", function()
            open(OK)
            client:predict { endpoint = "m", inputs = { prompt = "x", model = "other" } }
            client:predict { inputs = { prompt = "x", model = "other" } }
            for i = 1, 2 do
                assert.equal("other", json.decode(world.requests[i].body).model)
            end
        end)

        it("takes MLflow's order of arguments, and no notice of deployment_name", function()
            open(OK)
            client:predict("ignored", { prompt = "x" }, "m")
            assert.same({ prompt = "x", model = "m" }, json.decode(world.requests[1].body))
        end)

        for what, args in pairs {
            ["no endpoint"] = { inputs = CHAT },
            ["a model that is no string"] = { endpoint = "m", inputs = { prompt = "x", model = json.null } },
            ["no inputs"] = { endpoint = "m" },
            ["inputs that are a text"] = { endpoint = "m", inputs = "x" },
            ["inputs that are a list"] = { endpoint = "m", inputs = { "x", prompt = "x" } },
            ["a number that JSON does not have"] = { endpoint = "m", inputs = { prompt = "x", temperature = 0 / 0 } },
            ["an infinite number"] = { endpoint = "m", inputs = { prompt = "x", temperature = math.huge } },
            ["a function"] = { endpoint = "m", inputs = { prompt = print } },
            ["bytes that are no text"] = { endpoint = "m", inputs = { prompt = "\xFF" } },
        } do
            it("refuses " .. what, function()
                open(OK)
                assert.equal("usage", failure("predict", args).kind)
                assert.equal(0, #world.requests)
            end)
        end

        it("names what is wrong in inputs", function()
            open(OK)
            assert.matches("$.temperature", failure("predict", {
                endpoint = "m", inputs = { prompt = "x", temperature = 0 / 0 },
            }).message, 1, true)
        end)

        it("names the nearest argument, option and task", function()
            open(OK)
            assert.matches("endpoint", failure("predict", { endpont = "m", inputs = CHAT }).hint)
            assert.matches("max_retries", ask_in_vain({ max_retry = 1 }).hint)
            assert.matches("llm/v1/chat", failure("predict", { endpoint = "m", inputs = CHAT, task = "chat" }).hint)
            local err = raised(world.deployments.get_deploy_client, "openai", { api_kee = "x" })
            assert.matches("api_key", err.hint)
            assert.equal("usage", err.kind)
        end)
    end)

    describe("the route", function()
        local ROUTES = {
            { "messages", CHAT, "/chat/completions" },
            { "a prompt", { prompt = "x" }, "/completions" },
            { "prompts", { prompt = { "x", "y" } }, "/completions" },
            { "an input", { input = "x" }, "/embeddings" },
            { "a list of inputs", { input = { "x", "y" } }, "/embeddings" },
            { "tokens", { input = { 1, 2 } }, "/embeddings" },
            { "lists of tokens", { input = { { 1, 2 }, { 3 } } }, "/embeddings" },
            { "an input with dimensions", { input = "x", dimensions = 2 }, "/embeddings" },
            { "an input with instructions", { input = "x", instructions = "i" }, "/responses" },
            { "an input with tools", { input = "x", tools = {} }, "/responses" },
            { "an input after a response", { input = "x", previous_response_id = "r" }, "/responses" },
            { "messages as input", { input = CHAT.messages }, "/responses" },
            { "messages and an input", { messages = CHAT.messages, input = "x" }, "/chat/completions" },
            { "a task", { messages = CHAT.messages, prompt = "x" }, "/completions", "llm/v1/completions" },
            { "the task of responses", { input = "x" }, "/responses", "llm/v1/responses" },
            { "the task of responses, the prompt stored", { prompt = { id = "p" } }, "/responses", "llm/v1/responses" },
            { "the task of embeddings", { input = CHAT.messages, tools = {} }, "/embeddings", "llm/v1/embeddings" },
        }
        for _, row in ipairs(ROUTES) do
            it("follows from " .. row[1], function()
                local count = type(row[2].input) == "table" and #row[2].input or 0
                open { json = { data = json.array(count == 1 and { {} } or { {}, {} }) } }
                client:predict { endpoint = "m", inputs = row[2], task = row[4] }
                assert.equal("https://api.openai.com/v1" .. row[3], world.requests[1].url)
            end)
        end

        --- method, arguments, words of the message
        local REFUSED = {
            { "predict", { inputs = {} }, 'inputs with "messages"' },
            { "predict", { inputs = { text = "x" } }, 'inputs with "messages"' },
            { "predict", { inputs = CHAT, task = "llm/v1/rerank" }, '"llm/v1/rerank" is not a task' },
            { "predict", { inputs = CHAT, task = "" }, '"" is not a task' },
            { "predict", { inputs = CHAT, task = "llm/v1/completions" }, 'needs "prompt" among the inputs' },
            { "predict", { inputs = { prompt = "x" }, task = "llm/v1/chat" }, 'needs "messages" among the inputs' },
            { "predict", { inputs = CHAT, task = "llm/v1/embeddings" }, 'needs "input" among the inputs' },
            { "predict", { inputs = CHAT, task = 5 }, '"task" must be a string' },
            { "predict_stream", { inputs = { input = "x" }, task = "llm/v1/embeddings" }, "has no stream" },
            { "predict_stream", { inputs = { text = "x" } }, "predict_stream needs inputs with" },
        }
        for _, row in ipairs(REFUSED) do
            it("is refused: " .. row[3], function()
                open(OK)
                row[2].endpoint = "m"
                local err = failure(row[1], row[2])
                assert.equal("usage", err.kind)
                assert.matches(row[3], err.message, 1, true)
                assert.equal(0, #world.requests)
            end)
        end
    end)

    describe("the base URL", function()
        local API, BASE = "http://localhost:1/api", "http://localhost:2/base"
        --- target, environment, base URL
        local CASES = {
            { "openai", {}, "https://api.openai.com/v1" },
            { "openai:", {}, "https://api.openai.com/v1" },
            { "openai:/gpt-4o", { OPENAI_API_BASE = API }, API },
            { "openai", { OPENAI_BASE_URL = BASE }, BASE },
            { "openai", { OPENAI_API_BASE = API, OPENAI_BASE_URL = BASE }, API },
            { "openai:http://localhost:3", { OPENAI_API_BASE = API, OPENAI_BASE_URL = BASE }, "http://localhost:3" },
            { "openai", { OPENAI_API_BASE = "", OPENAI_BASE_URL = BASE }, BASE },
            { "openai", { OPENAI_API_BASE = "", OPENAI_BASE_URL = "" }, "https://api.openai.com/v1" },
            { "openai", { OPENAI_API_BASE = API .. "///" }, API },
            { "openai:https://h:8443/a/b/v1/", {}, "https://h:8443/a/b/v1" },
            { "openai:http://[::1]:8000/v1", {}, "http://[::1]:8000/v1" },
            { "openai:https://h", {}, "https://h" },
            { "openai:HTTPS://h/v1", {}, "HTTPS://h/v1" },
            { "openai:https://h/v1#part", {}, "https://h/v1" },
            { "openai", { AZURE_OPENAI_ENDPOINT = "https://r.openai.azure.com" }, "https://api.openai.com/v1" },
        }
        for _, case in ipairs(CASES) do
            it(("of %s is %s"):format(case[1], case[3]), function()
                case[2].OPENAI_API_KEY = KEY
                open(OK, case[1], nil, case[2])
                ask()
                assert.equal(case[3] .. "/chat/completions", world.requests[1].url)
            end)
        end

        it("is read anew when a script has changed the environment", function()
            open(OK)
            ask()
            world.env.OPENAI_API_BASE = API
            ask()
            assert.equal(API .. "/chat/completions", world.requests[2].url)
        end)

        --- target, words of the message, hint
        local TARGETS = {
            { "openai:localhost:8000", "names no base URL", "openai:http://localhost:8000" },
            { "openai://localhost:8000/v1", "names no base URL", "openai:http://localhost:8000/v1" },
            { "openai:gpt-4o", "the target names no base URL", "openai:http://HOST:PORT/v1" },
            { "openai:a b.c", "names no base URL", "openai:http://HOST:PORT/v1" },
            { "openai:ftp://h:0/v1", "names no base URL", "openai:http://HOST:PORT/v1" },
            { "openai: localhost:8000 ", "names no base URL", "openai:http://localhost:8000" },
            { "openai:ftp://h/v1", "names no base URL", "openai:http://h/v1" },
            { "openai:ftp://user:hunter2-secret@h/v1", "names no base URL", "openai:http://h/v1" },
            { "openai:https://h/v1?api-version=1", "a base URL has no query" },
            { "openai:https://user:hunter2-secret@h/v1", "holds a user name or a password" },
            { "openai:user:hunter2-secret@h/v1", "names no base URL", "openai:http://h/v1" },
            { "openai:joe:hunter2@h/v1", '"openai:h/v1" names no base URL', "openai:http://h/v1" },
            { "openai:joe:1/hunter2@h/v1", "names no base URL", "openai:http://h/v1" },
            { "openai://joe:hunter2@h/v1", "names no base URL", "openai:http://h/v1" },
            { "openai:https://joe:p/hunter2@h/v1", "port" },
            { "openai:hunter2-key", "the target names no base URL" },
            { "openai://hunter2-key", "the target names no base URL" },
            { "openai:https://", "no host" },
            { "openai:https://a b/v1", "a space" },
            { "openai:https://h:0/v1", "port" },
        }
        for _, case in ipairs(TARGETS) do
            it("is not " .. case[1], function()
                open(OK)
                local err = raised(world.deployments.get_deploy_client, case[1])
                assert.equal("config", err.kind)
                assert.matches(case[2], err.message, 1, true)
                assert.equal(case[3] or err.hint, err.hint)
                assert.is_nil((tostring(err) .. err.target .. (err.hint or "")):find("hunter2", 1, true))
            end)
        end

        it("may have spaces around it", function()
            open(OK, "openai: http://localhost:1/v1 ")
            ask()
            assert.equal("http://localhost:1/v1/chat/completions", world.requests[1].url)
        end)

        for _, value in ipairs { "localhost:1", "ftp://h", "https://h/v1?x=1", "https://u:hunter2-secret@h/v1", "x" } do
            for _, name in ipairs { "OPENAI_API_BASE", "OPENAI_BASE_URL" } do
                it(("in %s is not %s"):format(name, value), function()
                    open(OK, nil, nil, { OPENAI_API_KEY = KEY, [name] = value })
                    local err = ask_in_vain()
                    assert.equal("config", err.kind)
                    assert.matches(name, err.message)
                    assert.is_nil(tostring(err):find("hunter2", 1, true))
                    assert.equal(0, #world.requests)
                end)
            end
        end
    end)

    describe("the key", function()
        it("is that of the options, else OPENAI_API_KEY, and is a secret", function()
            local cases = {
                { { api_key = "sk-option-0123456789" }, "the option api_key" },
                { { token = "sk-option-0123456789" }, "the option token" },
                { { api_key = auth.secret "sk-option-0123456789" }, "the option api_key" },
                { {}, "OPENAI_API_KEY" },
            }
            for _, case in ipairs(cases) do
                open({ status = 401 }, nil, case[1])
                local err = ask_in_vain()
                assert.equal("the credential came from " .. case[2], err.hint)
                assert.is_true(auth.is_secret(world.requests[1].headers.Authorization))
                assert.is_nil(world.requests[1].headers["api-key"])
                world:close()
            end
            open(OK)
        end)

        for what, environ in pairs { ["not set"] = {}, ["is empty"] = { OPENAI_API_KEY = "" } } do
            it(("is missing where the variable %s: nothing is sent"):format(what), function()
                open(OK, nil, nil, environ)
                local err = ask_in_vain()
                assert.equal("auth", err.kind)
                assert.equal(4, world.error.exit_code(err))
                assert.matches("OPENAI_API_KEY environment variable " .. what, err.message)
                assert.matches("api_key and token", err.message)
                assert.matches("export OPENAI_API_KEY", err.hint)
                assert.equal("auth", failure("list_endpoints").kind)
                assert.equal("auth", failure("get_endpoint", "m").kind)
                assert.equal("auth", failure("predict_stream", { endpoint = "m", inputs = CHAT }).kind)
                assert.equal(0, #world.requests)
            end)
        end

        it("is not needed on this machine", function()
            for _, host in ipairs { "localhost", "127.0.0.1", "[::1]" } do
                open(OK, ("openai:http://%s:8000/v1"):format(host), nil, {})
                ask()
                assert.is_nil(world.requests[1].headers.Authorization)
                world:close()
            end
            open({ status = 401 }, "openai:http://localhost:8000/v1", nil, {})
            assert.equal("no credential was sent; looked at the options api_key and token, and OPENAI_API_KEY",
                ask_in_vain().hint)
        end)

        it("is only one", function()
            open(OK)
            for _, options in ipairs {
                { api_key = "a", token = "b" }, { api_key = "a", username = "u", password = "p" }, { username = "u" },
                { api_key = 5 }, { api_type = "aws" },
            } do
                assert.equal("usage", raised(world.deployments.get_deploy_client, "openai", options).kind)
            end
        end)

        it("with a line end is refused, and not shown", function()
            open(OK, nil, nil, { OPENAI_API_KEY = "sk-one\r\nX-Other: two" })
            local err = ask_in_vain()
            assert.equal(4, world.error.exit_code(err))
            assert.matches("it came from OPENAI_API_KEY", err.message)
            assert.is_nil(tostring(err):find("sk-one", 1, true))
            assert.equal(0, #world.requests)
        end)

        for _, name in ipairs { "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN" } do
            it(("is in no message where it was put elsewhere too: %s"):format(name), function()
                for _, where in ipairs { "OPENAI_API_TYPE", "OPENAI_TIMEOUT", "OPENAI_MAX_RETRIES" } do
                    open(OK, nil, nil, { OPENAI_API_KEY = "x", [name] = KEY, [where] = KEY })
                    local err = ask_in_vain()
                    assert.equal("config", err.kind)
                    assert.matches(where, err.message, 1, true)
                    assert.is_nil(tostring(err):find(KEY, 1, true))
                    world:close()
                end
                open(OK, nil, nil, { [name] = KEY })
                local err = raised(world.deployments.get_deploy_client, "openai:" .. KEY .. ".x:1")
                assert.is_nil((tostring(err) .. err.target):find(KEY, 1, true))
            end)
        end

        it("is not shown as a type of API", function()
            open(OK, nil, nil, { OPENAI_API_TYPE = "hunter2-key" })
            local err = ask_in_vain()
            assert.matches("OPENAI_API_TYPE must be openai, azure or azure_ad, got something else", err.message, 1,
                true)
            err = raised(world.deployments.get_deploy_client, "openai", { api_type = "hunter2-key" })
            assert.is_nil(tostring(err):find("hunter2", 1, true))
        end)

        --- options, environment, what the message names
        local BROKEN = {
            { { organization = "a\r\nX: y" }, {}, "the option organization" },
            { { project = "a\nb" }, {}, "the option project" },
            { {}, { OPENAI_ORG_ID = "a\0b" }, "OPENAI_ORG_ID" },
            { {}, { OPENAI_ORGANIZATION = "a\nb" }, "OPENAI_ORGANIZATION" },
            { {}, { OPENAI_PROJECT_ID = "a\127" }, "OPENAI_PROJECT_ID" },
        }
        for _, case in ipairs(BROKEN) do
            it("is not accompanied by what holds a control byte: " .. case[3], function()
                case[2].OPENAI_API_KEY = KEY
                open(OK, nil, case[1], case[2])
                local err = ask_in_vain()
                assert.equal("config", err.kind)
                assert.matches(case[3] .. " holds a control byte", err.message, 1, true)
                assert.equal(0, #world.requests)
            end)
        end

        it("is accompanied by organization and project", function()
            local cases = {
                { {}, { OPENAI_ORG_ID = "org-1", OPENAI_PROJECT_ID = "proj-1" }, "org-1", "proj-1" },
                { {}, { OPENAI_ORGANIZATION = "org-2" }, "org-2" },
                { {}, { OPENAI_ORG_ID = "org-1", OPENAI_ORGANIZATION = "org-2" }, "org-1" },
                { { organization = "org-3", project = "proj-3" }, { OPENAI_ORG_ID = "org-1" }, "org-3", "proj-3" },
                { { organization = "org-3", token = "sk-option-01234567" }, { OPENAI_PROJECT_ID = "p" }, "org-3", "p" },
                { {}, { OPENAI_ORG_ID = "", OPENAI_PROJECT_ID = "" } },
            }
            for _, case in ipairs(cases) do
                case[2].OPENAI_API_KEY = KEY
                open(OK, nil, case[1], case[2])
                ask()
                local headers = world.requests[1].headers
                assert.same({ case[3] or false, case[4] or false },
                    { headers["OpenAI-Organization"] or false, headers["OpenAI-Project"] or false })
                world:close()
            end
            open(OK)
        end)

        it("is in no error, whatever the server repeats", function()
            open {
                status = 401, reason = "no " .. KEY,
                headers = { ["x-request-id"] = KEY, ["content-type"] = "application/json" },
                json = {
                    error = { message = "Incorrect API key provided: " .. KEY, code = "invalid_api_key", type = KEY },
                    [KEY] = { KEY },
                },
            }
            local err = ask_in_vain()
            local shown = { tostring(err), tostring(client), table.concat(world.lines, "\n") }
            for name, value in pairs(err) do
                shown[#shown + 1] = tostring(name) .. tostring(value)
            end
            shown[#shown + 1] = json.encode(err.body)
            assert.is_nil(table.concat(shown, "\n"):find(KEY, 1, true))
            assert.matches("Incorrect API key provided: <redacted> (invalid_api_key)", err.message, 1, true)
        end)
    end)

    describe("endpoints", function()
        it("are the models, each with its name", function()
            open({ json = { object = "list", data = { { id = "a", owned_by = "me" }, { id = "b" } } } },
                "openai:http://localhost:8000/v1/")
            local models = client:list_endpoints()
            assert.same({ { id = "a", name = "a", owned_by = "me" }, { id = "b", name = "b" } }, models)
            assert.equal("GET", world.requests[1].method)
            assert.equal("http://localhost:8000/v1/models", world.requests[1].url)
            assert.is_nil(world.requests[1].headers["Content-Type"])
        end)

        it("are an empty list where there are none", function()
            for _, data in ipairs { "[]", "null" } do
                open { body = ('{"object": "list", "data": %s}'):format(data) }
                assert.equal("[]", json.encode(client:list_endpoints()))
                world:close()
            end
            open(OK)
        end)

        local NAMES = {
            { "gpt-4o", "gpt-4o" }, { "org/model", "org%2Fmodel" }, { "a b", "a%20b" }, { "a?b#c", "a%3Fb%23c" },
            { "../x", "..%2Fx" }, { "é", "%C3%A9" }, { "%2F", "%252F" },
        }
        for _, case in ipairs(NAMES) do
            it("are got by name: " .. case[1], function()
                open { json = { id = case[1], object = "model" } }
                assert.same({ id = case[1], name = case[1], object = "model" }, client:get_endpoint(case[1]))
                assert.equal("https://api.openai.com/v1/models/" .. case[2], world.requests[1].url)
            end)
        end

        for _, name in ipairs { "", ".", "..", "a\nb", "a\0b" } do
            it(("are not got by %q"):format(name), function()
                open(OK)
                assert.equal("usage", failure("get_endpoint", name).kind)
                assert.equal(0, #world.requests)
            end)
        end

        for method, bodies in pairs {
            list_endpoints = {
                "[]", "{}", "5", "null", '"x"', '{"data":5}', '{"data":[5]}', '{"data":[{}]}', '{"data":[{"id":5}]}',
                '{"data":[null]}', '{"error":{"message":"no"}}',
            },
            get_endpoint = { "[]", "{}", "5", "null", '"x"', '{"id":null}', '{"error":{"message":"no"}}' },
        } do
            for _, body in ipairs(bodies) do
                it(("are not what %s is answered: %s"):format(method, body), function()
                    open { body = body }
                    local err = failure(method, method == "get_endpoint" and { endpoint = "m" } or {})
                    assert.equal("decode", err.kind)
                    assert.equal(6, world.error.exit_code(err))
                end)
            end
        end

        it("are neither made, changed nor deleted", function()
            open(OK)
            for _, method in ipairs { "create_endpoint", "delete_endpoint", "create_deployment", "explain" } do
                local args = {}
                for _, name in ipairs(client.signatures[method].required) do
                    args[name] = "x"
                end
                local err = failure(method, args)
                assert.equal("unsupported", err.kind)
                assert.equal("openai offers predict, predict_stream, list_endpoints, get_endpoint", err.hint)
            end
        end)
    end)

end)

describe("moonflow.backend.openai over the wire", function()
    local deployments = require "moonflow.deployments"
    local env = require "moonflow.env"
    local probe = require "support.probe"
    local process = require "support.process"
    local raw = require "support.raw"

    local lines, variables

    before_each(function()
        lines, variables = probe.listen(), openai.hide_environment()
    end)

    after_each(function()
        lines:close()
        variables:close()
    end)

    local function connect(server, options)
        return deployments.get_deploy_client("openai:" .. server.url .. "/v1", options)
    end

    local function ask(client)
        return client:predict { endpoint = "m", inputs = CHAT }
    end

    it("sends exactly this", function()
        local server <close> = raw.listen { raw.reply { json = { id = 1 } } }
        local client = connect(server, { api_key = KEY, organization = "org-1", project = "proj-1" })
        assert.same({ id = 1 }, ask(client))
        local request = server:requests()[1]
        assert.equal("POST", request.method)
        assert.equal("/v1/chat/completions", request.target)
        assert.same({ model = "m", messages = CHAT.messages }, json.decode(request.body))
        local headers = {}
        for _, pair in ipairs(request.headers) do
            headers[pair[1]] = pair[2]
        end
        local host, length = server.url:match("//(.*)"), tostring(#request.body)
        assert.matches("^moonflow/", headers["User-Agent"])
        headers["User-Agent"] = nil
        assert.same({
            Host = host, Accept = "application/json", ["Content-Type"] = "application/json",
            ["Content-Length"] = length,
            Authorization = "Bearer " .. KEY, ["OpenAI-Organization"] = "org-1", ["OpenAI-Project"] = "proj-1",
        }, headers)
    end)

    it("sends the key to the base URL's server and to no other", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        local other <close> = raw.listen { raw.reply { json = {} } }
        for _, options in ipairs {
            { api_key = KEY }, { token = KEY }, { username = "u", password = "some-password" },
            { api_key = KEY, api_type = "azure", api_version = "2024-10-21" },
        } do
            local client = connect(server, options)
            local err = probe.failure(client.send, client, { method = "GET", url = other.url .. "/v1/models" })
            assert.equal("config", err.kind)
            assert.matches("is not sent to " .. other.url, err.message, 1, true)
        end
        env.OPENAI_API_KEY = KEY
        local client = connect(server)
        ask(client)
        assert.equal("config", probe.failure(client.send, client, { method = "GET", url = other.url }).kind)
        assert.equal(1, #server:requests())
        assert.same({}, other:requests())
    end)

    it("sends the key that goes first", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        env.OPENAI_API_KEY = " sk-environment-0123 "
        local cases = {
            { nil, "Bearer sk-environment-0123" },
            { { api_key = "sk-option-0123" }, "Bearer sk-option-0123" },
            { { token = "sk-token-0123" }, "Bearer sk-token-0123" },
            { { username = "u", password = "some-password" }, "Basic dTpzb21lLXBhc3N3b3Jk" },
            { { headers = { authorization = "Custom words" } }, "Custom words" },
        }
        for i, case in ipairs(cases) do
            ask(connect(server, case[1]))
            assert.equal(case[2], server:requests()[i].header "Authorization")
        end
    end)

    it("streams by every route that has streams", function()
        local cases = {
            { CHAT, nil, "/v1/chat/completions" },
            { { prompt = "x" }, nil, "/v1/completions" },
            { { input = "x" }, nil, "/v1/responses" },
            { { input = "x" }, "llm/v1/responses", "/v1/responses" },
        }
        local server <close> = raw.listen { raw.reply {
            headers = { ["Content-Type"] = "text/event-stream" }, body = "data: {\"a\":1}\n\ndata: [DONE]\n\n",
        } }
        local client = connect(server)
        for i, case in ipairs(cases) do
            local chunks = {}
            for chunk in client:predict_stream { endpoint = "m", inputs = case[1], task = case[2] } do
                chunks[#chunks + 1] = chunk
            end
            assert.same({ { a = 1 } }, chunks)
            local request = server:requests()[i]
            assert.equal(case[3], request.target)
            assert.is_true(json.decode(request.body).stream)
        end
    end)

    it("takes a stream that answers predict for the answer", function()
        local server <close> = raw.listen { raw.reply {
            headers = { ["Content-Type"] = "text/event-stream" },
            body = 'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n',
        } }
        local answer = connect(server):predict { endpoint = "m", inputs = { messages = CHAT.messages, stream = true } }
        assert.equal("Hi", answer.choices[1].message.content)
    end)

    it("tells a script that there is no key, and ends with 4", function()
        local code = [[require("moonflow.deployments").get_deploy_client("openai"):predict{ endpoint = "m",
            inputs = { messages = {} } }]]
        local result = process.run {
            args = { "-e", code }, env = { OPENAI_API_KEY = false, OPENAI_API_BASE = false, OPENAI_BASE_URL = false },
        }
        assert.equal(4, result.code)
        assert.matches("OPENAI_API_KEY environment variable not set", result.stderr)
    end)

    it("writes no key to stderr", function()
        local server <close> = raw.listen {
            raw.reply { status = 503, reason = KEY, headers = { ["retry-after-ms"] = "1" } },
            raw.reply { status = 401, json = { error = { message = "Wrong: " .. KEY } } },
        }
        local code = [[require("moonflow.deployments").get_deploy_client("openai"):predict{ endpoint = "m",
            inputs = { messages = {} } }]]
        local result = process.run {
            args = { "-e", code }, env = { OPENAI_API_KEY = KEY, OPENAI_API_BASE = server.url },
        }
        assert.equal(4, result.code)
        assert.matches("retrying in", result.stderr)
        assert.matches("Wrong: <redacted>", result.stderr)
        assert.is_nil((result.stderr .. result.stdout):find(KEY, 1, true))
    end)
end)
