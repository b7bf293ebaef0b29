--- Who may ask the Databricks face: the token endpoint for applications, and the bearers of requests.
local base64 = require "moonflow.base64"
local check = require "moonflow.check"
local json = require "moonflow.json"
local life = require "moonflow.workspace.life"
local pages = require "moonflow.gateway.pages"
local reply = require "moonflow.workspace.reply"
local same = require "moonflow.gateway.same"

local login = {}

local BODY_MAX = 65536   -- bytes
local WORD_MAX = 1024    -- bytes of an id, a secret or a bearer
local BEARER_MAX = 8192
local ISSUED_MAX = 10000 -- tokens that are known at once
local USUAL_LIFETIME = 3600
local PERSON = "moonflow@localhost"
local JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

local Login = {}
Login.__index = Login

--- Makes one.
---@param options table `token`: the only one that is let in; `clock`
---@return table
function login.new(options)
    return setmetatable({
        token = options.token, lifetime = USUAL_LIFETIME, clock = options.clock,
        issued = {}, queue = {}, first = 1, last = 0,
    }, Login)
end

--- Checks the setting of how long tokens live.
---@param given any
---@return boolean
function login.is_lifetime(given)
    return check.types.seconds.test(given) and given <= 86400
end

--- Sets how long tokens live that are issued from now on.
---@param seconds? number
function Login:set_lifetime(seconds)
    self.lifetime = seconds or USUAL_LIFETIME
end

local function no_token(status, word, description)
    return status, {
        ["Content-Type"] = "application/json", ["Cache-Control"] = "no-store",
        ["WWW-Authenticate"] = status == 401 and "Basic" or nil,
    }, assert(json.encode { error = word, error_description = description })
end

local function issue(self, client_id, scope)
    local token = life.new_id() .. life.new_id()
    self.last = self.last + 1
    self.queue[self.last] = token
    self.issued[token] = { client_id = client_id, ends = self.clock() + self.lifetime }
    if self.last - self.first >= ISSUED_MAX then
        self.issued[self.queue[self.first]] = nil
        self.queue[self.first] = nil
        self.first = self.first + 1
    end
    local status, headers, body = reply.ok {
        access_token = token, token_type = "Bearer", expires_in = math.ceil(self.lifetime), scope = scope,
    }
    headers["Cache-Control"] = "no-store"
    return status, headers, body
end

local function decode(word)
    return pages.decode((word:gsub("+", " ")))
end

local function read_form(body)
    local form = {}
    for name, value in body:gmatch("([^&=]+)=([^&]*)") do
        form[decode(name)] = decode(value)
    end
    return form
end

--- The id and the secret of "Basic ..."; some clients encode both with percent signs.
local function read_basic(header)
    local encoded = header and #header <= BEARER_MAX and header:match("^[Bb][Aa][Ss][Ii][Cc] +(%S+)$")
    local plain = encoded and base64.decode(encoded)
    local id, secret = (plain or ""):match("^([^:]+):(.+)$")
    if id and #id <= WORD_MAX and #secret <= BEARER_MAX then
        return id, secret
    end
end

local function is_client(self, secret)
    return not self.token or same(secret, self.token) or same(decode(secret), self.token)
end

local function scope_of(form)
    return form.scope and #form.scope <= WORD_MAX and form.scope or "all-apis"
end

--- POST /oidc/v1/token
---@param request moonflow.ServerRequest
---@return integer status
---@return table headers
---@return string body
function Login:answer(request)
    if #request.body > BODY_MAX then
        return no_token(400, "invalid_request", "the body is too long")
    end
    local form = read_form(request.body)
    if form.grant_type == JWT_BEARER then -- an application's token, for one that is for an endpoint alone
        local known = self.issued[form.assertion or ""]
        if not known or known.ends <= self.clock() then
            return no_token(400, "invalid_grant", "the assertion is no token of this server, or it has expired")
        end
        return issue(self, known.client_id, scope_of(form))
    end
    local id, secret = read_basic(request.headers.authorization)
    if not id or not is_client(self, secret) then
        return no_token(401, "invalid_client", "Client authentication failed")
    elseif form.grant_type ~= "client_credentials" then
        return no_token(400, form.grant_type and "unsupported_grant_type" or "invalid_request",
            "grant_type must be client_credentials")
    end
    return issue(self, id, scope_of(form))
end

--- Who asks.
---@param request moonflow.ServerRequest
---@return table? who `id`, `name`, and `client_id` of an application
---@return integer? status where nobody may ask like this
---@return string? message
function Login:who(request)
    local given = request.headers.authorization
    local token = given and #given <= BEARER_MAX and given:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(%S+)$")
    if not token then
        return nil, 401, "Credential was not sent or was of an unsupported type for this API."
    end
    local known = self.issued[token]
    if known and known.ends > self.clock() then
        return { id = "client " .. known.client_id, name = known.client_id, client_id = known.client_id }
    elseif known then
        return nil, 401, "The access token has expired."
    elseif self.token and not same(token, self.token) then
        return nil, 403, "Invalid access token."
    end
    return { id = "token " .. token, name = PERSON }
end

return login
