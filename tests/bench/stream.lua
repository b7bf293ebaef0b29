--- moonflow's side of the benchmarks of streams. Every answer is checked; times are per chunk.
--
--     stream.lua bulk URL N STREAMS    N words as fast as they come, so many times: prints microseconds of
--                                      CPU and of real time
--     stream.lua paced URL N           N words, a millisecond apart: prints microseconds from the server's
--                                      stamp to the script, median and 9 of 10, and of CPU
--     stream.lua memory URL STREAMS    so many streams open at once: prints bytes of each

local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local sys = require "moonflow.sys"

local mode, url = arg[1], arg[2]

local INPUTS = {
    messages = {
        { role = "system", content = "You answer in a few short sentences." },
        { role = "user", content = "Please sum up this report." },
    },
    temperature = 0.2,
}

local function client_of(words, gap)
    return deployments.get_deploy_client(("openai:%s/sse/%d/%d/v1"):format(url, words, gap), { max_retries = 0 })
end

local function open(client)
    return client:predict_stream { endpoint = "gpt-4o-mini", inputs = INPUTS }
end

--- Fails unless `count` chunks with `size` bytes of text are a stream of so many words.
local function check(stream, words, count, size)
    local answer = stream:collected():result().choices[1]
    assert(count == words + 2 and answer.finish_reason == "stop", "not the stream that was expected")
    assert(#answer.message.content == size and size > words, "not its text")
end

local function read(client, words)
    local count, size = 0, 0
    local stream = open(client)
    for chunk in stream do
        count = count + 1
        size = size + #chat.text(chunk)
    end
    check(stream, words, count, size)
end

local modes = {}

function modes.bulk(words, streams)
    local client = client_of(words, 0)
    read(client, words)
    local cpu, wall = os.clock(), sys.monotonic()
    for _ = 1, streams do
        read(client, words)
    end
    local chunks = words * streams
    print(("%.3f %.3f"):format((os.clock() - cpu) / chunks * 1e6, (sys.monotonic() - wall) / chunks * 1e6))
end

function modes.paced(words)
    local client = client_of(words, 1000)
    local late, size = {}, 0
    local stream = open(client)
    local cpu = os.clock()
    for chunk in stream do
        local now = sys.monotonic()
        late[#late + 1] = now * 1e6 - math.tointeger(chunk.obfuscation) / 1e3
        size = size + #chat.text(chunk)
    end
    cpu = os.clock() - cpu
    check(stream, words, #late, size)
    table.sort(late)
    print(("%.1f %.1f %.1f"):format(late[#late // 2], late[#late * 9 // 10], cpu / words * 1e6))
end

--- Bytes that are resident, from the kernel.
local function resident()
    for line in io.lines("/proc/self/status") do
        local size = line:match("^VmRSS:%s*(%d+) kB")
        if size then
            return tonumber(size) * 1024
        end
    end
end

function modes.memory(count)
    local task = require "moonflow.task"
    read(client_of(10, 0), 10)
    collectgarbage()
    local before = resident()
    local client = client_of(20, 500000)
    local list = {}
    for i = 1, count do
        list[i] = i
    end
    -- predict_stream returns with the first chunk; two more are read of each while all are open.
    local streams = task.map(list, function()
        local stream = open(client)
        assert(stream() and stream() and stream(), "it has ended")
        return stream
    end, { limit = count })
    print(("%.0f"):format((resident() - before) / count))
    for _, stream in ipairs(streams) do
        stream:close()
    end
end

local numbers = {}
for i = 3, #arg do
    numbers[#numbers + 1] = math.tointeger(arg[i])
end
modes[mode](table.unpack(numbers))
