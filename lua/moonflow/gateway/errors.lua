--- What the faces of the gateway say when something went wrong: MLflow's is FastAPI's {"detail": ...};
-- OpenAI's has {"error": {...}} as well, which its clients read.
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local text = require "moonflow.text"

local errors = {}

local MESSAGE_MAX = 2000 -- bytes
local STATUS = { timeout = 504, network = 502, auth = 502, decode = 502, config = 500, cancelled = 503 }
local TYPES = {
    [401] = "authentication_error", [403] = "permission_error", [404] = "invalid_request_error",
    [429] = "rate_limit_error",
}

local function headers_of(more)
    local headers = { ["Content-Type"] = "application/json" }
    for name, value in pairs(more or {}) do
        headers[name] = value
    end
    return headers
end

--- An error as OpenAI's clients read it.
-- @tparam integer status
-- @tparam string message
-- @tparam[opt] string code
function errors.object(status, message, code)
    return {
        message = message,
        type = TYPES[status] or status < 500 and "invalid_request_error" or "server_error",
        param = json.null,
        code = code or json.null,
    }
end

--- An answer that is an error.
-- @tparam string face "mlflow" or "openai"
-- @tparam integer status
-- @tparam string|table detail a message, or what FastAPI has in its place
-- @tparam[opt] table more `code` for OpenAI's clients; `headers`
-- @treturn integer status
-- @treturn table headers
-- @treturn string body
function errors.reply(face, status, detail, more)
    local body = { detail = detail }
    if face == "openai" then
        local message = type(detail) == "string" and detail or "the request is not valid: " .. json.encode(detail)
        body.error = errors.object(status, message, more and more.code)
    end
    return status, headers_of(more and more.headers), assert(json.encode(body))
end

--- The answer for what a handler or a target raised: a provider's status stays what it was. What is no
-- error object is told in the log alone, as it may say more than a client should know.
-- @tparam string face
-- @param failure an error object, or a text for the log
-- @treturn integer status
-- @treturn table headers
-- @treturn string body
function errors.from(face, failure)
    local status = error.is(failure) and (failure.http_status or STATUS[failure.kind])
    if not status then
        notice.say(tostring(failure))
        return errors.reply(face, 500, "Internal Server Error")
    end
    return errors.reply(face, math.max(400, math.min(599, status)), text.clean(failure.message, MESSAGE_MAX))
end

return errors
