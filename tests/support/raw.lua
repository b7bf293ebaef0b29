--- Drives the raw scripted server (tests/servers/raw.py, whose head describes the steps).
--
--     local server = raw.listen{ raw.reply{ status = 503 }, raw.reply{ json = { ok = true } } }
--     ... requests to server.url: the first is answered 503, all others 200 ...
--     assert.equal(2, #server:requests())
--     server:close()
--
-- Call it in the body of an `it`: without the raw server the test is skipped.

local base64 = require "moonflow.base64"
local http = require "moonflow.http"
local json = require "moonflow.json"
local skip = require "support.skip"

local raw = {}

local Server = {}
Server.__index = Server

local function control(method, path, script)
    local base = skip.unless_env("MOONFLOW_TEST_RAW")
    local body = script and assert(json.encode(script))
    local response = assert(http.request {
        method = method,
        url = base .. path,
        headers = body and { ["Content-Type"] = "application/json" } or nil,
        body = body,
    })
    assert(response.status == 200, response.body)
    return assert(json.decode(response.body))
end

--- The script as raw.py reads it: a plain list is a list of replies.
local function to_script(options)
    local script = { tls = options.tls, backlog = options.backlog, connections = options.connections }
    if options[1] then
        script.requests = table.move(options, 1, #options, 1, {})
    end
    return script
end

--- Opens a port. `options` is a list of replies (one for each request, the last one repeats; see
-- raw.reply, or a list of steps), or has `connections` (a list of steps for each connection), or
-- `backlog = true`; and `tls = {certfile=, keyfile=}` for TLS.
---@param options table
---@return table server fields port, url, methods connections, received, requests, script, close
function raw.listen(options)
    local made = control("POST", "/listeners", to_script(options))
    local scheme = options.tls and "https" or "http"
    return setmetatable({
        id = made.id,
        port = made.port,
        url = ("%s://127.0.0.1:%d"):format(scheme, made.port),
    }, Server)
end

--- A port on which nothing listens.
---@return integer
function raw.closed_port()
    local server = raw.listen {}
    server:close()
    return server.port
end

local function each_header(headers, write)
    for _, pair in ipairs(headers) do
        write(pair[1], pair[2])
    end
    for name, value in pairs(headers) do
        if type(name) == "string" then
            write(name, value)
        end
    end
end

local function chunked(body, size)
    local out = {}
    for at = 1, #body, size do
        local chunk = body:sub(at, at + size - 1)
        out[#out + 1] = ("%x\r\n%s\r\n"):format(#chunk, chunk)
    end
    return table.concat(out) .. "0\r\n\r\n"
end

--- The bytes of a whole answer. Fields as for raw.reply.
---@param options table
---@return string
function raw.bytes(options)
    local status = options.status or 200
    local body = options.body or ""
    local framing = options.framing or "length"
    local lines = { ("HTTP/1.1 %d %s"):format(status, options.reason or "Scripted") }
    local function write(name, value)
        lines[#lines + 1] = name .. ": " .. tostring(value)
    end
    if options.json ~= nil then
        body = assert(json.encode(options.json))
        write("Content-Type", "application/json")
    end
    each_header(options.headers or {}, write)
    if framing == "length" then
        write("Content-Length", #body)
    elseif framing == "chunked" then
        write("Transfer-Encoding", "chunked")
        body = chunked(body, options.chunk_size or math.max(#body, 1))
    elseif framing == "close" then
        write("Connection", "close")
    end
    return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

--- The steps of one answer.
--   status, reason, headers (map, or list of {name, value}), body or json
--   framing     "length" (default), "chunked" (chunk_size), "close", "none" (headers say nothing)
--   wait        seconds before the first byte
--   chop, pause writes of `chop` bytes, `pause` seconds apart
--   times       the whole body this often (framing "close" or "none")
--   cut, reset, stall   after this many bytes of the answer: close, reset, or do nothing more
---@param options table
---@return table steps
function raw.reply(options)
    local bytes = raw.bytes(options)
    local stop = options.cut or options.reset or options.stall
    local steps = {}
    if options.wait then
        steps[1] = { sleep = options.wait }
    end
    local function send(data, times)
        if data ~= "" then
            steps[#steps + 1] = {
                send64 = base64.encode(data), times = times, chop = options.chop, delay = options.pause,
            }
        end
    end
    if options.times then
        send(bytes:sub(1, #bytes - #options.body))
        send(options.body, options.times)
    else
        send(stop and bytes:sub(1, stop) or bytes)
    end
    if options.reset then
        steps[#steps + 1] = { reset = true }
    elseif options.stall then
        steps[#steps + 1] = { stall = true }
    elseif options.cut or options.framing == "close" then
        steps[#steps + 1] = { close = true }
    end
    return json.array(steps)
end

--- A new script from here on; what was received stays.
function Server:script(options)
    control("PUT", "/listeners/" .. self.id, to_script(options))
end

--- What came in so far, a list with an entry for each connection: received (the exact bytes), open.
function Server:connections()
    local list = control("GET", "/listeners/" .. self.id).connections
    for _, connection in ipairs(list) do
        connection.received = base64.decode(connection.received64)
    end
    return list
end

--- The exact bytes received on each connection.
function Server:received()
    local list = self:connections()
    for i, connection in ipairs(list) do
        list[i] = connection.received
    end
    return list
end

--- Whole requests so far, on all connections: method, target, headers (list of {name, value}),
-- body, connection (its number), and header(name), the value or nil.
function Server:requests()
    local list = control("GET", "/listeners/" .. self.id).requests
    for _, request in ipairs(list) do
        request.body = base64.decode(request.body64)
        request.header = function(name)
            for _, pair in ipairs(request.headers) do
                if pair[1]:lower() == name:lower() then
                    return pair[2]
                end
            end
        end
    end
    return list
end

--- Closes the port and all its connections.
function Server:close()
    control("DELETE", "/listeners/" .. self.id)
end

Server.__close = Server.close

return raw
