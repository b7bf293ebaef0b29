--- From a request to a value: sign, transmit, judge, retry until the deadline, decode. Backends, C or
-- Lua, reach it as `self:send{...}`, `self:stream{...}` and `self:pages{...}`.
local check = require "moonflow.check"
local config = require "moonflow.config"
local env = require "moonflow.env"
local error = require "moonflow.error"
local http = require "moonflow.http"
local json = require "moonflow.json"
local judge = require "moonflow.judge"
local retry = require "moonflow.retry"
local settings = require "moonflow.settings"
local sys = require "moonflow.sys"
local url = require "moonflow.url"

-- Failures of requests are raised bare: the method that the script called adds where, and the rest.
local raise = _G.error

local pipeline = {}

--- A request as backends describe it. `policy` says when it may be repeated (see moonflow.retry); it
-- follows from the method where it is missing: "create" for POST.
---@class moonflow.Request
---@field method string
---@field url string absolute; names in it percent-encoded by moonflow.url
---@field query? table list of {name, value} pairs
---@field json? any the body, encoded as JSON
---@field body? string the body as it is, in place of json
---@field headers? table
---@field policy? "get"|"write"|"delete"|"create"|"predict"|"openai"
---@field timeout? string|number the variable that holds the time to wait for the server, or seconds
---@field retries? string the variable that holds how often it is repeated
---@field options? table the call's own options, from `args.options`
---@field text? boolean the answer is a text, not JSON, and is returned as a string
---@field hints? table what to try, by status and for "connect", "html" and "unknown" (the outcome)

--- A request for a list that comes in pages.
---@class moonflow.PagedRequest: moonflow.Request
---@field list string the answer's field that holds the items
---@field token_field? string default "next_page_token"
---@field token_param? string default "page_token"

local FIELDS = {
    method = true, url = true, query = true, json = true, body = true, headers = true, policy = true,
    timeout = true, retries = true, options = true, hints = true, text = true,
}
local PAGE_FIELDS = { list = true, token_field = true, token_param = true }

local DEFAULT_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
local TOTAL_TIMEOUT = 600   -- seconds, where nothing says otherwise
local PAGES_MAX = 10000
local PAGE_TOKEN_MAX = 8192 -- bytes

local NONE = {}

local function add_line(failure, field, text)
    failure[field] = failure[field] and failure[field] .. "\n" .. text or text
end

--- Says in the error what this module knows of it, and raises it.
local function give_up(call, failure, client)
    local hints = call.request.hints or NONE
    if call.attempts > 1 then
        add_line(failure, "message", ("%d attempts in %.3g s"):format(call.attempts, sys.monotonic() - call.started))
    end
    if failure.phase == "connect" and failure.message:find("Connection refused", 1, true) then
        failure.hint = hints.connect or failure.hint
    end
    if retry.is_outcome_unknown(call.policy, failure) then
        add_line(failure, "message", "the outcome is unknown: the server may have done it")
        add_line(failure, "hint", hints.unknown or "look whether it is there before you try again")
    end
    if failure.http_status == 401 or failure.http_status == 403 then
        settings.forget(client) -- a credential in a file may be renewed before the next call
    end
    raise(failure, 0)
end

--- The value of a variable, read once as long as the environment stays the same.
local function variable(own, name)
    local value = own.variables[name]
    if value == nil then
        value = config.get(name)
        own.variables[name] = value
    end
    return value
end

--- Seconds that one attempt may wait for the server.
local function attempt_timeout(own, options, client_options, request, policy)
    local chosen = options.timeout or client_options.timeout or request.timeout or policy.timeout or DEFAULT_TIMEOUT
    return type(chosen) == "number" and chosen or variable(own, chosen)
end

--- Seconds for all attempts. What somebody chose holds; the default gives way to a longer time for one
-- attempt.
local function total_timeout(own, options, client_options, policy, timeout)
    local chosen = options.total_timeout or client_options.total_timeout
    if chosen then
        return chosen
    end
    local seconds = policy.total_timeout and variable(own, policy.total_timeout) or TOTAL_TIMEOUT
    if seconds < timeout and not (policy.total_timeout and env[policy.total_timeout]) then
        return timeout
    end
    return seconds
end

local function misuse(message, ...)
    error.raise { kind = "usage", message = message:format(...) }
end

