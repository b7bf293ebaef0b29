--- Streams of server-sent events for tests: what a scripted server sends (see support.raw), and what a
-- client reads.
--
--     local server <close> = raw.listen { streams.script(streams.HEAD, streams.delta "Hi", 0.1, streams.DONE) }
--     local chunks, err = streams.read(streams.client(server))
local base64 = require "moonflow.base64"
local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local error = require "moonflow.error"
local json = require "moonflow.json"
local raw = require "support.raw"

local streams = {}

streams.HEADERS = { ["Content-Type"] = "text/event-stream" }

--- The head of an answer that ends with its connection.
streams.HEAD = raw.bytes { headers = streams.HEADERS, framing = "close" }

streams.DONE = "data: [DONE]\n\n"

--- An event with this data, a value that becomes JSON or a text.
---@param value any
---@return string
function streams.event(value)
    return ("data: %s\n\n"):format(type(value) == "string" and value or assert(json.encode(value)))
end

--- An event with a chunk of a chat.
---@param text? string
---@param finish? string finish_reason
---@return string
function streams.delta(text, finish)
    return streams.event { choices = { { index = 0, delta = { content = text }, finish_reason = finish } } }
end

--- The steps of one answer: texts are sent, numbers are seconds of sleep, tables are steps. At its end
-- the connection is closed.
---@return table
function streams.script(...)
    local steps = {}
    for i, step in ipairs { ... } do
        if type(step) == "string" then
            step = { send64 = base64.encode(step) }
        elseif type(step) == "number" then
            step = { sleep = step }
        end
        steps[i] = step
    end
    steps[#steps + 1] = { close = true }
    return json.array(steps)
end

--- The ways to name a server as a target, by backend.
streams.TARGETS = { mlflow = "%s", openai = "openai:%s/v1" }

--- A client of a server; without options it repeats nothing.
---@param server table
---@param backend? "mlflow"|"openai"
---@param options? table
function streams.client(server, backend, options)
    local target = streams.TARGETS[backend or "mlflow"]:format(server.url)
    return deployments.get_deploy_client(target, options or { max_retries = 0 })
end

--- Opens a stream.
---@param client table
---@param options? table of the call
---@return table stream
function streams.open(client, options)
    return (client:predict_stream {
        endpoint = "e", inputs = { messages = { { role = "user", content = "Hello!" } } }, options = options,
    })
end

--- Reads a stream to its end.
---@param client table
---@param options? table of the call
---@return table chunks
---@return table? err the error object that it raised
---@return table? opened the stream, where there was one
function streams.read(client, options)
    local chunks, opened = {}, nil
    local ok, err = pcall(function()
        opened = streams.open(client, options)
        for chunk in opened, nil, nil, opened do
            chunks[#chunks + 1] = chunk
        end
    end)
    assert(ok or error.is(err), tostring(err))
    return chunks, not ok and err or nil, opened
end

--- What a client reads of one answer: as streams.read.
---@param reply table as of raw.reply; without headers those of a stream
---@param backend? "mlflow"|"openai"
function streams.served(reply, backend)
    reply.headers = reply.headers or streams.HEADERS
    local server <close> = raw.listen { raw.reply(reply) }
    return streams.read(streams.client(server, backend))
end

--- The same of the text of a stream.
---@param body string
function streams.played(body)
    return streams.served { body = body, framing = "close" }
end

--- The text of chunks together.
---@param chunks table
---@return string
function streams.text(chunks)
    local pieces = {}
    for i, chunk in ipairs(chunks) do
        pieces[i] = chat.text(chunk)
    end
    return table.concat(pieces)
end

--- Fails unless an error has these fields; `words` are a part of its message.
---@param wanted table
---@param err table
function streams.check_error(wanted, err)
    for field, value in pairs(wanted) do
        local got = field == "words" and err.message:match((value:gsub("%p", "%%%0"))) or err[field]
        assert(got == value, ("%s is %s, not %s:\n%s"):format(field, got, value, err))
    end
end

--- A recorded stream, by name.
---@param name string
---@return string
function streams.load(name)
    local file <close> = assert(io.open(("tests/streams/%s.sse"):format(name), "rb"))
    return file:read("a")
end

return streams
