--- What an HTTP answer means: a value, or an error object that says what the server said. All text
-- from outside loses its secrets and its control characters here.
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local json = require "moonflow.json"
local response = require "moonflow.response"
local text = require "moonflow.text"

local clean, one_line = text.clean, text.one_line

local judge = {}

local MESSAGE_MAX = 300        -- bytes of a server's words in a message
local BODY_MAX = 8 * 1024      -- bytes of a body that an error keeps
local READ_MAX = 1024 * 1024   -- bytes of an error's body that are looked at

--- The parsed value with every text in it cleaned, as far as BODY_MAX bytes or so go: `left` counts
-- them, and what comes behind is left out.
local function clean_value(value, left)
    left = left or { bytes = BODY_MAX }
    if type(value) == "string" then
        local cleaned = clean(value, math.max(0, left.bytes))
        left.bytes = left.bytes - #cleaned
        return cleaned
    elseif type(value) ~= "table" then
        return value
    end
    local copy = setmetatable({}, getmetatable(value))
    for key, item in next, value do
        if left.bytes <= 0 then
            break
        end
        left.bytes = left.bytes - 8
        copy[clean_value(key, left)] = clean_value(item, left)
    end
    return copy
end

local function is_html(answer, content)
    local content_type = answer.headers["content-type"] or ""
    return content_type:lower():find("html", 1, true) ~= nil or content:sub(1, 256):lower():find("^%s*<!?%a") ~= nil
end

local function page_title(content)
    local title = content:sub(1, 16384):match("<[tT][iI][tT][lL][eE][^>]*>(.-)</")
    return title and one_line(title, 80)
end

--- What a page says: its title, and what stands there as it was written by a program.
local function page_words(content)
    local title, pre = page_title(content), content:sub(1, 16384):match("<[pP][rR][eE]>(.-)</[pP][rR][eE]>")
    pre = pre and one_line(pre:gsub("<[^>]*>", ""), 200)
    return "an HTML page" .. (title and (", title %q"):format(title) or "") .. (pre and ": " .. pre or "")
end