local function check_request(request)
    for name in next, request do
        if not FIELDS[name] then
            error.raise {
                kind = "usage",
                message = check.show(name) .. " is not a field of a request",
                hint = check.hint(name, check.sorted_keys(FIELDS)),
            }
        end
    end
    if type(request.url) ~= "string" or type(request.method) ~= "string" then
        misuse("a request needs a method and a url")
    end
end

local function policy_of(request)
    local name = request.policy or retry.policy_of_method[request.method]
    return retry.policies[name]
        or misuse("a request needs one of the policies %s", table.concat(check.sorted_keys(retry.policies), ", "))
end

local function full_url(request)
    if request.query and request.query[1] then
        return request.url .. "?" .. url.query(request.query)
    end
    return request.url
end

local function encode_body(request)
    if request.json == nil then
        return request.body
    end
    local text, err = json.encode(request.json)
    if not text then
        raise(err, 0)
    end
    return text
end

--- How often a request is repeated at the most.
local function max_retries_of(own, options, client_options, request)
    if options.max_retries then
        config.check_retries(options.max_retries, own.backoff.first)
        return options.max_retries
    elseif client_options.max_retries or not request.retries then
        return own.max_retries
    end
    local count = variable(own, request.retries)
    config.check_retries(count, own.backoff.first, request.retries)
    return count
end

--- How an answer is taken: `perform`, which has the arguments of moonflow._http.perform, and
-- `accept`, which makes a value or an error of a good one. moonflow.stream has both too.
local whole = {}

function whole.perform(...)
    whole.perform = require("moonflow._http").perform
    return whole.perform(...)
end

function whole.accept(client, request, origin, response)
    if request.text then
        return tostring(response.body)
    end
    local value, failure = judge.success(request, origin, response)
    if failure and judge.holds_events(response) then
        return require("moonflow.stream").collect(client, request, origin, response)
    end
    local fault = request.policy == "openai" and judge.fault_in(value)
    if fault then
        failure = judge.fault(request, origin, response, fault)
        failure.partial = value.object == "response" and value or nil -- it ran, and failed
        return nil, failure
    end
    return value, failure
end

--- The last answer of each coroutine, for client:last_response().
local function keep_answer(client, response)
    local kept = client._answers
    if not kept then
        kept = setmetatable({}, { __mode = "k" })
        client._answers = kept
    end
    response.body = nil
    kept[coroutine.running()] = response
end

--- What an answer is: a value, or nil and an error.
local function take_answer(client, request, way, origin, response)
    local value, failure
    if response.status < 300 then
        retry.succeeded(origin.budget_key)
        value, failure = way.accept(client, request, origin, response)
    else
        failure = judge.failure(request, origin, response, request.hints or NONE)
    end
    keep_answer(client, response)
    return value, failure
end

--- Whether a request that was refused may be sent once more with a new credential.
local function renews(call, failure)
    local forget = call.origin.credential.forget
    if failure.http_status ~= 401 or not forget or call.renewed then
        return false
    end
    call.renewed = true
    forget()
    return true
end

--- Where a request goes, and the transport's profile for it. Waits where the credential has to be
-- fetched.
local function find_profile(own, client, request, deadline)
    local origin = settings.origin(client, own, request.url, deadline)
    return origin, settings.profile(origin, request.json ~= nil, request.headers, (request.options or NONE).headers)
end

--- One attempt under the eyes of `http.watch`; the rest as of moonflow._http.perform.
local function watched(client, request, origin, way, profile, ...)
    local options, shared = request.options or NONE, origin.shared
    local headers = shared.headers
    if request.json ~= nil then
        headers = settings.merge_headers({ ["Content-Type"] = "application/json" }, headers)
    end
    headers = settings.merge_headers(settings.merge_headers(headers, request.headers), options.headers)
    return http.watch({
        target = client.target_uri,
        credential = origin.credential,
        headers = headers,
        settings = shared,
        is_stream = way ~= whole,
        timeout = options.timeout or client.config.timeout,
        connect_timeout = options.connect_timeout or client.config.connect_timeout,
        total_timeout = options.total_timeout or client.config.total_timeout,
    }, way.perform, profile, ...)
end

