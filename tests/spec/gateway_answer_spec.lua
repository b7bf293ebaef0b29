--- What handlers give, as the gateway answers it: whole, and in the frames of a stream, on both faces.
local answer = require "moonflow.gateway.answer"
local answers = require "support.answers"
local base64 = require "moonflow.base64"
local error_object = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local task = require "moonflow.task"

local CALL = { id = "call_1", type = "function", ["function"] = { name = "weather", arguments = "{}" } }

local function endpoint(kind, handler)
    return {
        name = "e", endpoint_type = "llm/v1/" .. kind, model = { name = "m", provider = "lua" },
        produce = handler,
    }
end

--- Makes what differs each time the same: ids that have the right form, and times of now.
local function settled(value)
    local number = type(value.id) == "string" and value.id:match("^c%a+%-(%x+)$")
    if number and #number == 32 then
        value.id = "ID"
    end
    if math.type(value.created) == "integer" and math.abs(value.created - os.time()) < 60 then
        value.created = "now"
    end
    return value
end

--- The frames of a body. Each is one event, in exactly the bytes of the protocol.
local function frames_of(body)
    local list = {}
    for frame in body do
        assert.equal("string", type(frame))
        assert.equal("data: ", frame:sub(1, 6))
        assert.equal("\n\n", frame:sub(-2))
        assert.is_nil(frame:sub(1, -3):find("\n", 1, true), "a frame is one line")
        list[#list + 1] = frame:sub(7, -3)
    end
    return list
end

local function chat_inputs(more)
    local inputs = { messages = { { role = "user", content = "Say one two" } } }
    for name, value in pairs(more or {}) do
        inputs[name] = value
    end
    return inputs
end

describe("gateway.answer", function()
    local lines, write

    before_each(function()
        lines, write = {}, notice.write
        notice.write = function(line)
            lines[#lines + 1] = line
        end
    end)

    after_each(function()
        notice.write = write
    end)

    local function respond(kind, handler, inputs, face)
        return answer.respond(endpoint(kind, handler), inputs or chat_inputs(), face or "mlflow")
    end

    --- The whole answer, decoded, of a handler that returns `value`.
    local function whole(kind, value, inputs, face)
        local status, headers, body = respond(kind, function()
            return value
        end, inputs, face)
        assert.equal(200, status, body)
        assert.equal("application/json", headers["Content-Type"])
        return settled(answers.decode(body))
    end

    --- The chunks of a stream, decoded; its last frame as it is where that is no JSON.
    local function chunks(kind, handler, inputs, face)
        inputs = inputs or chat_inputs()
        inputs.stream = true
        local status, headers, body = respond(kind, handler, inputs, face)
        assert.equal(200, status)
        assert.equal("text/event-stream; charset=utf-8", headers["Content-Type"])
        assert.equal(face == "openai" and "no-cache" or nil, headers["Cache-Control"])
        local list = {}
        local id
        for i, frame in ipairs(frames_of(body)) do
            list[i] = frame
            if frame ~= "[DONE]" then
                local chunk = answers.decode(frame)
                id = id or chunk.id
                assert.equal(id, chunk.id)
                list[i] = settled(chunk)
            end
        end
        return list
    end

    local function assert_chunks(expected, list)
        for i, text in ipairs(expected) do
            if text == "[DONE]" then
                assert.equal(text, list[i])
            else
                answers.assert_json(text, list[i], "chunk " .. i)
            end
        end
        assert.equal(#expected, #list)
    end

    describe("whole, on MLflow's face", function()
        it("makes a chat of a text", function()
            answers.assert_json([[{"id":"ID","object":"chat.completion","created":"now","model":"m","provider":"lua",
                "choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"one  two\n3",
                "tool_calls":null,"refusal":null}}],
                "usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}}]],
                whole("chat", "one  two\n3"))
        end)

        it("makes a chat of a message with calls", function()
            local got = whole("chat", { content = json.null, tool_calls = { CALL } })
            answers.assert_json([=[[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant",
                "content":null,"refusal":null,"tool_calls":[{"id":"call_1","type":"function",
                "function":{"name":"weather","arguments":"{}"}}]}}]]=], got.choices)
            assert.equal(0, got.usage.completion_tokens)
        end)

        it("keeps what an answer has, and drops what MLflow's models do not name", function()
            answers.assert_json([[{"id":"mine","object":"chat.completion","created":7,"model":"own","provider":"lua",
                "choices":[{"index":3,"finish_reason":"length","message":{"role":"tutor","content":"a",
                "tool_calls":null,"refusal":"no"}}],
                "usage":{"prompt_tokens":1,"completion_tokens":null,"total_tokens":null,"extra":2}}]],
                whole("chat", {
                    id = "mine", created = 7, model = "own", system_fingerprint = "fp",
                    usage = { prompt_tokens = 1, extra = 2, prompt_tokens_details = json.null },
                    choices = { {
                        index = 3, finish_reason = "length", logprobs = json.null,
                        message = { role = "tutor", content = "a", refusal = "no", annotations = {} },
                    } },
                }))
        end)

        it("leaves the handler's own tables as they were", function()
            local message = { content = "a" }
            local value = { choices = { { message = message } } }
            whole("chat", value)
            whole("chat", value, nil, "openai")
            assert.same({ choices = { { message = { content = "a" } } } }, value)
        end)

        it("counts as words what white space parts", function()
            local count = require("moonflow.gateway.whole").words
            local texts = { "", " ", "a", " a", "a ", "a b", "a\tb\nc\vd\fe\rf", "\0", "a\0b c", "\u{A0}", "\u{85}x y" }
            for _, text in ipairs(texts) do
                local words = select(2, text:gsub("%S+", ""))
                assert.equal(words, count(text), text)
                assert.equal(text:find("^%S") and words - 1 or words, count(text, true), text)
            end
        end)

        it("counts words of parts and of several choices", function()
            local inputs = { messages = {
                { role = "system", content = "a b" },
                { role = "user", content = { { type = "text", text = "c d" }, { type = "image_url" } } },
            } }
            local got = whole("chat", { choices = {
                { message = { content = "x y" } }, { message = { content = "z" } },
            } }, inputs)
            assert.same({ prompt_tokens = 4, completion_tokens = 3, total_tokens = 7 }, got.usage)
            assert.equal(1, got.choices[2].index)
        end)

        it("makes a completion, without a provider", function()
            answers.assert_json([[{"id":"ID","object":"text_completion","created":"now","model":"m",
                "choices":[{"index":0,"finish_reason":"stop","text":"b c"}],
                "usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}]],
                whole("completions", "b c", { prompt = "a" }))
            local got = whole("completions", { text = "t", finish_reason = "length" }, { prompt = "a" })
            answers.assert_json([=[[{"index":0,"finish_reason":"length","text":"t"}]]=], got.choices)
        end)

        it("makes embeddings of a vector, of several, and of data", function()
            answers.assert_json([[{"object":"list","model":"m","usage":{"prompt_tokens":2,"total_tokens":2},
                "data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]}]}]],
                whole("embeddings", { 0.5, -1.0 }, { input = "a b" }))
            answers.assert_json([[{"object":"list","model":"m","usage":{"prompt_tokens":3,"total_tokens":3},
                "data":[{"object":"embedding","index":0,"embedding":[1]},
                {"object":"embedding","index":1,"embedding":[2]}]}]],
                whole("embeddings", { { 1 }, { 2 } }, { input = { { 7, 8 }, { 9 } } }))
            answers.assert_json([[{"object":"list","model":"own","usage":{"prompt_tokens":9,"total_tokens":null},
                "data":[{"object":"embedding","index":4,"embedding":[1]}]}]],
                whole("embeddings", {
                    model = "own", usage = { prompt_tokens = 9 }, data = { { index = 4, embedding = { 1 }, x = 1 } },
                }, { input = "a" }))
        end)

        it("does not stream embeddings", function()
            local got = whole("embeddings", { 1 }, { input = "a", stream = true })
            assert.same({ 1 }, got.data[1].embedding)
        end)
    end)

    describe("whole, on OpenAI's face", function()
        it("keeps more than MLflow's", function()
            answers.assert_json([[{"id":"ID","object":"chat.completion","created":"now","model":"m",
                "system_fingerprint":"fp","choices":[{"index":0,"finish_reason":"stop","logprobs":null,
                "message":{"role":"assistant","content":null,"reasoning_content":"hm"}}],
                "usage":{"total_tokens":1}}]],
                whole("chat", {
                    reasoning_content = "hm", logprobs = json.null, system_fingerprint = "fp",
                    usage = { total_tokens = 1 },
                }, nil, "openai"))
        end)

        it("packs vectors as base64, the lowest byte first", function()
            local got = whole("embeddings", { 0.25, -0.5 }, { input = "a", encoding_format = "base64" }, "openai")
            assert.equal("\x00\x00\x80\x3E\x00\x00\x00\xBF", base64.decode(got.data[1].embedding))
        end)

        it("packs long vectors, and leaves what is packed already", function()
            local vector = {}
            for i = 1, 1000 do
                vector[i] = i / 8
            end
            local inputs = { input = { "a", "b" }, encoding_format = "base64" }
            local got = whole("embeddings", { data = { { embedding = vector }, { embedding = "AACAPg==" } } }, inputs)
            assert.same(vector, base64.floats(got.data[1].embedding))
            assert.equal("AACAPg==", got.data[2].embedding)
        end)
    end)

    describe("stream", function()
        local function two_pieces(_, stream)
            stream("One t")
            stream("wo")
        end

        it("has MLflow's bytes", function()
            local inputs = chat_inputs { stream = true, stream_options = { include_usage = false } }
            local _, _, body = respond("chat", two_pieces, inputs)
            local first, second = body(), body()
            local id, created = first:match('^data: {"id":"(chatcmpl%-%x+)","object":"chat.completion.chunk",'
                .. '"created":(%d+),"model":"m",')
            local form = 'data: {"id":"%s","object":"chat.completion.chunk","created":%s,"model":"m","choices":['
                .. '{"index":0,"finish_reason":null,"delta":{"role":%s,"content":"%s","tool_calls":null}}],'
                .. '"usage":null,"provider":"lua"}\n\n'
            assert.equal(form:format(id, created, '"assistant"', "One t"), first)
            assert.equal(form:format(id, created, "null", "wo"), second)
            assert.equal(1, #frames_of(body))
            assert.is_nil(body())
        end)

        it("ends as MLflow's: a finish_reason, the usage, no [DONE]", function()
            local list = chunks("chat", two_pieces)
            assert.equal(4, #list)
            answers.assert_json([[{"id":"ID","object":"chat.completion.chunk","created":"now","model":"m",
                "provider":"lua","usage":null,"choices":[{"index":0,"finish_reason":"stop",
                "delta":{"role":null,"content":null,"tool_calls":null}}]}]], list[3])
            answers.assert_json([[{"id":"ID","object":"chat.completion.chunk","created":"now","model":"m",
                "provider":"lua","choices":[],
                "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}]], list[4])
        end)

        it("is OpenAI's on its face", function()
            local head = [["id":"ID","object":"chat.completion.chunk","created":"now","model":"m"]]
            assert_chunks({
                "{" .. head .. [[,"choices":[{"index":0,"finish_reason":null,
                    "delta":{"role":"assistant","content":"One t"}}]}]],
                "{" .. head .. [[,"choices":[{"index":0,"finish_reason":null,"delta":{"content":"wo"}}]}]],
                "{" .. head .. [[,"choices":[{"index":0,"finish_reason":"stop","delta":{}}]}]],
                "[DONE]",
            }, chunks("chat", two_pieces, nil, "openai"))
        end)

        it("has the usage last on OpenAI's face where it is asked for, and null before", function()
            local inputs = chat_inputs { stream_options = { include_usage = true } }
            local list = chunks("chat", two_pieces, inputs, "openai")
            assert.equal(5, #list)
            for i = 1, 3 do
                assert.equal(json.null, list[i].usage)
            end
            answers.assert_json("[]", list[4].choices)
            assert.same({ prompt_tokens = 3, completion_tokens = 2, total_tokens = 5 }, list[4].usage)
            assert.equal("[DONE]", list[5])
        end)

        it("makes chunks of a returned answer", function()
            local list = chunks("chat", function()
                return { id = "mine", content = "Whole.", finish_reason = "length", usage = { total_tokens = 9 } }
            end, chat_inputs { stream_options = { include_usage = true } }, "openai")
            assert.equal("mine", list[1].id)
            answers.assert_json([[{"role":"assistant","content":"Whole."}]], list[1].choices[1].delta)
            answers.assert_json([[{"index":0,"finish_reason":"length","delta":{}}]], list[2].choices[1])
            answers.assert_json([[{"total_tokens":9}]], list[3].usage)
            assert.equal("[DONE]", list[4])
        end)

        it("does not send twice what is streamed and returned", function()
            local list = chunks("chat", function(_, stream)
                stream("a")
                return { content = "a", finish_reason = "length", usage = { total_tokens = 4 } }
            end)
            assert.equal(3, #list)
            assert.equal("length", list[2].choices[1].finish_reason)
            assert.equal(4, list[3].usage.total_tokens)
        end)

        it("takes parts of messages, and calls of tools", function()
            local list = chunks("chat", function(_, stream)
                stream { role = "assistant" }
                stream { tool_calls = { CALL } }
                stream { usage = { total_tokens = 2 } }
            end)
            answers.assert_json([[{"role":"assistant","content":null,"tool_calls":null}]], list[1].choices[1].delta)
            answers.assert_json([=[[{"index":0,"id":"call_1","type":"function",
                "function":{"name":"weather","arguments":"{}"}}]]=], list[2].choices[1].delta.tool_calls)
            assert.equal("tool_calls", list[3].choices[1].finish_reason)
            assert.equal(2, list[4].usage.total_tokens)
            assert.is_nil(CALL.index)
        end)

        it("numbers the calls of tools, and the choices on MLflow's face", function()
            local list = chunks("chat", function(_, stream)
                stream { content = "a", index = 0 }
                stream { content = "b", index = 1, role = "assistant" }
                stream { content = "c", index = 1 }
                stream { content = "d", index = 0 }
                stream { tool_calls = { CALL, CALL } }
            end)
            local indices = {}
            for i = 1, 4 do
                indices[i] = list[i].choices[1].index
            end
            assert.same({ 0, 1, 1, 0 }, indices)
            assert.equal(0, list[5].choices[1].delta.tool_calls[1].index)
            assert.equal(1, list[5].choices[1].delta.tool_calls[2].index)
        end)

        it("keeps several choices apart", function()
            local list = chunks("chat", function(_, stream)
                stream { index = 1, content = "b" }
                stream { content = "a", finish_reason = "length" }
            end, nil, "openai")
            local seen = {}
            for i = 1, 4 do
                local choice = list[i].choices[1]
                seen[i] = ("%d %s %s"):format(choice.index, choice.delta.content or "-",
                    choice.finish_reason == json.null and "-" or choice.finish_reason)
            end
            assert.same({ "1 b -", "0 a -", "0 - length", "1 - stop" }, seen)
        end)

        it("passes chunks on as they came, and adds what ends them", function()
            local chunk = {
                id = "up", object = "chat.completion.chunk", created = 5, model = "u", system_fingerprint = "fp",
                choices = { { index = 0, delta = { content = "a" }, logprobs = json.null } },
            }
            local list = chunks("chat", function(_, stream)
                stream(chunk)
            end, nil, "openai")
            answers.assert_json([[{"id":"up","object":"chat.completion.chunk","created":5,"model":"u",
                "system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null}]}]], list[1])
            answers.assert_json([[{"id":"up","object":"chat.completion.chunk","created":5,"model":"u",
                "choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}]], list[2])
            assert.equal("[DONE]", list[3])
        end)

        it("counts no tokens of chunks that are not its own", function()
            local list = chunks("chat", function(_, stream)
                stream { choices = { { delta = { content = "a b" }, finish_reason = "stop" } } }
            end)
            assert.equal(1, #list)
            assert.equal("stop", list[1].choices[1].finish_reason)
        end)

        it("fills what a chunk does not have", function()
            local given = { choices = { { delta = { content = "a" } } } }
            local list = chunks("chat", function(_, stream)
                stream(given)
            end, nil, "openai")
            answers.assert_json([[{"id":"ID","object":"chat.completion.chunk","created":"now","model":"m",
                "choices":[{"index":0,"delta":{"content":"a"}}]}]], list[1])
            assert.same({ choices = { { delta = { content = "a" } } } }, given)
        end)

        it("has text in the chunks of completions", function()
            local function texts(_, stream)
                stream("a")
                stream { text = "b" }
            end
            local head = [["id":"ID","created":"now","model":"m"]]
            local inputs = { prompt = "p", stream_options = { include_usage = false } }
            assert_chunks({
                "{" .. head .. [[,"object":"text_completion_chunk","usage":null,
                    "choices":[{"index":0,"text":"a","finish_reason":null}]}]],
                "{" .. head .. [[,"object":"text_completion_chunk","usage":null,
                    "choices":[{"index":0,"text":"b","finish_reason":null}]}]],
                "{" .. head .. [[,"object":"text_completion_chunk","usage":null,
                    "choices":[{"index":0,"text":"","finish_reason":"stop"}]}]],
            }, chunks("completions", texts, inputs))
            local list = chunks("completions", texts, { prompt = "p" }, "openai")
            assert.equal("text_completion", list[1].object)
            assert.equal("[DONE]", list[4])
        end)

        it("escapes what would end a frame", function()
            local list = chunks("chat", function(_, stream)
                stream('"\n\ndata: [DONE]\n\n\u{2028}')
            end)
            assert.equal('"\n\ndata: [DONE]\n\n\u{2028}', list[1].choices[1].delta.content)
        end)

        it("sends each piece before the next one is made", function()
            local made = 0
            local _, _, body = respond("chat", function(_, stream)
                for _ = 1, 3 do
                    made = made + 1
                    stream("x")
                end
            end, chat_inputs { stream = true })
            assert.equal(1, made)
            body()
            assert.equal(1, made)
            body()
            assert.equal(2, made)
        end)

        it("waits inside the handler, while other tasks run", function()
            local order = {}
            local list
            task.all {
                function()
                    list = chunks("chat", function(_, stream)
                        stream("a")
                        task.sleep(0.02)
                        order[#order + 1] = "handler"
                        stream("b")
                    end)
                end,
                function()
                    task.sleep(0.01)
                    order[#order + 1] = "other"
                end,
            }
            assert.same({ "other", "handler" }, order)
            assert.equal("b", list[2].choices[1].delta.content)
        end)

        it("closes what the handler has open when the client leaves", function()
            local closed = 0
            local function handler(_, stream)
                local _ <close> = setmetatable({}, { __close = function()
                    closed = closed + 1
                end })
                while true do
                    stream("x")
                end
            end
            do
                local _, _, body = respond("chat", handler, chat_inputs { stream = true })
                local held <close> = body
                held()
                held()
                assert.equal(0, closed)
            end
            assert.equal(1, closed)
            local waiting = task.spawn(function()
                respond("chat", function(_, stream)
                    local _ <close> = setmetatable({}, { __close = function()
                        closed = closed + 1
                    end })
                    task.sleep(60)
                    stream("late")
                end, chat_inputs { stream = true })
            end)
            task.sleep(0.01)
            waiting:cancel()
            task.sleep(0)
            assert.equal(2, closed)
        end)
    end)

    describe("failures", function()
        local function log()
            return table.concat(lines, "\n")
        end

        it("say in the log which endpoint's answer is wrong, and nothing to the client", function()
            for _, case in ipairs {
                { "chat", nil, "it is nothing" },
                { "chat", 7, "it is 7" },
                { "chat", { nonsense = true }, 'it is a table with the fields "nonsense"' },
                { "chat", { choices = {} }, "it is an answer without choices" },
                { "chat", { choices = { { text = "a" } } }, "it is an answer whose choice 1 has no message" },
                { "completions", { choices = { { index = 0 } } }, "it is an answer whose choice 1 has no text" },
                { "embeddings", "text", 'it is "text"' },
                { "embeddings", { { 1 }, { 2 } }, "it is 2 vectors for 1 input" },
                { "embeddings", { data = { { index = 0 } } }, "it is nothing as vector 1" },
            } do
                for _, face in ipairs { "mlflow", "openai" } do
                    lines = {}
                    local status, _, body = respond(case[1], function()
                        return case[2]
                    end, { messages = {}, input = "a", prompt = "a" }, face)
                    assert.equal(500, status)
                    assert.equal("Internal Server Error", answers.decode(body).detail)
                    assert.matches('endpoint "e": the answer must be ', log(), 1, true)
                    assert.matches(case[3], log(), 1, true)
                end
            end
        end)

        it("explain a stream that is not there", function()
            local status = respond("chat", function(_, stream)
                stream("a")
            end)
            assert.equal(500, status)
            assert.matches("attempt to call a nil value (local 'stream')", log(), 1, true)
            assert.matches("is nil where the client did not ask for a stream", log(), 1, true)
        end)

        it("have a status where the first piece did not come", function()
            local status, headers, body = respond("chat", function()
                error("a secret", 0)
            end, chat_inputs { stream = true }, "openai")
            assert.equal(500, status)
            assert.equal("application/json", headers["Content-Type"])
            assert.is_nil(body:find("secret", 1, true))
            assert.matches('endpoint "e": a secret', log(), 1, true)
        end)

        it("keep the status and the words of an error object", function()
            for _, stream in ipairs { true, false } do
                local status, headers, body = respond("chat", function()
                    error_object.raise { kind = "http", http_status = 429, message = "Slow down.", retry_after = 7 }
                end, chat_inputs { stream = stream })
                assert.equal(429, status)
                assert.equal("7", headers["Retry-After"])
                answers.assert_json('{"detail":"Slow down."}', answers.decode(body))
            end
        end)

        local function breaks()
            return function(_, stream)
                stream("a")
                error_object.raise { kind = "http", http_status = 503, message = "Gone." }
            end
        end

        it("break MLflow's stream off, with an event that says so", function()
            local _, _, body = respond("chat", breaks(), chat_inputs { stream = true })
            body()
            local said = body()
            answers.assert_json('{"error":{"message":"Gone.","type":"AIGatewayException"}}',
                answers.decode(said:match("^data: (.*)\n\n$")))
            local ok, failure = pcall(body)
            assert.is_false(ok)
            assert.equal(require("moonflow.server").CUT, failure)
        end)

        it("end OpenAI's stream with an event that says so, without [DONE]", function()
            local _, _, body = respond("chat", breaks(), chat_inputs { stream = true }, "openai")
            body()
            local failure = answers.decode(body():match("^data: (.*)\n\n$")).error
            assert.equal("Gone.", failure.message)
            assert.equal("server_error", failure.type)
            assert.is_nil(body())
            assert.is_nil(body())
        end)

        it("close what the handler had open", function()
            local closed = false
            local _, _, body = respond("chat", function(_, stream)
                local _ <close> = setmetatable({}, { __close = function()
                    closed = true
                end })
                stream("a")
                error("broken")
            end, chat_inputs { stream = true }, "openai")
            body()
            body()
            assert.is_true(closed)
            assert.matches("broken", log(), 1, true)
        end)

        it("name a wrong piece at its place", function()
            for _, piece in ipairs { 7, true, { nonsense = 1 } } do
                local status = respond("chat", function(_, stream)
                    stream(piece)
                end, chat_inputs { stream = true })
                assert.equal(500, status)
                assert.matches("a part of a stream must be a string", lines[#lines], 1, true)
            end
        end)

        it("come of text that is no UTF-8", function()
            for _, stream in ipairs { true, false } do
                local status = respond("chat", function()
                    return "\xFF"
                end, chat_inputs { stream = stream })
                assert.equal(500, status)
                assert.matches('endpoint "e": the answer has no form in JSON', lines[#lines], 1, true)
            end
        end)

        it("come of a stream that another task writes to", function()
            local status = respond("chat", function(_, stream)
                task.spawn(function()
                    stream("a")
                end):wait()
            end, chat_inputs { stream = true })
            assert.equal(500, status)
            assert.matches("not from another task or coroutine", log(), 1, true)
        end)
    end)
end)
