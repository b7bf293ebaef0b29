--- Streamed answers: server-sent events as an iterator over decoded chunks. It ends by the protocol's
-- own marks and never by accident: a stream that breaks off is an error.
--
-- What ends one: the line `data: [DONE]`, at once; a `finish_reason` for every choice that was seen, then
-- the end of the body (MLflow's gateway sends no [DONE]); a last event of OpenAI's Responses API.
local client = require "moonflow.client"
local collector = require "moonflow.collector"
local error = require "moonflow.error"
local json = require "moonflow.json"
local judge = require "moonflow.judge"
local response = require "moonflow.response"
local responses_api = require "moonflow.responses_api"
local retry = require "moonflow.retry"

local stream = {}

local WHOLE_MAX = 64 * 1024 * 1024 -- bytes of a body that is no stream
local KEPT_MAX = 128 * 1024 * 1024 -- bytes of events, which the collector keeps
local FAILURE_MAX = 1024 * 1024    -- bytes of an error's body
local PEEK_MAX = 256               -- bytes that tell events from JSON

--- An open answer. Call it for the next chunk, or let a generic `for` do so.
---@class moonflow.Stream
local Stream = { __name = "moonflow.stream" }
Stream.__index = Stream

local closing = {
    __close = function(guard)
        if guard.exchange then
            guard.exchange:close()
        end
    end,
}

--- Closes the exchange with the variable that holds this, unless `exchange` is taken out of it first.
local function guard_of(exchange)
    return setmetatable({ exchange = exchange }, closing)
end

--- The body as one string, as far as `max` bytes; or nil and an error.
local function read_all(exchange, max)
    local pieces, size = {}, 0
    while size < max do
        local bytes, failure = exchange:bytes()
        if failure then
            return nil, failure
        elseif not bytes then
            break
        end
        pieces[#pieces + 1] = bytes
        size = size + #bytes
    end
    return table.concat(pieces)
end

--- Sends a request and waits for the head of its answer; arguments as of moonflow._http.perform.
---@async
---@return table? answer status and head, with `exchange` where the status is good, else with `body`
---@return table? err
function stream.perform(...)
    local exchange, failure = require("moonflow._http").open(...)
    if not exchange then
        return nil, failure
    end
    local guard <close> = guard_of(exchange)
    local status, head
    repeat
        status, head = exchange:head()
    until status ~= false
    if not status then
        return nil, head
    end
    local answer = exchange:times()
    answer.status, answer.head = status, head
    if status >= 300 then
        answer.body, failure = read_all(exchange, FAILURE_MAX)
        return answer.body and answer, failure
    end
    answer.exchange = exchange
    guard.exchange = nil
    return answer
end

local function new(self_client, request, origin, answer, exchange)
    return setmetatable({
        client = self_client,
        request = request,
        origin = origin,
        answer = answer,
        exchange = exchange,
        read = exchange and exchange.event,
        collector = collector.new(),
        chunks = 0,
        size = 0, -- bytes of its events
    }, Stream)
end

--- Ends the transfer: at once, or as soon as the answer's last bytes have come where its content is
-- complete.
local function finish(self, is_complete)
    local exchange = self.exchange
    if not exchange then
        return
    end
    self.exchange = nil
    if is_complete then
        exchange:finish()
    else
        exchange:close()
    end
    local times = exchange:times()
    if times.total_time > 0 then -- a replay has none
        for name, value in next, times do
            self.answer[name] = value
        end
    end
end

--- Ends the stream with an error, which every later call raises again.
local function give_up(self, failure)
    local request, answer = self.request, self.answer
    failure.request_id = failure.request_id or response.request_id(answer)
    failure.attempts = answer.attempts
    failure.retryable = retry.is_repeatable(
        retry.policies[request.policy or retry.policy_of_method[request.method]], failure, answer.headers)
    failure.partial = self.collector:result()
    finish(self)
    self.failure = failure
    return nil, failure
end

local function count_chunks(self)
    return ("%d chunk%s"):format(self.chunks, self.chunks == 1 and "" or "s")
end

local function cut_off(self)
    return error.new {
        kind = "network",
        error_code = "DATA_LOSS",
        phase = "body",
        message = ("%s ended its stream before the answer was complete\nneither [DONE] nor a finish_reason came, "
            .. "after %s"):format(self.origin.text, count_chunks(self)),
        hint = self.chunks > 0 and "the error's field partial holds what came; ask again for the whole answer" or nil,
    }
end

local function too_long(self, limit)
    return error.new {
        kind = "network",
        error_code = "RESOURCE_EXHAUSTED",
        phase = "body",
        message = ("%s sent more than the limit of %d MiB"):format(self.origin.text, limit >> 20),
    }
end

local function no_object(self, why)
    return error.new {
        kind = "decode",
        message = ("%s sent an event that is no JSON object\n%s"):format(self.origin.text, why),
    }
end

local function is_object(value)
    return type(value) == "table" and not json.is_array(value)
end

--- What the server says has failed, or nil.
local function fault_of(value, event)
    local kind = value.type
    if event == "error" or kind == "error" then
        return judge.fault_in(value) or value
    elseif kind == "response.failed" then
        return judge.fault_in(value.response) or value
    elseif value.error or value.object == "error" or value.error_code then -- most chunks have none of these
        return judge.fault_in(value)
    end
end

--- Takes one event. Returns the chunk, or nil and an error.
local function take(self, value, event)
    local fault
    if type(value) == "table" and (value.choices or is_object(value)) then -- most chunks have choices
        fault = fault_of(value, event)
    elseif event == "error" then
        fault = value ~= json.null and value ~= "" and value or {}
    else
        local what = type(value) == "table" and "an array" or "a " .. type(value)
        return give_up(self, no_object(self, "it is " .. what))
    end
    if fault then
        return give_up(self, judge.fault(self.request, self.origin, self.answer, fault))
    end
    self.chunks = self.chunks + 1
    self.collector:add(value)
    if responses_api.FINAL[value.type] then
        finish(self, true)
    end
    return value
end

--- The next chunk; nil at the end; nil and an error.
local function advance(self)
    local exchange, read = self.exchange, self.read
    while exchange do
        local value, what, size = read(exchange)
        if value ~= nil then
            self.size = self.size + size
            if self.size > KEPT_MAX then
                return give_up(self, too_long(self, KEPT_MAX))
            elseif value ~= json.null or what == "error" then
                return take(self, value, what)
            end
        elseif what == "done" or what == "end" and self.collector:is_finished() then
            finish(self, true)
            break
        elseif what == "end" then
            self.has_ended = true
            return give_up(self, cut_off(self))
        elseif what ~= "more" then
            local is_event = what.kind == "decode" and not what.phase
            return give_up(self, is_event and no_object(self, what.message) or what)
        end
    end
    return nil
end

--- The next chunk, nil at the end. Raises an error object with what came so far in `partial`.
---@async
---@return table?
function Stream:__call()
    local chunk, failure = self.first, self.failure
    if chunk then
        self.first = nil
        return chunk
    elseif not failure then
        chunk, failure = advance(self)
    end
    if failure then
        client.fail(self.client, "predict_stream", failure)
    end
    return chunk
end

--- Ends the transfer at once. Any number of times; breaking out of a `for` loop does it too.
function Stream:close()
    self.first = nil
    finish(self)
end

Stream.__close = Stream.close

function Stream:__tostring()
    local state = self.failure and "failed" or self.exchange and "open" or "ended"
    return ("stream from %s (%s, %s)"):format(self.origin.text, state, count_chunks(self))
end

--- What has come so far, as one answer in the form of `predict`; see `moonflow.chat.collect`.
---@return table collector with add, result and is_finished
function Stream:collected()
    return self.collector
end

--- What the answer says about itself: status, headers, request id, rate limits, attempts, times.
---@return moonflow.Response
function Stream:response()
    return response.describe(self.answer)
end

--- Makes a stream of a whole JSON answer: one chunk.
local function accept_whole(self, exchange)
    local request, origin, answer = self.request, self.origin, self.answer
    local content, failure = read_all(exchange, WHOLE_MAX)
    if not content then
        return nil, failure
    elseif #content >= WHOLE_MAX then
        return nil, too_long(self, WHOLE_MAX)
    end
    local value
    answer.body = content
    value, failure = judge.success(request, origin, answer)
    answer.body = nil
    if not failure and not is_object(value) then
        failure = judge.not_json(request, origin, answer, content, "no object")
    end
    if not failure then
        value, failure = take(self, value)
    end
    if failure then
        return nil, failure
    end
    self.first = value
    finish(self)
    return self
end

--- Whether an answer is something else than events. Its bytes say so, whatever its type: the fields
-- of an event begin with other letters than the values of JSON.
local function is_whole(answer, exchange)
    local beginning = ""
    repeat
        local more = exchange:peek(#beginning)
        beginning = more or beginning
    until not more or beginning:find("^[\xEF\xBB\xBF]*%s*[^\xEF\xBB\xBF%s]") or #beginning >= PEEK_MAX
    local content_type = response.headers(answer)["content-type"] or ""
    if content_type:lower():find("json", 1, true) then
        return not judge.begins_events(beginning)
    end
    return beginning:find("^[\xEF\xBB\xBF]*%s*[%[{<]") ~= nil
end

--- Whether the end of an answer may have been a break of its connection: nothing said how long it is.
local function may_be_cut(answer)
    local headers = response.headers(answer)
    return not headers["content-length"] and not headers["transfer-encoding"]
end

--- Makes a stream of a good answer, once its first event is there. A connection that breaks before is
-- one that brought no answer.
---@async
---@param self_client table
---@param request moonflow.Request
---@param origin moonflow.Origin
---@param answer table of stream.perform
---@return moonflow.Stream?
---@return table? err
function stream.accept(self_client, request, origin, answer)
    local exchange = answer.exchange
    local guard <close> = guard_of(exchange)
    answer.exchange = nil
    local self = new(self_client, request, origin, answer, exchange)
    if is_whole(answer, exchange) then
        return accept_whole(self, exchange)
    end
    local chunk, failure = advance(self)
    if failure then
        local broke = failure.phase == "body" and failure.error_code == "DATA_LOSS"
        if broke and (not self.has_ended or may_be_cut(answer)) then
            failure.phase = "first event"
        end
        return nil, failure
    end
    self.first = chunk
    guard.exchange = nil
    return self
end

--- The whole answer out of a body of events that came where JSON was promised.
---@param self_client table
---@param request moonflow.Request
---@param origin moonflow.Origin
---@param answer table with the buffer `body`
---@return table? answer in the form of `predict`
---@return table? err
function stream.collect(self_client, request, origin, answer)
    local exchange <close> = require("moonflow._http").replay(answer.body)
    local self = new(self_client, request, origin, answer, exchange)
    local chunk, failure
    repeat
        chunk, failure = advance(self)
    until not chunk
    if failure then
        return nil, failure
    end
    return self.collector:result()
end

return stream
