--- The endpoints of the benchmarks of `moonflow serve`. BENCH_UPSTREAM is the URL of bench_server, BENCH_WORDS the
-- length of a stream, whose chunks are a millisecond apart, BENCH_ANSWER a file with an answer.

local json = require "moonflow.json"
local sys = require "moonflow.sys"

local upstream = os.getenv "BENCH_UPSTREAM"
local answer = json.decode(assert(sys.read_file(os.getenv "BENCH_ANSWER")))
local text = answer.choices[1].message.content

return {
    { name = "chat", endpoint_type = "llm/v1/chat", target = upstream, options = { max_retries = 0 } },
    {
        name = "handler", endpoint_type = "llm/v1/chat",
        handler = function()
            return text
        end,
    },
    {
        name = "stream", endpoint_type = "llm/v1/chat",
        target = ("openai:%s/sse/%s/1000/v1"):format(upstream, os.getenv "BENCH_WORDS"),
        endpoint = "gpt-4o-mini", options = { api_key = "not-needed", max_retries = 0 },
    },
}
