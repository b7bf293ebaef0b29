--- What an answer says about itself: its head, its request id, its rate limits and its times. Only
-- what somebody asks for is read.
local text = require "moonflow.text"

local response = {}

--- What `client:last_response()` and `stream:response()` return.
---@class moonflow.Response
---@field status integer
---@field reason string
---@field headers table<string, string> names in lower case
---@field request_id? string
---@field rate_limits? table requests and tokens, each {limit, remaining, reset}: numbers, reset in seconds
---@field attempts integer how often the request was sent
---@field timings table seconds since the start of the last attempt: connect, first_byte, total
---@field reused boolean went over a connection that was open already

local REQUEST_IDS = {
    "x-request-id", "apim-request-id", "x-databricks-request-id", "request-id", "x-ms-client-request-id",
    "x-generation-id", "x-litellm-call-id",
}

local parse_head -- moonflow._http's, which is loaded when there is an answer

--- The headers of an answer, and its reason phrase.
---@param answer table as the transport returns it
---@return table<string, string> headers
---@return string reason
function response.headers(answer)
    if not answer.headers then
        parse_head = parse_head or require("moonflow._http").parse_head
        answer.reason, answer.headers = parse_head(answer.head)
    end
    return answer.headers, answer.reason
end

--- The id under which the server knows the request, or nil.
---@param answer table
---@return string?
function response.request_id(answer)
    local headers = response.headers(answer)
    for _, name in ipairs(REQUEST_IDS) do
        if headers[name] then
            return text.one_line(headers[name], 128)
        end
    end
end

local HEADER_MAX = 64 -- bytes of a duration that makes sense; patterns take their time with long ones

local UNITS = { h = 3600, m = 60, s = 1, ms = 1e-3, us = 1e-6, ns = 1e-9 }

--- Seconds of a duration as Go writes them ("6m0s", "1h2m3.5s", "12ms"), or of a plain number.
local function seconds(value)
    if #value > HEADER_MAX then
        return nil
    end
    local number = tonumber(value)
    if number then
        return number
    end
    local total, position = 0, 1
    while position <= #value do
        local digits, unit, next_position = value:match("^(%d+%.?%d*)(%a+)()", position)
        if not UNITS[unit] then
            return nil
        end
        total = total + tonumber(digits) * UNITS[unit]
        position = next_position
    end
    return position > 1 and total or nil
end

--- What x-ratelimit-{limit,remaining,reset}-{requests,tokens} say, or nil.
---@param answer table
---@return table?
function response.rate_limits(answer)
    local headers = response.headers(answer)
    local limits
    for _, what in ipairs { "requests", "tokens" } do
        local function header(name)
            return headers[("x-ratelimit-%s-%s"):format(name, what)] or ""
        end
        local limit, remaining, reset = tonumber(header "limit"), tonumber(header "remaining"), seconds(header "reset")
        if limit or remaining or reset then
            limits = limits or {}
            limits[what] = { limit = limit, remaining = remaining, reset = reset }
        end
    end
    return limits
end

--- An answer as scripts see it.
---@param answer table
---@return moonflow.Response
function response.describe(answer)
    local headers, reason = response.headers(answer)
    return {
        status = answer.status,
        reason = reason,
        headers = headers,
        request_id = response.request_id(answer),
        rate_limits = response.rate_limits(answer),
        attempts = answer.attempts or 1,
        timings = {
            connect = answer.connect_time, first_byte = answer.first_byte_time, total = answer.total_time,
        },
        reused = answer.reused,
    }
end

return response
