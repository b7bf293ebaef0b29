--- What a stream is made of: the recorded answers of many servers, where each of them ends, and what
-- is no end. How streams behave in time is stream_faults_spec.lua's.
local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local json = require "moonflow.json"
local probe = require "support.probe"
local raw = require "support.raw"
local streams = require "support.streams"
local task = require "moonflow.task"

local delta, event, script = streams.delta, streams.event, streams.script
local HEAD, DONE = streams.HEAD, streams.DONE
local played, served = streams.played, streams.served

local lines

before_each(function()
    lines = probe.listen()
    env.OPENAI_API_KEY = "key-0123456789"
end)

after_each(function()
    lines:close()
    env.OPENAI_API_KEY = nil
end)

-- What each recorded answer is: chunks, text, finish_reasons; and the error where it ends with one.
local OVERLOADED = { kind = "http", http_status = 503, error_code = "TEMPORARILY_UNAVAILABLE", words = "are busy" }
local STREAMS = {
    ["anthropic-messages"] = { 4, "", "", { kind = "network", error_code = "DATA_LOSS", words = "after 4 chunks" } },
    ["azure-async-filter"] = { 7, "Low tide at six.", "stop" },
    ["azure-content-filter"] = { 2, "Some", "content_filter" },
    ["azure-first-chunk"] = { 4, "Guten Tag", "stop" },
    ["completions"] = { 3, "\n\nStill waters run deep", "stop" },
    ["cr-only"] = { 2, "známé", "stop" },
    ["crlf-bom"] = { 2, "známé", "stop" },
    ["databricks-chat"] = { 3, "Delta lake", "stop" },
    ["databricks-error"] = { 1, "De", "-", {
        kind = "http", http_status = 429, error_code = "REQUEST_LIMIT_EXCEEDED", words = "output tokens per minute",
    } },
    ["databricks-reasoning"] = { 5, "4", "stop" },
    ["gateway-keep-alives"] = { 2, "ok", "stop" },
    ["invalid-utf8"] = { 1, "a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}\u{FFFD}", "stop" },
    ["llamacpp-done-without-blank-line"] = { 3, "Hi", "stop" },
    ["llamacpp-error-field"] = { 1, "", "-", { kind = "http", http_status = 500, words = "context shift" } },
    ["llamacpp-no-done"] = { 1, "half an", "-", { kind = "network", error_code = "DATA_LOSS" } },
    ["mixed-line-ends"] = { 3, "aб", "stop" },
    ["mlflow-gateway-no-done"] = { 3, "Hei verden", "stop" },
    ["multibyte"] = {
        5, "извѣстни日本語の月\u{1F469}\u{200D}\u{1F680} e\u{301}sep\u{2028}\u{2029}\u{85}\v\fend", "stop",
    },
    ["multiline-pretty"] = { 1, "pretty\n\nprinted", "stop" },
    ["ollama-null-finish"] = { 2, "Four.", "-" },
    ["ollama-tools-index-0"] = { 3, "", "tool_calls" },
    ["ollama-tools-no-index"] = { 2, "", "stop" },
    ["openai-chat"] = { 6, "The moon rises at nine\n– über den Dächern 🌙", "stop" },
    ["openai-error-in-stream"] = { 1, "One", "-", {
        kind = "http", http_status = 500, error_code = "INTERNAL_ERROR", words = "had an error while processing",
    } },
    ["openai-length"] = { 3, "Once upon a", "length" },
    ["openai-refusal"] = { 4, "", "stop" },
    ["openai-tools"] = { 7, "", "tool_calls" },
    ["openrouter-comments"] = { 4, "Ahoy", "stop" },
    ["openrouter-error"] = { 1, "Well", "-", { kind = "http", http_status = 502, words = "Provider disconnected" } },
    ["perplexity-no-done"] = { 3, "Spring tide", "stop" },
    ["responses-error"] = { 1, "", "", OVERLOADED },
    ["responses-failed"] = { 1, "", "", { kind = "http", http_status = 500, words = "The model stumbled" } },
    ["responses-function-call"] = { 7, "", "" },
    ["responses-incomplete"] = { 6, "Salut", "" },
    ["responses"] = { 10, "Salut, là-bas", "" },
    ["sglang-usage-every-chunk"] = { 3, "Ja", "stop" },
    ["steady-mock"] = { 4, "onetwothree", "stop" },
    ["two-choices"] = { 7, "No way.", "length stop" },
    ["unfinished-event"] = { 1, "whole", "-", { kind = "network", error_code = "DATA_LOSS" } },
    ["vllm-new-error"] = { 1, "", "-", { kind = "http", http_status = 500, words = "engine died" } },
    ["vllm-old-error"] = { 1, "", "-", { kind = "http", http_status = 400, words = "40 tokens too long" } },
    ["vllm-usage-every-chunk"] = { 5, "Hello!", "stop" },
}

