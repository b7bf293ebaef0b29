-- moonflow.json against lua-cjson: time of the same work in the same run.
--
--     json_bench.lua [ROUNDS]
--
-- The two take turns within each round, each measured over some 20 ms of CPU time. A line gives the
-- median time of each per document, and the median over the rounds of moonflow's time / cjson's.
-- Every document is decoded and encoded by both before it is measured. Exit code 1 where a ratio
-- misses its limit in CASES, so that a slow codec can not go unseen.

local cjson = require "cjson"
local json = require "moonflow.json"

local ROUNDS = tonumber(arg and arg[1]) or 11
local SLICE = 0.02

math.randomseed(20260101)

local function chat()
    return [[{"id":"chatcmpl-9Yx2aKqLm0b1cD","object":"chat.completion","created":1767225600,]]
        .. [["model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant",]]
        .. [["content":"Here is a short answer.\n\n]]
        .. [[1. Load the model with `mlflow.pyfunc.load_model(\"models:/churn/3\")`.]]
        .. [[\n2. Prepare a data frame with the columns that the signature names; missing ones are an error, not a ]]
        .. [[guess.\n3. Call `predict` and look at the first rows.\n\nThat is all there is to it \u2013 the rest is ]]
        .. [[a matter of taste.","tool_calls":[{"id":"call_8f2c","type":"function","function":{"name":"lookup",]]
        .. [["arguments":"{\"city\":\"Zürich\",\"days\":3}"}}],"refusal":null},"logprobs":null,]]
        .. [["finish_reason":"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":104,"total_tokens":135,]]
        .. [["prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{]]
        .. [["reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},]]
        .. [["service_tier":"default","system_fingerprint":"fp_50cad350e4"}]]
end

local function chunk()
    return [[{"id":"chatcmpl-9Yx2aKqLm0b1cD","object":"chat.completion.chunk","created":1767225600,]]
        .. [["model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_50cad350e4",]]
        .. [["choices":[{"index":0,"delta":{"content":" answer"},"logprobs":null,"finish_reason":null}],"usage":null}]]
end

local function listing(vectors)
    return '{"object":"list","data":[' .. table.concat(vectors, ",") .. '],"model":"text-embedding-3-small"}'
end

-- Hosted models send some 9 digits a number, a float32; what Python computed in doubles has 17.
local function embeddings(rows, columns, format)
    local vectors = {}
    for row = 1, rows do
        local numbers = {}
        for column = 1, columns do
            numbers[column] = format:format((math.random() - 0.5) * 0.1)
        end
        local list = table.concat(numbers, ",")
        vectors[row] = ('{"object":"embedding","index":%d,"embedding":[%s]}'):format(row - 1, list)
    end
    return listing(vectors)
end

local function base64(rows, bytes)
    local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    local vectors = {}
    for row = 1, rows do
        local letters = {}
        for i = 1, bytes // 3 * 4 do
            local at = math.random(#alphabet)
            letters[i] = alphabet:sub(at, at)
        end
        vectors[row] = ('{"object":"embedding","index":%d,"embedding":"%s"}'):format(row - 1, table.concat(letters))
    end
    return listing(vectors)
end

-- name, document, most that moonflow's time / cjson's may be: decode, encode. On short documents most
-- of the time is Lua's own, for strings and tables, and the same for both.
local CASES = {
    { "chat", chat(), 0.65, 1.0 },
    { "SSE chunk", chunk(), 0.7, 1.0 },
    { "100 x 1536 floats", embeddings(100, 1536, "%.9g"), 0.4, 1.0 },
    { "100 x 1536 doubles", embeddings(100, 1536, "%.17g"), 0.5, 1.0 },
    { "base64 of the same", base64(100, 1536 * 4), 0.2, 1.0 },
}

local function median(list)
    table.sort(list)
    return list[(#list + 1) // 2]
end

local function seconds(work, subject, times)
    local start = os.clock()
    for _ = 1, times do
        work(subject)
    end
    return (os.clock() - start) / times
end

local function compare(ours, ours_subject, theirs, theirs_subject)
    collectgarbage()
    local times = math.max(1, math.floor(SLICE / math.max(1e-7, seconds(theirs, theirs_subject, 3))))
    local a, b, ratios = {}, {}, {}
    for round = 1, ROUNDS do
        collectgarbage()
        a[round] = seconds(ours, ours_subject, times)
        collectgarbage()
        b[round] = seconds(theirs, theirs_subject, times)
        ratios[round] = a[round] / b[round]
    end
    return median(a), median(b), median(ratios)
end

print(("%s, cjson %s, %d rounds"):format(_VERSION, cjson._VERSION, ROUNDS))
print(("%-20s %-7s %10s %12s %12s %7s %7s"):format(
    "document", "", "bytes", "moonflow us", "cjson us", "ratio", "limit"))
local missed = 0
for _, case in ipairs(CASES) do
    local name, text = case[1], case[2]
    local ours, theirs = assert(json.decode(text)), cjson.decode(text)
    assert(json.decode(assert(json.encode(ours))), name)
    local rows = {
        { "decode", case[3], compare(json.decode, text, cjson.decode, text) },
        { "encode", case[4], compare(json.encode, ours, cjson.encode, theirs) },
    }
    for _, row in ipairs(rows) do
        local work, limit, a, b, ratio = table.unpack(row)
        missed = missed + (ratio > limit and 1 or 0)
        print(("%-20s %-7s %10d %12.2f %12.2f %7.2f %7.2f"):format(name, work, #text, a * 1e6, b * 1e6, ratio, limit))
    end
end
if missed > 0 then
    print(missed .. " over their limit")
    os.exit(1)
end