--- Sends a request until it succeeds, may not be repeated, or the deadline has come.
local function send_until(client, request, way, deadline)
    local own = settings.of(client)
    local policy = policy_of(request)
    local options, client_options = request.options or NONE, client.config
    local timeout = attempt_timeout(own, options, client_options, request, policy)
    local connect_timeout = options.connect_timeout or client_options.connect_timeout
    local max_retries = max_retries_of(own, options, client_options, request)
    local address, body = full_url(request), encode_body(request)
    local started = sys.monotonic()
    deadline = deadline or started + total_timeout(own, options, client_options, policy, timeout)
    local origin, profile = find_profile(own, client, request, deadline)
    local attempts = 0
    local call -- made when something has gone wrong
    while true do
        local response, failure
        local left = math.max(0.001, deadline - sys.monotonic())
        if http.watch then
            response, failure = watched(client, request, origin, way, profile, request.method, address, body, timeout,
                left, connect_timeout)
        else
            response, failure = way.perform(profile, request.method, address, body, timeout, left, connect_timeout)
        end
        attempts = attempts + 1
        if response then
            if response.status == 404 and call and policy.gone_is_done then
                return true
            end
            response.attempts = attempts
            local value
            value, failure = take_answer(client, request, way, origin, response)
            if not failure then
                return value
            end
        end
        call = call or {
            request = request, policy = policy, own = own, max_retries = max_retries, started = started,
            deadline = deadline,
        }
        call.origin, call.attempts = origin, attempts
        if renews(call, failure) then
            origin, profile = find_profile(own, client, request, deadline)
        elseif not retry.again(call, failure, response and response.headers) then
            give_up(call, failure, client)
        end
    end
end

--- Sends a request and returns the decoded answer. Raises an error object.
---@async
---@param client table
---@param request moonflow.Request
---@param deadline? number of a call that sends several requests; see `pipeline.deadline`
---@return any
function pipeline.send(client, request, deadline)
    if client.plugin ~= false then -- built-in backends write no unknown fields
        check_request(request)
    end
    return send_until(client, request, whole, deadline)
end

--- When a call that begins now has to be over, on the monotonic clock.
---@param client table
---@param request moonflow.Request
---@return number seconds
function pipeline.deadline(client, request)
    local own, policy, options = settings.of(client), policy_of(request), request.options or NONE
    local timeout = attempt_timeout(own, options, client.config, request, policy)
    return sys.monotonic() + total_timeout(own, options, client.config, policy, timeout)
end

--- Sends a request that a stream of server-sent events answers. Returns when its first event is
-- there; up to then it is repeated as any other request. Raises an error object.
---@async
---@param client table
---@param request moonflow.Request
---@return moonflow.Stream stream and nil, nil, and the stream again: what a generic `for` takes
function pipeline.stream(client, request)
    if client.plugin ~= false then
        check_request(request)
    end
    local opened = send_until(client, request, (require "moonflow.stream"))
    return opened, nil, nil, opened
end

local function raise_decode(message, ...)
    raise(error.new { kind = "decode", message = message:format(...) }, 0)
end

--- The items of one page: an empty list where the field is missing.
local function items_of(answer, field)
    local list = type(answer) == "table" and answer[field]
    if list == nil or list == json.null then
        return NONE
    elseif type(list) ~= "table" then
        raise_decode("the server's answer has no list %q", field)
    end
    return list
end

--- The token of the next page, or nil where there is none.
local function token_of(answer, field)
    local token = answer[field]
    if token == nil or token == json.null or token == "" then
        return nil
    elseif type(token) ~= "string" or #token > PAGE_TOKEN_MAX then
        raise_decode("%q in the server's answer is no token", field)
    end
    return token
end

--- Sends a request for each page of a list, within one deadline, and returns all its items. An empty
-- token and one that came before end the list.
---@async
---@param client table
---@param request moonflow.PagedRequest
---@return table items
function pipeline.pages(client, request)
    local page = {}
    for name, value in next, request do
        if not PAGE_FIELDS[name] then
            page[name] = value
        end
    end
    check_request(page)
    if type(request.list) ~= "string" then
        misuse("a request for pages needs the field \"list\"")
    end
    local options = request.options or NONE
    local deadline = sys.monotonic() + (options.total_timeout or client.config.total_timeout or TOTAL_TIMEOUT)
    local items, seen = json.array {}, {}
    for _ = 1, PAGES_MAX do
        local answer = send_until(client, page, whole, deadline)
        local list = items_of(answer, request.list)
        table.move(list, 1, #list, #items + 1, items)
        local token = token_of(answer, request.token_field or "next_page_token")
        if not token or seen[token] then
            return items
        end
        seen[token] = true
        page.query = { table.unpack(request.query or NONE) }
        page.query[#page.query + 1] = { request.token_param or "page_token", token }
    end
    return raise_decode("the server's list has more than %d pages", PAGES_MAX)
end

return pipeline
