--- Servers for tests, in the program that runs the tests, and a client that sends any bytes to them
--- (tests/servers/raw_client.py, whose head describes the steps).
---
---     local served <close> = serving.start(function(request) return 200, nil, request.path end)
---     local got = served:play { { send = serving.get "/" }, { answers = 1 } }
---     assert.equal("/", got.answers[1].body)
local _process = require "moonflow._process"
local json = require "moonflow.json"
local server = require "moonflow.server"
local skip = require "support.skip"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local serving = {}

local CLIENT = "tests/servers/raw_client.py"

local Served = {}
Served.__index = Served

--- Runs the raw client on a port.
---@param mode string
---@param port integer
---@param script table
---@return table result what it prints
function serving.client(mode, port, script)
    skip.unless(os.execute("command -v python3 >/dev/null"), "python3 is not there")
    local result = assert(_process.run({ "python3", "-B", CLIENT, mode, tostring(port), assert(json.encode(script)) },
        { timeout = 200, max_output = 256 * 1024 * 1024 }))
    assert(result.code == 0, result.stderr)
    return assert(json.decode(result.stdout))
end

--- JSON's texts are UTF-8, where the client's are bytes: one character for each.
local function to_text(bytes)
    return (bytes:gsub("[\x80-\xff]", function(byte) return utf8.char(byte:byte()) end))
end

local function to_bytes(text)
    return (text:gsub("[\xc2\xc3][\x80-\xbf]", function(char) return string.char(utf8.codepoint(char)) end))
end

local function encoded(steps)
    local list = json.array {}
    for i, step in ipairs(steps) do
        list[i] = step
        if step.send then
            list[i] = { send = to_text(step.send), times = step.times, chop = step.chop, delay = step.delay }
        end
    end
    return list
end

--- Plays lists of steps, each on a connection of its own, all at once.
---@param port integer
---@param connections table[] lists of steps
---@param options? table patience, small, head: see raw_client.py
---@return table[] results one for each connection
function serving.play_all(port, connections, options)
    local script = { connections = json.array {} }
    for i, steps in ipairs(connections) do
        script.connections[i] = encoded(steps)
    end
    for name, value in pairs(options or {}) do
        script[name] = value
    end
    local results = serving.client("play", port, script).connections
    for _, result in ipairs(results) do
        result.received, result.rest = to_bytes(result.received), to_bytes(result.rest)
        for _, answer in ipairs(result.answers) do
            answer.body = to_bytes(answer.body)
        end
    end
    return results
end

--- Starts a server on a free port, whose log is kept.
---@param handler function
---@param options? table of moonflow.server
---@return table served fields server, port, url, lines (of its log), methods play, play_all, close
function serving.start(handler, options)
    local lines = {}
    local all = { handler = handler, log = function(line) lines[#lines + 1] = line end }
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    local started = server.start(all)
    return setmetatable({ server = started, port = started.port, url = started.url, lines = lines }, Served)
end

---@param steps table[]
---@param options? table
---@return table result
function Served:play(steps, options)
    return serving.play_all(self.port, { steps }, options)[1]
end

function Served:play_all(connections, options)
    return serving.play_all(self.port, connections, options)
end

function Served:close()
    self.server:close()
end

Served.__close = Served.close

--- The bytes of a request without a body.
---@param target string
---@param headers? string lines, each with its end
---@param method? string
function serving.get(target, headers, method)
    return ("%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"):format(method or "GET", target, headers or "")
end

--- The bytes of a request with a body and its length.
function serving.post(target, body, headers)
    return serving.get(target, ("Content-Length: %d\r\n%s"):format(#body, headers or ""), "POST") .. body
end

--- Waits for something to hold.
---@param holds function
---@param seconds? number at the most, default 5
---@return number seconds that it took
function serving.eventually(holds, seconds)
    local started = sys.monotonic()
    while not holds() do
        assert(sys.monotonic() < started + (seconds or 5), "it did not come true")
        task.sleep(0.002)
    end
    return sys.monotonic() - started
end

--- A value for a `<close>` variable that notes its end: `ended` is when.
---@return table
function serving.noting()
    local noted = {}
    return setmetatable(noted, { __close = function() noted.ended = sys.monotonic() end })
end

--- The memory of this process that is in use.
---@return integer bytes
function serving.resident()
    return tonumber(sys.read_file("/proc/self/statm"):match("^%d+ (%d+)")) * 4096
end

--- Whether the tests run where memory and time say little: with sanitizers, or a collector that never rests.
---@return boolean
function serving.is_slow()
    return os.getenv "MOONFLOW_GC" == "stress" or sys.read_file("/proc/self/maps"):find("asan", 1, true) ~= nil
end

return serving
