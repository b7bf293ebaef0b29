--- What the faces of the gateway say when something went wrong: MLflow's is FastAPI's {"detail": ...};
-- OpenAI's has {"error": {...}} as well, which its clients read.
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local text = require "moonflow.text"

local errors = {}

local MESSAGE_MAX = 2000 -- bytes
local WORD_MAX = 100     -- bytes of a code, a type or a parameter's name

local STATUS = { timeout = 504, network = 502, auth = 502, decode = 502, config = 500, cancelled = 503 }
local TYPES = { [401] = "authentication_error", [403] = "permission_error", [429] = "rate_limit_error" }
local CODES = { [401] = "invalid_api_key", [429] = "rate_limit_exceeded" }

local function headers_of(more)
    local headers = { ["Content-Type"] = "application/json" }
    for name, value in next, more or {} do
        headers[name] = value
    end
    return headers
end

--- An error as OpenAI's clients read it.
---@param status integer
---@param message string
---@param more? {type: string?, code: string?, param: string?}
---@return table
function errors.object(status, message, more)
    more = more or {}
    return {
        message = message,
        type = more.type or TYPES[status] or (status < 500 and "invalid_request_error" or "server_error"),
        param = more.param or json.null,
        code = more.code or CODES[status] or json.null,
    }
end

--- An answer that is an error.
---@param face "mlflow"|"openai"
---@param status integer
---@param detail string|table a message, or what FastAPI has in its place
---@param more? table `headers`; for OpenAI's clients `type`, `code`, `param`, and `message` where `detail` is none
---@return integer status
---@return table headers
---@return string body
function errors.reply(face, status, detail, more)
    local body = { detail = detail }
    if face == "openai" then
        body.error = errors.object(status, more and more.message or detail, more)
    end
    return status, headers_of(more and more.headers), assert(json.encode(body))
end

local function word(value)
    return type(value) == "string" and text.one_line(value, WORD_MAX) or nil
end

--- What a provider's answer says besides its message.
local function details_of(failure)
    local body = failure.body
    local said = type(body) == "table" and type(body.error) == "table" and body.error or {}
    return { type = word(said.type), code = word(said.code), param = word(said.param) }
end

--- The answer for what a handler or a target raised: a provider's status stays what it was. What is no
-- error object is told in the log alone, as it may say more than a client should know.
---@param face "mlflow"|"openai"
---@param failure any an error object, or a text for the log
---@return integer status
---@return table headers
---@return string body
function errors.from(face, failure)
    local status = error.is(failure) and (math.tointeger(failure.http_status) or STATUS[failure.kind])
    if not status then
        notice.say(tostring(failure))
        return errors.reply(face, 500, "Internal Server Error")
    end
    status = math.max(400, math.min(599, status))
    return errors.reply(face, status, text.clean(failure.message, MESSAGE_MAX), details_of(failure))
end

return errors
