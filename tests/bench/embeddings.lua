--- moonflow's side of the benchmarks of embeddings: 100 vectors of 1536 numbers. Every answer is checked;
-- times are per answer.
--
--     embeddings.lua decode URL FORMAT N    decodes one answer N times: FORMAT is base64 or float
--     embeddings.lua predict URL FORMAT N   asks for it N times
--
-- Both print microseconds of CPU.

local base64 = require "moonflow.base64"
local json = require "moonflow.json"

local mode, url, format, count = arg[1], arg[2], arg[3], math.tointeger(arg[4])

local INPUT = {}
for i = 1, 100 do
    INPUT[i] = "The tests of the last week are in, and the figures look the same as the week before."
end

local function check(answer)
    local last = answer.data[100].embedding
    assert(#answer.data == 100 and #last == 1536 and math.type(last[1536]) == "float", "not the answer")
end

--- What moonflow.embeddings does with an answer.
local function decode(body)
    local answer = assert(json.decode(body))
    if format == "base64" then
        for _, item in ipairs(answer.data) do
            item.embedding = json.array(assert(base64.floats(item.embedding)))
        end
    end
    return answer
end

local function fetch()
    local response = assert(require("moonflow.http").request {
        url = url .. "/v1/embeddings",
        json = { model = "text-embedding-3-small", input = INPUT, encoding_format = format },
    })
    assert(response.status == 200, response.body)
    return response.body
end

local modes = {}

function modes.decode()
    local body = fetch()
    return function()
        return decode(body)
    end
end

-- Where the caller names no format, moonflow asks for base64.
function modes.predict()
    local client = require("moonflow.deployments").get_deploy_client("openai:" .. url .. "/v1", { max_retries = 0 })
    local inputs = { input = INPUT, encoding_format = format == "float" and format or nil }
    return function()
        return client:predict { endpoint = "text-embedding-3-small", inputs = inputs }
    end
end

local work = modes[mode]()
check(work())
collectgarbage()
local start = os.clock()
for _ = 1, count do
    check(work())
end
print(("%.1f"):format((os.clock() - start) / count * 1e6))