local names = {}
for name in pairs(STREAMS) do
    names[#names + 1] = name
end
table.sort(names)

--- The finish_reason of each choice, in order.
local function finish_of(chunks)
    local reasons = {}
    local answer = chat.collect(chunks)
    for i, choice in ipairs(answer and answer.choices or {}) do
        reasons[i] = choice.finish_reason ~= json.null and choice.finish_reason or "-"
    end
    return table.concat(reasons, " ")
end

local function check_stream(name, chunks, err)
    local wanted = STREAMS[name]
    assert.equal(wanted[1], #chunks, name)
    assert.equal(wanted[2], streams.text(chunks), name)
    assert.equal(wanted[3], finish_of(chunks), name)
    assert.equal(wanted[4] ~= nil, err ~= nil, ("%s: %s"):format(name, err))
    if err then
        streams.check_error(wanted[4], err)
        assert.same(chat.collect(chunks), err.partial, name)
    end
end

describe("a recorded stream", function()
    it("is in the table", function()
        local files <close> = assert(io.popen("ls tests/streams"))
        local found = {}
        for name in files:lines() do
            found[#found + 1] = name:match("^(.*)%.sse$")
        end
        table.sort(found)
        assert.same(names, found)
    end)

    for backend in pairs(streams.TARGETS) do
        it("is read whole by a client for " .. backend, function()
            task.map(names, function(name)
                check_stream(name, served({ body = streams.load(name), framing = "close" }, backend))
            end, { limit = 8 })
        end)
    end

    it("gives the same chunks however it is framed and chopped", function()
        local cases = {}
        for _, name in ipairs(names) do
            for _, size in ipairs { 1, 2, 3, 7, 64 } do
                cases[#cases + 1] = { name, { framing = "chunked", chunk_size = size } }
                cases[#cases + 1] = { name, { framing = "length", chop = size } }
            end
        end
        task.map(cases, function(case)
            local name, reply = case[1], case[2]
            reply.body = streams.load(name)
            check_stream(name, served(reply))
        end, { limit = 8 })
    end)

    it("gives the same chunks wherever it pauses", function()
        local cases = {}
        for i, name in ipairs(names) do
            local body = streams.load(name)
            for at = i % 7, #body, #body // 5 do -- a few points in each, others in every one
                cases[#cases + 1] = { name, body:sub(1, at), body:sub(at + 1) }
            end
        end
        task.map(cases, function(case)
            local server <close> = raw.listen { script(HEAD, case[2], 0.005, case[3]) }
            check_stream(case[1], streams.read(streams.client(server)))
        end, { limit = 8 })
    end)
end)

describe("the end of a stream", function()
    it("is [DONE], at once, though the server says nothing more", function()
        for _, mark in ipairs { DONE, "data: [DONE]\n", "data:[DONE]\r\n", "id: 7\ndata: [DONE]\n" } do
            local server <close> = raw.listen { script(HEAD, delta("a"), mark, { stall = true }) }
            local seconds, chunks, err = probe.timed(streams.read, streams.client(server))
            assert.is_nil(err)
            assert.equal("a", streams.text(chunks))
            assert.is_true(seconds < 1, seconds)
        end
    end)

    it("is [DONE] also where it comes after a while", function()
        local server <close> = raw.listen { script(HEAD, delta("a"), 0.1, DONE, { stall = true }) }
        local seconds, chunks, err = probe.timed(streams.read, streams.client(server))
        assert.is_nil(err)
        assert.equal(1, #chunks)
        assert.is_true(seconds >= 0.1 and seconds < 1, seconds)
    end)

    it("is [DONE] without a chunk before it", function()
        local chunks, err, opened = played(DONE)
        assert.is_nil(err)
        assert.same({}, chunks)
        assert.is_nil(opened())
    end)

    it("is [DONE] alone: not the beginning of that line, and not a line that begins so", function()
        for _, mark in ipairs { "data: [DONE]", "data: [DONE", "data: [DONE] \n\n", "data: [DONE]x\n\n",
            "data: 1\ndata: [DONE]\n\n", "[DONE]\n\n", "event: [DONE]\n\n", "data: [done]\n\n" } do
            local chunks, err = played(delta("a") .. mark)
            assert.equal(1, #chunks, mark)
            assert.is_not_nil(err, mark)
            assert.equal("a", err.partial.choices[1].message.content)
        end
    end)

    it("drops what comes behind [DONE]", function()
        local chunks, err = played(delta("a") .. DONE .. delta("b") .. "data: no JSON\n\n")
        assert.is_nil(err)
        assert.equal("a", streams.text(chunks))
    end)

    it("is the end of the body once each choice has its finish_reason", function()
        local function choice(index, finish)
            return event { choices = { { index = index, delta = { content = "x" }, finish_reason = finish } } }
        end
        local chunks, err = played(choice(0, "stop") .. choice(1) .. choice(1, "length"))
        assert.is_nil(err)
        assert.equal(3, #chunks)
        chunks, err = played(choice(0, "stop") .. choice(1))
        assert.equal(2, #chunks)
        assert.equal("DATA_LOSS", err.error_code)
    end)

    it("does not wait for choices that were asked for and never seen", function()
        local server <close> = raw.listen { raw.reply {
            headers = streams.HEADERS, body = delta("a", "stop"), framing = "close",
        } }
        local opened = streams.client(server):predict_stream { endpoint = "e", inputs = { prompt = "a", n = 2 } }
        assert.equal("a", chat.text(opened()))
        assert.is_nil(opened())
    end)

    it("is a final event of the Responses API, at once", function()
        for _, name in ipairs { "completed", "incomplete" } do
            local final = event {
                type = "response." .. name, response = { object = "response", status = name, error = json.null },
            }
            local server <close> = raw.listen { script(HEAD, final, { stall = true }) }
            local seconds, chunks, err = probe.timed(streams.read, streams.client(server))
            assert.is_nil(err)
            assert.equal(1, #chunks)
            assert.is_true(seconds < 1, seconds)
        end
    end)

    it("is none without any of these, and the error says what came", function()
        local chunks, err = played(delta("Half an ") .. delta("answer"))
        assert.equal(2, #chunks)
        assert.equal("network", err.kind)
        assert.equal("DATA_LOSS", err.error_code)
        assert.matches("ended its stream before the answer was complete", err.message, 1, true)
        assert.matches("after 2 chunks", err.message, 1, true)
        assert.equal("Half an answer", err.partial.choices[1].message.content)
        assert.equal("predict_stream", err.operation)
        assert.matches("^http://127.0.0.1:%d+$", err.target)
    end)

    -- What may succeed after a cut in a body: from `finished` on where the connection's end is the body's,
    -- from `done` on always.
    local PIECE, FINISH = delta("Ab"), delta("c", "stop")
    local DELTA = event { type = "response.output_text.delta", output_index = 0, content_index = 0, delta = "Abc" }
    local FINAL = event { type = "response.completed", response = { object = "response", output = json.array {
        { type = "message", content = { { type = "output_text", text = "Abc" } } },
    } } }
    local CUTS = {
        openai = {
            body = PIECE .. FINISH .. DONE, finished = #PIECE + #FINISH, done = #PIECE + #FINISH + #DONE - 1,
        },
        mlflow = { body = PIECE .. FINISH, finished = #PIECE + #FINISH, done = math.huge },
        responses = { body = DELTA .. FINAL, finished = #DELTA + #FINAL, done = #DELTA + #FINAL },
    }

    --- The answers of a stream that is cut after 0, 1, 2, ... bytes of its body.
    local function cut_everywhere(body, framing)
        local replies, answers = {}, {}
        local function reply(cut)
            local options = {
                headers = { ["Content-Type"] = "text/event-stream", ["X-Cut"] = ("%05d"):format(cut) },
                body = body, framing = framing,
            }
            local head = raw.bytes(options):find("\r\n\r\n", 1, true) + 3
            local whole = #raw.bytes(options) - head
            options.cut = head + cut
            return options, whole
        end
        local _, whole = reply(0)
        for cut = 0, whole do
            replies[cut + 1] = raw.reply((reply(cut)))
            answers[cut + 1] = false
        end
        local server <close> = raw.listen(replies)
        local client = streams.client(server)
        task.map(replies, function()
            local chunks, err = streams.read(client)
            local cut = tonumber(client:last_response().headers["x-cut"])
            answers[cut + 1] = { chunks = chunks, err = err }
        end, { limit = 16 })
        return answers, whole
    end

    for name, case in pairs(CUTS) do
        for _, framing in ipairs { "length", "chunked", "close" } do
            it(("is never taken for one of %s, cut anywhere, by %s"):format(name, framing), function()
                local answers, whole = cut_everywhere(case.body, framing)
                local before = framing == "chunked" and #("%x\r\n"):format(#case.body) or 0
                for i, answer in ipairs(answers) do
                    local cut = i - 1 - before
                    local text = streams.text(answer.chunks)
                    local label = ("%d of %d bytes: %q, %s"):format(i - 1, whole, text, answer.err)
                    local must = cut >= case.done or i - 1 == whole or framing == "close" and cut >= case.finished
                    -- libcurl may see the end of chunks before the last byte of their last line
                    local may = must or framing == "chunked" and i - 1 == whole - 1
                    assert(answer.err and not must or not answer.err and may, label)
                    if answer.err then
                        assert(answer.err.error_code == "DATA_LOSS" and answer.err.kind == "network", label)
                        assert(("Abc"):find(text, 1, true) == 1, label)
                    else
                        assert(text == "Abc", label)
                    end
                end
            end)
        end
    end
end)

describe("a stream adds up to", function()
    it("the answer of predict", function()
        local body = streams.load("openai-chat")
        for backend in pairs(streams.TARGETS) do
            local server <close> = raw.listen {
                raw.reply { headers = streams.HEADERS, body = body },
                raw.reply { headers = streams.HEADERS, body = body },
            }
            local client = streams.client(server, backend)
            local collected = chat.collect(streams.open(client))
            local answer = client:predict { endpoint = "e", inputs = { messages = {} } }
            assert.equal("The moon rises at nine\n– über den Dächern 🌙", answer.choices[1].message.content)
            assert.equal("chat.completion", answer.object)
            assert.equal(25, answer.usage.total_tokens)
            assert.same(answer, collected)
        end
    end)

    it("no answer of predict where it does not end", function()
        for _, name in ipairs { "llamacpp-no-done", "vllm-new-error", "responses-failed", "databricks-error" } do
            local server <close> = raw.listen { raw.reply { headers = streams.HEADERS, body = streams.load(name) } }
            local client = streams.client(server)
            local err = probe.failure(client.predict, client, { endpoint = "e", inputs = {} })
            streams.check_error(STREAMS[name][4], err)
            assert.is_table(err.partial)
            assert.equal("predict", err.operation)
        end
    end)

    it("what its response says", function()
        env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0.01"
        local server <close> = raw.listen {
            raw.reply { status = 503 },
            raw.reply { body = delta("a") .. DONE, headers = {
                ["Content-Type"] = "text/event-stream", ["x-request-id"] = "req_7",
                ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-remaining-requests"] = "59",
                ["x-ratelimit-reset-tokens"] = "1m30s",
            } },
        }
        local client = deployments.get_deploy_client(server.url)
        local opened = streams.open(client)
        env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = nil
        local response = opened:response()
        assert.equal(200, response.status)
        assert.equal("text/event-stream", response.headers["content-type"])
        assert.equal("req_7", response.request_id)
        assert.same({ requests = { limit = 60, remaining = 59 }, tokens = { reset = 90 } }, response.rate_limits)
        assert.equal(2, response.attempts)
        assert.is_true(response.timings.first_byte > 0)
        assert.equal("req_7", client:last_response().request_id)
        chat.collect(opened)
        local timings = opened:response().timings
        assert.is_true(timings.connect <= timings.first_byte and timings.first_byte <= timings.total)
    end)

    it("a time, though it was left before its end", function()
        local server <close> = raw.listen { script(HEAD, delta("a"), { stall = true }) }
        local opened = streams.open(streams.client(server))
        assert.equal(0, opened:response().timings.total)
        task.sleep(0.05)
        opened:close()
        local timings = opened:response().timings
        assert.is_true(timings.total >= 0.05 and timings.total < 1, timings.total)
        assert.is_true(timings.first_byte > 0)
    end)

    it("times that predict keeps too", function()
        local server <close> = raw.listen { raw.reply { headers = streams.HEADERS, body = delta("a") .. DONE } }
        local client = streams.client(server)
        client:predict { endpoint = "e", inputs = {} }
        assert.is_true(client:last_response().timings.total > 0)
    end)
end)
