--- Answers requests for an endpoint: what its handler or target gives, as the JSON or the stream of events that
-- a face promises. The faces are "mlflow", as MLflow's gateway, and "openai".
--
-- A stream's first event is there before the status is sent: what fails until then has a status of its own.
local chunks = require "moonflow.gateway.chunks"
local error = require "moonflow.error"
local errors = require "moonflow.gateway.errors"
local json = require "moonflow.json"
local shape = require "moonflow.gateway.shape"
local tables = require "moonflow.tables"
local whole = require "moonflow.gateway.whole"

local copy = tables.copy

local to_json = whole.to_json
local raise = _G.error

local answer = {}

local JSON = { ["Content-Type"] = "application/json" }
local EVENTS = {
    mlflow = { ["Content-Type"] = "text/event-stream; charset=utf-8" },
    openai = { ["Content-Type"] = "text/event-stream; charset=utf-8", ["Cache-Control"] = "no-cache" },
}

local DONE = "data: [DONE]\n\n"

--- A failure for the log. What is no error object comes from a handler's code: it says which endpoint.
local function explain(endpoint, failure, streams)
    if error.is(failure) then
        return failure
    end
    local said = tostring(failure)
    if not streams and said:find("attempt to call a nil value", 1, true) then
        said = said .. "\n(a handler's second argument is nil where the client did not ask for a stream)"
    end
    return ("endpoint %q: %s"):format(endpoint.name, said)
end

--- The answer for a failure before anything was sent.
local function refuse(endpoint, face, failure, streams)
    local status, headers, body = errors.from(face, explain(endpoint, failure, streams))
    if error.is(failure) and failure.retry_after then
        headers["Retry-After"] = tostring(failure.retry_after)
    end
    return status, headers, body
end

local function to_event(value)
    return "data: " .. to_json(value) .. "\n\n"
end

local function respond_whole(endpoint, inputs, face)
    local value = whole.complete(endpoint, endpoint.produce(inputs), inputs)
    if face == "mlflow" then
        value = shape.whole(endpoint, value)
    end
    return to_json(value)
end

--- The frames of a stream, as `moonflow.server` takes a body: call it for the next one.
local Body = {}
Body.__index = Body

--- Ends a stream that failed after its head was sent, with an event that says so. MLflow's gateway breaks the
-- connection then: so does its face here.
local function break_off(self, failure)
    local _, _, text = errors.from(self.face, explain(self.endpoint, failure, true))
    self.ended = true
    if self.face == "mlflow" then
        self.cut = true
        local reply = json.decode(text)
        return to_event { error = { message = reply and reply.detail or text, type = "AIGatewayException" } }
    end
    return "data: " .. text .. "\n\n"
end

--- Runs the producer up to its next frame. Returns the frame, nil at the end; or nil and why it failed.
local function advance(self)
    local thread = self.thread
    local ok, frame = coroutine.resume(thread)
    if not ok then
        coroutine.close(thread) -- closes what it had open
        return nil, frame
    end
    return frame
end

--- The next frame; nil at the end.
---@async
---@return string?
function Body:__call()
    local first = self.first
    if first then
        self.first = nil
        return first
    elseif self.ended then
        if self.cut then
            raise(require("moonflow.server").CUT, 0)
        end
        return nil
    end
    local frame, failure = advance(self)
    if failure ~= nil then
        return break_off(self, failure)
    end
    self.ended = frame == nil
    return frame
end

--- Stops the producer where it stands, and closes what it has open.
function Body:__close()
    self.first, self.ended = nil, true
    if coroutine.status(self.thread) == "suspended" then
        coroutine.close(self.thread)
    end
end

--- Whether the client wants the usage at the end of its stream. MLflow's gateway asks its providers for it
-- where the client does not say.
local function stream_options(inputs, face)
    local given = type(inputs.stream_options) == "table" and inputs.stream_options or {}
    local wanted = given.include_usage
    if face == "mlflow" and wanted == nil then
        inputs, given = copy(inputs), copy(given)
        given.include_usage = true
        inputs.stream_options = given
        return inputs, { usage = true }
    end
    return inputs, { usage = wanted == true, null_usage = wanted == true }
end

--- What makes the frames, to be run as a coroutine.
local function producer(endpoint, inputs, face)
    local options
    inputs, options = stream_options(inputs, face)
    local write = face == "mlflow" and shape.writer(endpoint) or to_event
    return function()
        local own = coroutine.running()
        local made = chunks.new(endpoint, inputs, options, function(chunk)
            coroutine.yield(write(chunk))
        end)
        local value = endpoint.produce(inputs, function(piece)
            if coroutine.running() ~= own then
                raise("the stream takes pieces from its handler alone, not from another task or coroutine", 2)
            end
            made:add(piece)
        end)
        made:finish(value)
        if face == "openai" then
            coroutine.yield(DONE)
        end
    end
end

local function respond_stream(endpoint, inputs, face)
    local self = setmetatable({
        endpoint = endpoint, face = face, thread = coroutine.create(producer(endpoint, inputs, face)),
    }, Body)
    local first, failure = advance(self)
    if failure ~= nil then
        return refuse(endpoint, face, failure, true)
    end
    self.first = first
    return 200, copy(EVENTS[face]), self
end

--- Answers a request.
---@async
---@param endpoint table name, endpoint_type, model, and `produce`: a handler, or what `moonflow.gateway.forward` makes
---@param inputs table the body of the request, checked
---@param face "mlflow"|"openai"
---@return integer status
---@return table headers
---@return string|table body
function answer.respond(endpoint, inputs, face)
    if inputs.stream == true and endpoint.endpoint_type ~= "llm/v1/embeddings" then
        return respond_stream(endpoint, inputs, face)
    end
    local ok, text = pcall(respond_whole, endpoint, inputs, face)
    if not ok then
        return refuse(endpoint, face, text, false)
    end
    return 200, copy(JSON), text
end

return answer
