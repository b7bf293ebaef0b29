--- Requests for tokens and their answers, which look alike at every token endpoint: OAuth's, Azure's
-- and those of metadata services. Which endpoint is asked, and with what, is known to those who ask.
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local http = require "moonflow.http"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local text = require "moonflow.text"
local url = require "moonflow.url"

local grants = {}

local WORDS_MAX = 400           -- bytes of somebody's words in a message
local ANSWER_MAX = 1024 * 1024  -- bytes
local LIFETIME_MAX = 31 * 86400 -- seconds: what is beyond is no time in seconds
local TIMEOUT = 30              -- seconds

--- A failure, not raised.
---@param kind string
---@param message string a format, with its values behind it
---@return table err
function grants.failure(kind, message, ...)
    return error.new { kind = kind, message = message:format(...) }
end

--- Somebody's words as they may stand in a message.
---@param words string
---@return string
function grants.one_line(words)
    return text.one_line(words, WORDS_MAX)
end

--- A number as it is, or as the text that some servers send.
---@param value any
---@return number?
function grants.to_number(value)
    if type(value) == "string" and value:find("^%d+$") and #value <= 15 then
        return tonumber(value)
    end
    return type(value) == "number" and value or nil
end

--- The token that somebody gave, or nil and an error.
---@param who string for messages
---@param token any
---@param lifetime? number seconds
---@return table? token {secret =, expires_in =}, as `moonflow.tokens` takes it
---@return table? err
function grants.to_token(who, token, lifetime)
    if type(token) ~= "string" or token == "" or token:find("[^!-~]") then
        return nil, grants.failure("auth", "%s gave no token that can be used", who)
    elseif not lifetime then
        return nil, grants.failure("auth", "%s gave a token and did not say when it expires", who)
    elseif not (lifetime > 0 and lifetime <= LIFETIME_MAX) then
        return nil, grants.failure("auth", "%s gave a token that expires in %.10g s, which is not believed", who,
            lifetime)
    end
    return { secret = auth.secret(token), expires_in = lifetime }
end

--- What a refusal says: OAuth's two fields, or the message of App Service.
local function words_of(value)
    local words = {}
    for _, name in ipairs { "error", "error_description", "message" } do
        if type(value[name]) == "string" and value[name] ~= "" then
            words[#words + 1] = value[name]
        end
    end
    return words[1] and grants.one_line(table.concat(words, ": "))
end

--- The object in an HTTP answer, or nil and an error with the server's words.
---@param response moonflow.HttpResponse
---@param what string what should be in it, for messages
---@return table?
---@return table? err
function grants.read_object(response, what)
    local who = url.parse(response.url).origin
    local value = json.decode(response.body)
    local is_object = type(value) == "table"
    if response.status ~= 200 then
        local words = is_object and words_of(value)
        return nil, grants.failure("auth", "%s answered %d%s", who, response.status, words and ": " .. words or "")
    elseif not is_object then
        local given = response.headers["content-type"] or "something else"
        return nil, grants.failure("auth", "%s answered 200 with %s, not with %s in JSON", who, grants.one_line(given),
            what)
    end
    return value
end

--- The token in an HTTP answer, or nil and an error with the server's words.
---@param response moonflow.HttpResponse
---@return table? token
---@return table? err
function grants.read_answer(response)
    local value, err = grants.read_object(response, "a token")
    if not value then
        return nil, err
    end
    local lifetime, at = grants.to_number(value.expires_in), grants.to_number(value.expires_on)
    return grants.to_token(url.parse(response.url).origin, value.access_token, lifetime or at and at - sys.time())
end

--- Sends a request to a token endpoint, and returns its answer of any status, or nil and an error.
---@async
---@param request moonflow.HttpRequest what is missing of times and limits is added
---@return moonflow.HttpResponse?
---@return table? err
function grants.ask(request)
    request.insecure_tls = false -- MLFLOW_TRACKING_INSECURE_TLS is not about who is given a secret
    request.timeout = request.timeout or TIMEOUT
    request.total_timeout = request.total_timeout or TIMEOUT
    request.max_body = ANSWER_MAX
    return http.request(request)
end

--- The same with a form.
---@async
---@param address string
---@param form table pairs, as `url.query` takes them
---@param more? moonflow.HttpRequest headers, proxy, ca_file
---@return moonflow.HttpResponse?
---@return table? err
function grants.post(address, form, more)
    local request = {}
    for name, value in next, more or {} do
        request[name] = value
    end
    request.headers = { ["Content-Type"] = "application/x-www-form-urlencoded", Accept = "application/json" }
    for name, value in next, more and more.headers or {} do
        request.headers[name] = value
    end
    request.method, request.url, request.body = "POST", address, url.query(form)
    return grants.ask(request)
end

return grants