--- FastAPI's list of what is wrong with a request, as "body.messages: Field required; ...".
local function validation_errors(list)
    local lines = {}
    for i = 1, math.min(#list, 3) do
        local item = list[i]
        if type(item) == "table" and type(item.msg) == "string" then
            local place = {}
            for j, part in ipairs(type(item.loc) == "table" and item.loc or {}) do
                place[j] = tostring(part)
            end
            lines[#lines + 1] = (place[1] and table.concat(place, ".") .. ": " or "") .. item.msg
        end
    end
    return lines[1] and table.concat(lines, "; ")
end

--- What an error of SCIM says (RFC 7644, 3.12), as Databricks has it for users and groups, or nil.
local function scim_words(value)
    local status = math.tointeger(tonumber(value.status))
    local is_scim = type(value.scimType) == "string" or type(value.schemas) == "table"
    if not status or not is_scim or type(value.detail) ~= "string" then
        return nil
    end
    local detail = value.detail == "null" and "SCIM API Internal Error" or value.detail
    return (type(value.scimType) == "string" and value.scimType .. " " or "") .. detail, ("SCIM_%d"):format(status)
end

--- What a JSON body says: a message, and an MLflow error code where it has one.
local function words_of(value)
    if type(value) ~= "table" then
        return type(value) == "string" and value or nil
    end
    local scim, scim_code = scim_words(value)
    if scim then
        return scim, scim_code
    end
    local code = value.error_code
    if math.type(code) == "integer" then
        code = error.code_from_status(code)
    elseif type(code) ~= "string" or #code > 64 or not code:find("^%u[%u%d_]*$") then
        code = nil
    end
    local detail, fault = value.detail, value.error
    local message
    if type(value.message) == "string" then
        message = value.message
    elseif type(detail) == "string" then
        message = detail
    elseif type(detail) == "table" then
        message = validation_errors(detail) or words_of(detail)
    elseif type(fault) == "string" then
        message = fault
    elseif type(fault) == "table" and type(fault.message) == "string" then
        local name = type(fault.code) == "string" and fault.code or fault.type
        message = fault.message .. (type(name) == "string" and " (" .. name .. ")" or "")
    end
    return message, code
end

-- What OpenAI calls a quota that is used up: a 429 that no waiting ends.
local SPENT = { insufficient_quota = true, credit_balance_exhausted = true }

local function is_spent(value)
    local fault = type(value) == "table" and (value.error or value)
    return type(fault) == "table" and (SPENT[fault.code] or SPENT[fault.type]) or nil
end

--- Reads the body of a failure: its words, its code, what the error keeps of it, and whether it says
-- that a quota is spent.
local function read_body(answer)
    local size = #answer.body
    if size == 0 then
        return
    end
    local content = tostring(answer.body)
    if size <= READ_MAX and content:find("^%s*[{%[\"]") then
        local value = json.decode(auth.redact(content))
        if value ~= nil then
            local message, code = words_of(value)
            local kept = size <= BODY_MAX and clean_value(value) or clean(content, BODY_MAX)
            return message, code, kept, is_spent(value)
        end
    end
    if is_html(answer, content) then
        return page_words(content), nil, clean(content, BODY_MAX)
    end
    local code = content:sub(1, 66):match("^(%u[%u%d]*_[%u%d_]*): ") -- "PERMISSION_DENIED: you may not"
    return code and content:sub(#code + 3) or content, code, clean(content, BODY_MAX)
end

--- The id under which the server knows the request: a header's, or one among an error's details.
local function request_id_of(answer, body)
    local details = type(body) == "table" and body.details
    for _, detail in ipairs(type(details) == "table" and details or {}) do
        if type(detail) == "table" and type(detail.request_id) == "string" then
            return response.request_id(answer) or one_line(detail.request_id, 128)
        end
    end
    return response.request_id(answer)
end

--- "GET /path" of a request, without the query.
local function request_line(request)
    local path = request.url:match("^[^/]*//[^/?#]*([^?#]*)")
    return ("%s %s"):format(request.method, path ~= "" and path or "/")
end

--- Where a redirect points: scheme and host, never the rest.
local function redirect_target(location)
    if not location then
        return "nowhere: it has no Location"
    end
    local scheme, rest = location:match("^(%a[%w+.-]*:)(.*)")
    local host = (rest or location):match("^//([^/?#]*)")
    if not scheme and not host then
        return "another path on the same server"
    end
    return one_line((scheme or "") .. (host and "//" .. host:gsub("^.*@", "") or ""), 200)
end

-- Where Databricks sends whoever asks a workspace that only a private network reaches.
local PRIVATE_LINK = "error=private-link-validation-error"

local function redirect(request, origin, answer)
    local location = answer.headers.location
    if location and location:find(PRIVATE_LINK, 1, true) then
        return error.new {
            kind = "auth",
            http_status = answer.status,
            error_code = "PRIVATE_LINK_VALIDATION_ERROR",
            message = ("%s takes requests only over its private network\n%s"):format(origin.text,
                request_line(request)),
            request_id = response.request_id(answer),
            hint = "AWS PrivateLink, Azure Private Link or Private Service Connect leads there",
        }
    end
    local to = redirect_target(location)
    return error.new {
        kind = "http",
        http_status = answer.status,
        message = ("%s answered %d, a redirect to %s\n%s; moonflow follows no redirects"):format(origin.text,
            answer.status, to, request_line(request)),
        request_id = response.request_id(answer),
        hint = to:find("://", 1, true) and to ~= origin.text
            and "use that address as the target, if you trust it" or "check the target's URL",
    }
end

--- Makes sure that what the server says shows nothing of the credential that it was sent.
local function remember(origin)
    for _, value in next, origin.credential.headers do
        if auth.is_secret(value) then
            auth.remember(value)
        end
    end
end

local function credential_hint(origin)
    local credential = origin.credential
    if credential.anonymous then
        return "no credential was sent; looked at " .. credential.source
    end
    return "the credential came from " .. credential.source
end

--- The error that a status of 300 or above is.
---@param request table what was sent
---@param origin moonflow.Origin
---@param answer table
---@param hints table by status, from the backend, for answers that say nothing of their own
---@return table error
function judge.failure(request, origin, answer, hints)
    remember(origin)
    response.headers(answer)
    local status = answer.status
    if status < 400 then
        return redirect(request, origin, answer)
    end
    local message, code, body, quota_spent = read_body(answer)
    local reason = answer.reason ~= "" and one_line(answer.reason, 60) or nil
    local first = ("%s answered %d%s"):format(origin.text, status, reason and " " .. reason or "")
    local own_words = message and message:lower() ~= (reason or ""):lower() and message:lower() ~= "not found"
    if own_words then
        first = first .. ": " .. one_line(message, MESSAGE_MAX)
    end
    local says_nothing = not own_words or message:find("^an HTML page") ~= nil
    local hint
    if status == 401 or status == 403 then
        hint = credential_hint(origin)
    elseif says_nothing and not code then
        hint = hints[status]
    end
    return error.new {
        kind = "http",
        http_status = status,
        error_code = code,
        message = first .. "\n" .. request_line(request),
        body = body,
        request_id = request_id_of(answer, body),
        rate_limits = response.rate_limits(answer),
        quota_spent = quota_spent,
        hint = hint,
    }
end

-- What the types and codes of OpenAI's errors stand for where an error has no status of its own.
local STATUS_OF = {
    authentication_error = 401, content_filter = 400, context_length_exceeded = 400, insufficient_quota = 429,
    credit_balance_exhausted = 429, invalid_api_key = 401, invalid_request_error = 400, model_not_found = 404,
    not_found_error = 404, overloaded_error = 503, permission_error = 403, rate_limit_error = 429,
    rate_limit_exceeded = 429, server_error = 500, server_is_overloaded = 503,
}

--- The status that an error object of a server's names, as a number or by its code or type.
local function status_of(fault)
    for _, name in ipairs { "status", "code", "status_code", "http_status_code", "type" } do
        local value = fault[name]
        local status = STATUS_OF[value] or math.tointeger(type(value) == "string" and tonumber(value) or value)
        if status and status >= 400 and status < 600 then
            return status
        end
    end
end

--- The error that a server tells of inside an answer that began as a success.
---@param request table what was sent
---@param origin moonflow.Origin
---@param answer table
---@param fault any what the server said: a table, or a text
---@return table error
function judge.fault(request, origin, answer, fault)
    remember(origin)
    local is_object = type(fault) == "table"
    local message, code = words_of(is_object and fault.error_code and fault or { error = fault })
    local status = is_object and status_of(fault) or code and error.status_from_code(code) or nil
    return error.new {
        kind = "http",
        http_status = status,
        error_code = code,
        message = ("%s sent an error in its answer: %s\n%s"):format(origin.text,
            one_line(message or "it does not say which", MESSAGE_MAX), request_line(request)),
        body = clean_value(fault),
        request_id = response.request_id(answer),
        rate_limits = response.rate_limits(answer),
        quota_spent = is_spent(fault),
        hint = (status == 401 or status == 403) and credential_hint(origin) or nil,
    }
end

--- The error object that an answer of status 200 is, or nil: some servers send one in place of what
-- was asked for.
---@param value any
---@return any fault
function judge.fault_in(value)
    if type(value) ~= "table" then
        return nil
    end
    local fault = value.error
    local is_empty = fault == "" or type(fault) == "table" and next(fault) == nil
    if fault and fault ~= json.null and not is_empty then
        return fault
    elseif value.object == "error" or type(value.error_code) == "string" and type(value.message) == "string" then
        return value
    end
end

local EVENT_FIELDS = { [""] = true, data = true, event = true, id = true, retry = true } -- "" is a comment

--- Whether the beginning of a body is that of server-sent events.
---@param beginning string
---@return boolean
function judge.begins_events(beginning)
    return EVENT_FIELDS[beginning:match("^[\xEF\xBB\xBF]*%s*(%l*):")] == true
end

--- Whether a body that is no JSON is one of server-sent events, by its type or by how it begins.
---@param answer table
---@return boolean
function judge.holds_events(answer)
    local content_type = response.headers(answer)["content-type"] or ""
    return content_type:lower():find("^%s*text/event%-stream") ~= nil
        or judge.begins_events(tostring(answer.body):sub(1, 256))
end

local EMPTY_IS_DONE = { PUT = true, PATCH = true, DELETE = true }

local function not_json(request, origin, answer, what, why)
    response.headers(answer)
    return error.new {
        kind = "decode",
        http_status = answer.status,
        message = ("%s answered %d with %s, not JSON\n%s%s"):format(origin.text, answer.status, what,
            request_line(request), why and ": " .. why or ""),
        request_id = response.request_id(answer),
    }
end

--- The value that a 2xx answer stands for, or nil and an error. An empty answer is true for PUT,
-- PATCH and DELETE, and nil for 204.
---@param request table what was sent
---@param origin moonflow.Origin
---@param answer table
---@return any value
---@return table? error
function judge.success(request, origin, answer)
    local body = answer.body
    if #body == 0 then
        if EMPTY_IS_DONE[request.method] then
            return true
        elseif answer.status == 204 then
            return nil
        end
        return nil, not_json(request, origin, answer, "an empty body")
    end
    local value, err = json.decode(body)
    if value ~= nil then
        return value
    end
    return nil, judge.not_json(request, origin, answer, tostring(body), err.message)
end

--- The error for a good status with a body that is no JSON.
---@param request table what was sent
---@param origin moonflow.Origin
---@param answer table
---@param content string the body, or its beginning
---@param why string
---@return table error
function judge.not_json(request, origin, answer, content, why)
    remember(origin)
    response.headers(answer)
    if is_html(answer, content) then
        local title = page_title(content)
        local failure = not_json(request, origin, answer, "an HTML page",
            title and ("title %q"):format(title) or nil)
        failure.hint = request.hints and request.hints.html
            or "check the target's URL: this may be a login page or another server"
        return failure
    end
    return not_json(request, origin, answer, "something else",
        ("%s; it begins %q"):format(one_line(why, 200), one_line(content, 80)))
end

return judge
