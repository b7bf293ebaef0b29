--- The backend openai against servers that others wrote: aimock, Steady with the published
-- descriptions of OpenAI's and Azure's API, MLflow's gateway; and our own upstream.py.
local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local json = require "moonflow.json"
local openai = require "support.openai"
local probe = require "support.probe"
local skip = require "support.skip"
local task = require "moonflow.task"

local KEY = openai.KEY

local lines, variables

before_each(function()
    lines, variables = probe.listen(), openai.hide_environment()
end)

after_each(function()
    lines:close()
    variables:close()
end)

--- A client of the server that an environment variable of the test runner names.
local function connect(name, options)
    return deployments.get_deploy_client("openai:" .. skip.unless_env(name), options)
end

local function question(text)
    return { endpoint = "gpt-4o", inputs = { messages = { { role = "user", content = text } } } }
end

local function with(args, options)
    args.options = options
    return args
end

--- The text of a stream, and the number of its chunks.
local function read(stream)
    local pieces, count = {}, 0
    for chunk in stream do
        pieces[#pieces + 1] = chat.text(chunk)
        count = count + 1
    end
    return table.concat(pieces), count
end

describe("aimock", function()
    local function client(options)
        return connect("MOONFLOW_TEST_AIMOCK", options)
    end

    it("answers a chat", function()
        local c = client()
        local answer = c:predict(question "hello")
        assert.equal("Hello from the mock model.", answer.choices[1].message.content)
        assert.equal("stop", answer.choices[1].finish_reason)
        assert.equal("integer", math.type(answer.usage.total_tokens))
        assert.matches("^req%-", c:last_response().request_id)
    end)

    it("streams a chat in pieces, which are the whole", function()
        local c = client()
        local whole = c:predict(question "tell me a story").choices[1].message.content
        local text, count = read(c:predict_stream(question "tell me a story"))
        assert.equal(whole, text)
        assert.is_true(count > 20, count)
        local collected = chat.collect(c:predict_stream(question "tell me a story"))
        assert.equal(whole, collected.choices[1].message.content)
        assert.equal("chatcmpl-story", collected.id)
        assert.equal("fp_moon", collected.system_fingerprint)
    end)

    it("calls tools, in a stream as without", function()
        local c = client()
        local args = question "What is the weather?"
        args.inputs.tools = { { type = "function", ["function"] = { name = "weather" } } }
        local streamed = chat.collect(c:predict_stream(args)).choices[1]
        local choice = c:predict(args).choices[1]
        assert.same(choice.message.tool_calls, streamed.message.tool_calls)
        assert.equal("tool_calls", streamed.finish_reason)
        local call = streamed.message.tool_calls[2]
        assert.equal("call_oslo", call.id)
        assert.same({ city = "Oslo", days = 1 }, json.decode(call["function"].arguments))
        args.inputs.messages[2] = streamed.message
        args.inputs.messages[3] = { role = "tool", tool_call_id = "call_oslo", content = "sunny" }
        assert.equal("Take a hat.", c:predict(args).choices[1].message.content)
    end)

    it("keeps reasoning beside the text", function()
        local message = chat.collect(client():predict_stream(question "think")).choices[1].message
        assert.equal("42", message.content)
        assert.equal("Six times seven.", message.reasoning_content)
    end)

    it("says why an answer ended", function()
        local choice = chat.collect(client():predict_stream(question "endless")).choices[1]
        assert.equal("length", choice.finish_reason)
    end)

    it("breaks a stream off, which is an error with what came", function()
        local stream = client():predict_stream(question "cut off")
        local ok, err = pcall(read, stream)
        assert.is_false(ok)
        assert.equal("network", err.kind)
        assert.equal("DATA_LOSS", err.error_code)
        assert.matches("^This an", err.partial.choices[1].message.content)
    end)

    it("is busy once", function()
        local c = client()
        -- a name that no run before has used: the server counts by it
        local headers = { ["X-Test-Id"] = ("%d-%d"):format(os.time(), math.random(0)) }
        local answer = c:predict(with(question "at the second try", { headers = headers }))
        assert.equal("Here you are.", answer.choices[1].message.content)
        assert.equal(2, c:last_response().attempts)
        assert.equal(1, #lines)
    end)

    it("refuses, in OpenAI's form", function()
        --- question, status, what the code is
        local cases = {
            { "too much", 429, "insufficient_quota" }, { "forbidden", 400, "content_filter" },
            { "something that it has no answer to", 404, "no_fixture_match" },
        }
        for _, case in ipairs(cases) do
            for _, method in ipairs { "predict", "predict_stream" } do
                local c = client()
                local err = probe.failure(c[method], c, question(case[1]))
                assert.equal(case[2], err.http_status)
                assert.equal(case[3], err.body.error.code)
                assert.equal(1, err.attempts)
                assert.equal(method, err.operation)
            end
        end
    end)

    it("answers embeddings", function()
        local c = client()
        for _, format in ipairs { false, "float" } do
            local answer = c:predict { endpoint = "e", inputs = { input = "moon", encoding_format = format or nil } }
            assert.same({ 0.25, -0.5, 0.125, 1 }, answer.data[1].embedding)
        end
        assert.equal(2, #c:predict { endpoint = "e", inputs = { input = { "moon", "moon" } } }.data)
    end)

    it("answers the Responses API, in a stream as without", function()
        local c = client()
        local args = { endpoint = "gpt-4o", inputs = { input = "hello" }, task = "llm/v1/responses" }
        assert.equal("Hello from the mock model.", c:predict(args).output[1].content[1].text)
        assert.equal("Hello from the mock model.", (read(c:predict_stream(args))))
        local collected = chat.collect(c:predict_stream(args))
        assert.equal("completed", collected.status)
        assert.equal("Hello from the mock model.", collected.output[1].content[1].text)
    end)

    it("lists its models", function()
        local names = {}
        for _, model in ipairs(client():list_endpoints()) do
            names[model.name] = model.id
        end
        assert.equal("gpt-4o", names["gpt-4o"])
    end)

    it("is Azure as well", function()
        local host = skip.unless_env("MOONFLOW_TEST_AIMOCK"):gsub("/v1$", "")
        for _, options in ipairs {
            { api_type = "azure", api_version = "2024-10-21", api_key = KEY },
            { api_type = "azure", api_version = "2024-10-21", token = KEY, deployment = "gpt-4o" },
        } do
            local c = deployments.get_deploy_client("openai:" .. host, options)
            assert.equal("Hello from the mock model.", c:predict(question "hello").choices[1].message.content)
            assert.equal("Hello from the mock model.", (read(c:predict_stream(question "hello"))))
            assert.same({ 0.25, -0.5, 0.125, 1 },
                c:predict { endpoint = "e", inputs = { input = "moon" } }.data[1].embedding)
        end
    end)

    --- chaos, kind of the error, status, attempts with one repetition
    local CHAOS = {
        { "drop", "http", 500, 2 }, { "malformed", "decode", 200, 1 }, { "disconnect", "network", nil, 2 },
        { "ratelimit", "http", 429, 2 },
    }
    for _, case in ipairs(CHAOS) do
        it("that makes trouble is an error: " .. case[1], function()
            local c = client { max_retries = 1 }
            local headers = { ["x-aimock-chaos-" .. case[1]] = "1" }
            for _, method in ipairs { "predict", "predict_stream" } do
                local err = probe.failure(c[method], c, with(question "hello", { headers = headers }))
                assert.equal(case[2], err.kind)
                assert.equal(case[3], err.http_status)
                assert.equal(case[4], err.attempts)
            end
            assert.equal(2 * (case[4] - 1), #lines)
        end)
    end

    it("that fails a quarter of the time gets all answers through", function()
        local c = connect("MOONFLOW_TEST_AIMOCK_CHAOS", { api_key = "the-key", max_retries = 9 })
        local attempts = task.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(i)
            local args = question "hello"
            local text = i % 2 == 0 and c:predict(args).choices[1].message.content or read(c:predict_stream(args))
            assert.equal("Hello from the mock model.", text)
            return c:last_response().attempts
        end)
        local sent = 0
        for _, count in ipairs(attempts) do
            sent = sent + count
        end
        assert.equal(sent - 8, #lines)
    end)

    it("that wants a key says so", function()
        local c = connect("MOONFLOW_TEST_AIMOCK_CHAOS", { api_key = "not-the-key" })
        local err = probe.failure(c.predict, c, question "hello")
        assert.equal(401, err.http_status)
        assert.matches("the option api_key", err.hint)
    end)
end)

describe("the description of the API", function()
    --- Checks that the server found nothing wrong with the last request.
    local function assert_valid(client)
        local headers = client:last_response().headers
        assert.equal("0", headers["x-steady-error-count"], headers["x-steady-error-1-message"])
    end

    --- Asks for what the server, whose answers are invented, allows: its vectors are not those of the inputs.
    local function ask(client, args)
        local ok, answer = pcall(client.predict, client, args)
        local is_list = type(args.inputs.input) == "table" and not args.task
        assert.is_true(ok or is_list and answer.kind == "decode", tostring(answer))
        assert.equal("table", type(answer))
    end

    local PARAMETERS = { type = "object", properties = { city = { type = "string" } }, required = { "city" } }
    local CHAT = {
        messages = {
            { role = "developer", content = "Be brief." },
            { role = "user", name = "moon", content = {
                { type = "text", text = "What is this?" },
                { type = "image_url", image_url = { url = "data:image/png;base64,iVBORw0KGgo=", detail = "low" } },
            } },
            { role = "assistant", content = json.null, tool_calls = {
                { id = "call_1", type = "function", ["function"] = { name = "weather", arguments = "{}" } },
            } },
            { role = "tool", tool_call_id = "call_1", content = "sunny" },
        },
        temperature = 0.7, top_p = 1, n = 2, max_completion_tokens = 100, presence_penalty = -0.5, seed = 7,
        frequency_penalty = 0.25, stop = { "\n", "END" }, logit_bias = { ["50256"] = -100 }, logprobs = true,
        top_logprobs = 2, user = "u-1", store = false, metadata = { a = "b" }, parallel_tool_calls = false,
        tools = { { type = "function", ["function"] = { name = "weather", parameters = PARAMETERS } } },
        tool_choice = { type = "function", ["function"] = { name = "weather" } },
        response_format = { type = "json_schema", json_schema = { name = "place", schema = PARAMETERS } },
    }
    local COMPLETION = {
        prompt = { "Once", "Twice" }, temperature = 0, max_tokens = 5, n = 1, best_of = 2, echo = true, suffix = "end",
        logprobs = 3, stop = "\n", presence_penalty = 1, frequency_penalty = -1, user = "u-1",
        logit_bias = { ["50256"] = -100 },
    }

    --- what, arguments of predict
    local CASES = {
        { "a chat", { inputs = { messages = { { role = "user", content = "Hello!" } } } } },
        { "a chat with all parameters", { inputs = CHAT } },
        { "a completion", { inputs = COMPLETION } },
        { "an embedding", { inputs = { input = "x" } } },
        { "embeddings of a list", { inputs = { input = { "x", "y" }, dimensions = 3, user = "u-1" } } },
        { "embeddings of tokens", { inputs = { input = { { 1, 2 }, { 3 } }, encoding_format = "float" } } },
        { "a response", { inputs = { input = "x" }, task = "llm/v1/responses" } },
        { "a response with parameters", { inputs = {
            input = { { role = "user", content = "Hello!" } },
            instructions = "Be brief.", temperature = 0.5, top_p = 1, max_output_tokens = 100, store = false,
            tools = { { type = "function", name = "weather", parameters = PARAMETERS, strict = true } },
            tool_choice = "auto", parallel_tool_calls = true, reasoning = { effort = "low" }, metadata = { a = "b" },
            text = { format = { type = "text" } }, truncation = "auto", user = "u-1",
        } } },
    }
    for _, case in ipairs(CASES) do
        it("of OpenAI allows " .. case[1], function()
            local client = connect("MOONFLOW_TEST_STEADY", { api_key = KEY, max_retries = 0 })
            case[2].endpoint = "gpt-4o"
            ask(client, case[2])
            assert_valid(client)
        end)
    end

    it("of OpenAI allows streams", function()
        local client = connect("MOONFLOW_TEST_STEADY", { api_key = KEY, max_retries = 0 })
        for _, inputs in ipairs { CHAT, COMPLETION, { input = "x" } } do
            for _ in client:predict_stream { endpoint = "gpt-4o", inputs = inputs } do
                assert_valid(client)
            end
            assert_valid(client)
        end
    end)

    it("of OpenAI allows listing and getting models", function()
        local client = connect("MOONFLOW_TEST_STEADY", { api_key = KEY, max_retries = 0 })
        for _, model in ipairs(client:list_endpoints()) do
            assert.equal(model.id, model.name)
        end
        assert_valid(client)
        assert.equal("string", type(client:get_endpoint("org/model: é").name))
        assert_valid(client)
    end)

    it("of OpenAI refuses what is wrong, and the error says what", function()
        --- arguments, words of the server's
        local cases = {
            { { inputs = { messages = { { role = "nobody", content = "x" } } } }, 'discriminator value "nobody"' },
            { { inputs = { messages = { { content = "x" } } } }, "role" },
            { { inputs = { input = json.null, dimensions = "many" }, task = "llm/v1/embeddings" }, "dimensions" },
        }
        for _, case in ipairs(cases) do
            local client = connect("MOONFLOW_TEST_STEADY", { api_key = KEY, max_retries = 0 })
            case[1].endpoint = "gpt-4o"
            local err = probe.failure(client.predict, client, case[1])
            assert.equal(400, err.http_status)
            assert.matches("Validation failed", err.message)
            assert.matches(case[2], json.encode(err.body.steady.errors):gsub('\\"', '"'), 1, true)
        end
    end)

    local function azure()
        return connect("MOONFLOW_TEST_STEADY_AZURE", {
            api_type = "azure", api_version = "2024-10-21", api_key = KEY, max_retries = 0,
        })
    end

    it("of Azure allows all that it has", function()
        local client = azure()
        for _, inputs in ipairs { CASES[1][2].inputs, { prompt = "x", max_tokens = 5 }, { input = { "x", "y" } } } do
            ask(client, { endpoint = "my deployment", inputs = inputs })
            assert_valid(client)
            assert.matches("/openai/deployments/{deployment-id}/",
                client:last_response().headers["x-steady-matched-path"], 1, true)
        end
    end)

    it("of Azure refuses what is wrong", function()
        local client = azure()
        local err = probe.failure(client.predict, client, {
            endpoint = "d", inputs = { messages = { { role = "nobody" } } },
        })
        assert.equal(400, err.http_status)
        assert.matches('"nobody" is not in allowed values', json.encode(err.body):gsub('\\"', '"'), 1, true)
    end)
end)

describe("upstream.py", function()
    local function client(options)
        return connect("MOONFLOW_TEST_UPSTREAM", options)
    end

    it("answers and streams the same", function()
        local c = client()
        local args = question "Is the moon far?"
        local text, count = read(c:predict_stream(args))
        assert.equal(c:predict(args).choices[1].message.content, text)
        assert.is_true(count > 10, count)
        local prompt = { endpoint = "m", inputs = { prompt = "Once upon a time" } }
        assert.equal(c:predict(prompt).choices[1].text, (read(c:predict_stream(prompt))))
    end)

    it("answers embeddings as base64, in any number of requests", function()
        local list = {}
        for i = 1, 4500 do
            list[i] = "text " .. i
        end
        local answer = client():predict { endpoint = "m", inputs = { input = list } }
        assert.equal(4500, #answer.data)
        assert.equal(9000, answer.usage.total_tokens)
        local one = client():predict { endpoint = "m", inputs = { input = "text 4321" } }
        assert.same(one.data[1].embedding, answer.data[4321].embedding)
        assert.equal(4320, answer.data[4321].index)
    end)

    it("refuses a key, and a request that is none", function()
        local c = client { api_key = "refused" }
        local err = probe.failure(c.predict, c, question "x")
        assert.equal(401, err.http_status)
        assert.matches("Incorrect API key provided. (invalid_api_key)", err.message, 1, true)
        c = client()
        err = probe.failure(c.predict_stream, c, { endpoint = "m", inputs = { messages = json.array {} } })
        assert.equal(400, err.http_status)
        assert.equal("messages", err.body.error.param)
    end)

    it("lists its models, gets one, and knows no other", function()
        local c = client()
        local names = {}
        for i, model in ipairs(c:list_endpoints()) do
            names[i] = model.name
        end
        assert.same({ "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "maker/a-model" }, names)
        assert.equal("maker/a-model", c:get_endpoint { endpoint = "maker/a-model" }.name)
        local err = probe.failure(c.get_endpoint, c, { endpoint = "no-such" })
        assert.equal(404, err.http_status)
        assert.matches("The model 'no-such' does not exist. (model_not_found)", err.message, 1, true)
    end)
end)

describe("MLflow's gateway", function()
    local function gateway(options)
        return deployments.get_deploy_client(skip.unless_env "MOONFLOW_TEST_GATEWAY", options)
    end

    it("streams a chat", function()
        local client = gateway()
        local args = { endpoint = "chat", inputs = question("Is the moon far?").inputs }
        local text, count = read(client:predict_stream(args))
        assert.equal(client:predict(args).choices[1].message.content, text)
        assert.is_true(count > 10, count)
        local collected = chat.collect(client:predict_stream(args))
        assert.equal(text, collected.choices[1].message.content)
        assert.equal("stop", collected.choices[1].finish_reason)
    end)

    it("streams a chat of another model server, aimock", function()
        local client = gateway()
        skip.unless_env "MOONFLOW_TEST_AIMOCK"
        local args = { endpoint = "aimock-chat", inputs = question("tell me a story").inputs }
        assert.equal(client:predict(args).choices[1].message.content, (read(client:predict_stream(args))))
    end)

    -- It takes the chunks of a completion for those of a chat, and fails inside; so it does where the model
    -- server refuses. Both are after its head said 200.
    it("breaks a stream off, which is no empty answer", function()
        local client = gateway { max_retries = 0 }
        for endpoint, inputs in pairs { completions = { prompt = "Once" }, refused = question("x").inputs } do
            local err = probe.failure(client.predict_stream, client, { endpoint = endpoint, inputs = inputs })
            assert.equal("network", err.kind)
            assert.equal("DATA_LOSS", err.error_code)
            assert.equal("predict_stream", err.operation)
        end
    end)

    it("refuses a stream as it refuses an answer", function()
        local client = gateway()
        local err = probe.failure(client.predict_stream, client, { endpoint = "chat", inputs = { nonsense = 1 } })
        assert.equal(422, err.http_status)
        err = probe.failure(client.predict_stream, client, { endpoint = "no-such", inputs = { messages = {} } })
        assert.equal(404, err.http_status)
    end)

    it("is a server of OpenAI's form below /v1", function()
        local client = deployments.get_deploy_client("openai:" .. skip.unless_env "MOONFLOW_TEST_GATEWAY" .. "/v1")
        local args = { endpoint = "chat", inputs = question("Is the moon far?").inputs }
        local text = client:predict(args).choices[1].message.content
        assert.matches("Is the moon far?", text, 1, true)
        assert.equal(text, (read(client:predict_stream(args))))
    end)
end)
