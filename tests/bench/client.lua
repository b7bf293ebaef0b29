--- moonflow's side of the benchmarks. Every answer is checked; times are per request.
--
--     client.lua once URL [CA]                            one predict, for a process as a whole
--     client.lua predict URL N WARM-UP IN-FLIGHT [CA]     prints microseconds of CPU and of real time
--     client.lua memory URL N                             N in flight at URL/delay: prints bytes of each
--     client.lua soak URL N                               prints RSS and descriptors, after a tenth and at the end
--
-- CA is a directory or a file of certificates. IN-FLIGHT 1 is a loop that blocks; more are tasks.

local mode, target = arg[1], arg[2]

local function client_of(ca)
    return require("moonflow.deployments").get_deploy_client(target, { ca_file = ca, max_retries = 0 })
end

local SYSTEM = "You answer in a few short sentences."
local USER = "Please sum up this report. The tests of the last week are in, and the figures look the same as the "
    .. "week before. Nothing else changed since, apart from the two hosts that were moved to the new rack on "
    .. "Tuesday; their clocks were checked after that, and the load on each is a little lower than it was. Read "
    .. "the notes below before you answer, keep to what they say, and name the line "

--- One request, built anew: as JSON it has the length of request.json.
local function ask(client)
    local answer = client:predict {
        endpoint = "chat",
        inputs = {
            messages = { { role = "system", content = SYSTEM }, { role = "user", content = USER } },
            temperature = 0.2, max_tokens = 256, n = 1, stop = { "\n\n\n" },
        },
    }
    assert(answer.usage.total_tokens == 235 and #answer.choices[1].message.content > 500, "not the answer")
    return answer
end

--- Asks `count` times, `in_flight` at once.
local function run(client, count, in_flight)
    if in_flight == 1 then
        for _ = 1, count do
            ask(client)
        end
    else
        local list = {}
        for i = 1, count do
            list[i] = i
        end
        require("moonflow.task").map(list, function()
            ask(client)
        end, { limit = in_flight })
    end
end

local modes = {}

function modes.once(ca)
    print(ask(client_of(ca)).id)
end

function modes.predict(count, warm_up, in_flight, ca)
    local sys = require "moonflow.sys"
    require "moonflow._http"
    count, in_flight = tonumber(count), tonumber(in_flight)
    local client = client_of(ca)
    run(client, tonumber(warm_up), in_flight)
    local cpu, wall = os.clock(), sys.monotonic()
    run(client, count, in_flight)
    print(("%.3f %.3f"):format((os.clock() - cpu) / count * 1e6, (sys.monotonic() - wall) / count * 1e6))
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
    count = tonumber(count)
    ask(client_of())
    collectgarbage()
    local before, peak = resident(), nil
    target = target .. "/delay/2000"
    local client = client_of()
    -- After one second all of them have been sent and none is answered.
    task.spawn(function()
        task.sleep(1)
        peak = resident()
    end)
    local start = require("moonflow.sys").monotonic()
    run(client, count, count)
    assert(require("moonflow.sys").monotonic() - start < 4, "they were not in flight at once")
    print(("%.0f"):format((peak - before) / count))
end

function modes.soak(count)
    local sys = require "moonflow.sys"
    local client = client_of()
    local tenth = tonumber(count) // 10
    local line = {}
    for part = 1, 10 do
        run(client, tenth // 2, 1)
        run(client, tenth - tenth // 2, 16)
        if part == 1 or part == 10 then
            collectgarbage()
            line[#line + 1] = resident()
            line[#line + 1] = #sys.list_dir("/proc/self/fd")
        end
    end
    print(table.concat(line, " "))
end

modes[mode](table.unpack(arg, 3))
