--- What the Databricks face of `moonflow serve` answers: JSON, and errors in Databricks' own form.
local error = require "moonflow.error"
local json = require "moonflow.json"
local text = require "moonflow.text"

local raise = _G.error

local reply = {}

local MESSAGE_MAX = 2000 -- bytes

--- The statuses of the error codes that are used here.
local STATUS = {
    BAD_REQUEST = 400, INVALID_PARAMETER_VALUE = 400, INVALID_STATE = 400, MALFORMED_REQUEST = 400,
    PERMISSION_DENIED = 403, ENDPOINT_NOT_FOUND = 404, RESOURCE_DOES_NOT_EXIST = 404, RESOURCE_CONFLICT = 409,
    RESOURCE_ALREADY_EXISTS = 409, REQUEST_LIMIT_EXCEEDED = 429, TEMPORARILY_UNAVAILABLE = 503,
}

--- The codes of statuses that came from somewhere else.
local CODES = {
    [400] = "BAD_REQUEST", [401] = "UNAUTHENTICATED", [403] = "PERMISSION_DENIED", [404] = "RESOURCE_DOES_NOT_EXIST",
    [409] = "RESOURCE_CONFLICT", [429] = "REQUEST_LIMIT_EXCEEDED", [501] = "NOT_IMPLEMENTED",
    [503] = "TEMPORARILY_UNAVAILABLE", [504] = "DEADLINE_EXCEEDED",
}

local Refusal = { __name = "moonflow.workspace.Refusal" }

function Refusal:__tostring()
    return ("%s: %s"):format(self.code, self.message)
end

--- Ends the request with an error of Databricks.
---@param code string key of STATUS
---@param message string its patterns are filled in with what follows
function reply.refuse(code, message, ...)
    local said = select("#", ...) > 0 and message:format(...) or message
    raise(setmetatable({ code = code, message = text.clean(said, MESSAGE_MAX) }, Refusal), 0)
end

--- An answer with JSON.
---@param value any
---@return integer status
---@return table headers
---@return string body
function reply.ok(value)
    return 200, { ["Content-Type"] = "application/json" }, assert(json.encode(value))
end

--- An answer that is an error.
---@param status integer
---@param code string|integer Databricks' own is a number where nobody was let in
---@param message string
---@param headers? table
---@return integer status
---@return table headers
---@return string body
function reply.error(status, code, message, headers)
    headers = headers or {}
    headers["Content-Type"] = "application/json"
    return status, headers, assert(json.encode { error_code = code, message = message })
end

--- The answer to what `reply.refuse` raised; nil where a failure is of another kind.
---@param failure any
---@return integer? status
function reply.from(failure)
    if getmetatable(failure) ~= Refusal then
        return nil
    end
    return reply.error(STATUS[failure.code], failure.code, failure.message, failure.headers)
end

--- As `reply.refuse`, with headers.
function reply.refuse_with(headers, code, message)
    raise(setmetatable({ code = code, message = text.clean(message, MESSAGE_MAX), headers = headers }, Refusal), 0)
end

--- An error of OpenAI's face as one of Databricks.
---@param status integer
---@param headers table
---@param body string
---@return integer status
---@return table headers
---@return string body
function reply.translate(status, headers, body)
    local said = json.decode(body)
    local inner = type(said) == "table" and type(said.error) == "table" and said.error or {}
    local message = type(inner.message) == "string" and inner.message or "the request failed"
    local code = CODES[status] or (status < 500 and "BAD_REQUEST" or "INTERNAL_ERROR")
    return reply.error(status, code, message, { ["Retry-After"] = headers["Retry-After"] })
end

--- A value without the nulls in its objects, which Databricks takes for what is not given.
local function without_nulls(value)
    if type(value) ~= "table" then
        return value
    end
    for name, inner in next, value do
        if inner == json.null then
            if not json.is_array(value) then
                value[name] = nil
            end
        else
            without_nulls(inner)
        end
    end
    return value
end

--- The object in a request's body.
---@param body string
---@param max integer bytes
---@return table
function reply.read(body, max)
    if #body > max then
        reply.refuse("INVALID_PARAMETER_VALUE", "the body has %d bytes, and may have %d", #body, max)
    end
    local value, err = json.decode(body == "" and "{}" or body)
    if value == nil then
        local why = error.is(err) and err.message or "it is no JSON"
        reply.refuse("MALFORMED_REQUEST", "Could not parse request object: " .. text.one_line(why, 200))
    elseif type(value) ~= "table" or value == json.null or json.is_array(value) then
        reply.refuse("MALFORMED_REQUEST", "Could not parse request object: Expected an object")
    end
    return without_nulls(value)
end

return reply
