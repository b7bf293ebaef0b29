--- `moonflow serve` as a program beside a test, and other people's clients that ask a server
-- (tests/conformance/serve_clients.py).
--
--     local server <close> = serve_clients.start("tests/gateway/serve.lua")
--     local records = serve_clients.drive(server.url, "openai")
--     local stderr = server:close()

local conformance = require "support.conformance"
local json = require "moonflow.json"
local process = require "support.process"
local skip = require "support.skip"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local serve_clients = {}

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local PYTHON = root .. "/.venv/bin/python"

local START_MAX = 60 -- seconds, where it is sanitized and the machine is busy

local Server = {}
Server.__index = Server

local function quote(word)
    return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

local function read(name)
    local file <close> = assert(io.open(name, "rb"))
    return file:read("a")
end

--- Starts it on a free port; it ends with `close`, and by itself after ten minutes.
---@param file string its endpoints
---@param env? table name -> string
---@return table server field url, method close
function serve_clients.start(file, env)
    local words = { "env" }
    for name, value in pairs(env or {}) do
        words[#words + 1] = name .. "=" .. value
    end
    table.move({ "timeout", 600, process.moonflow(), "serve", file, "--port", 0 }, 1, 7, #words + 1, words)
    for i, word in ipairs(words) do
        words[i] = quote(word)
    end
    -- into a file, as nobody reads a pipe to its end while the server runs
    local output, errors = os.tmpname(), os.tmpname()
    local pipe = assert(io.popen(("echo $$; exec %s >%s 2>%s </dev/null"):format(
        table.concat(words, " "), output, errors)))
    local server = setmetatable({ pid = pipe:read("l"), pipe = pipe, output = output, errors = errors }, Server)
    local deadline = sys.monotonic() + START_MAX
    repeat
        task.sleep(0.02)
        server.url = read(output):match("^(%S+)\n")
    until server.url or sys.monotonic() > deadline
    if not server.url then
        error("moonflow serve did not start: " .. server:close(), 2)
    end
    return server
end

--- Ends it. Returns what it wrote to stderr.
---@return string
function Server:close()
    if self.pipe then
        os.execute(("kill %s 2>/dev/null"):format(self.pid))
        self.pipe:close()
        self.pipe = nil
        self.said = read(self.errors)
        os.remove(self.errors)
        os.remove(self.output)
    end
    return self.said
end

Server.__close = Server.close

--- What the clients get of a server in a group of cases: the records, in their order and by the names of the
-- cases. Skips the test where there is no Python with the clients.
---@param url string
---@param group string
---@return table records
function serve_clients.drive(url, group)
    local python = io.open(PYTHON)
    skip.unless(python, ".venv has no Python: run scripts/test.sh")
    python:close()
    local result = process.run {
        PYTHON, "-B", root .. "/tests/conformance/serve_clients.py", url, group, timeout = 240,
    }
    assert(result.code == 0, result.stderr)
    local records = {}
    for line in result.stdout:gmatch("[^\n]+") do
        local record = assert(json.decode(line))
        records[#records + 1] = record
        records[record.case] = record
    end
    assert(#records > 0, "there are no cases")
    return records
end

local function is_table(value)
    return type(value) == "table" and value ~= json.null
end

local function shown(value)
    return value == nil and "nothing" or conformance.canonical(value)
end

local function collect(found, path, theirs, ours)
    if not is_table(theirs) or not is_table(ours) then
        local first, second = shown(theirs), shown(ours)
        if first ~= second then
            found[#found + 1] = { path = path, theirs = first, ours = second }
        end
        return
    end
    local names = {}
    for _, object in ipairs { theirs, ours } do
        for name in pairs(object) do
            names[name] = true
        end
    end
    for name in pairs(names) do
        collect(found, path == "" and tostring(name) or ("%s.%s"):format(path, name), theirs[name], ours[name])
    end
end

--- The fields in which two values differ: a list of { path, theirs, ours }, the values as JSON or "nothing".
---@return table[]
function serve_clients.differences(theirs, ours)
    local found = {}
    collect(found, "", theirs, ours)
    table.sort(found, function(a, b)
        return a.path < b.path
    end)
    return found
end

return serve_clients
