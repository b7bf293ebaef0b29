--- What an HTTP answer means: a value, or an error object that says what the server said. All text
-- from outside loses its secrets and its control characters here.
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local json = require "moonflow.json"

local judge = {}

local MESSAGE_MAX = 300        -- bytes of a server's words in a message
local BODY_MAX = 8 * 1024      -- bytes of a body that an error keeps
local READ_MAX = 1024 * 1024   -- bytes of an error's body that are looked at

--- The text with "?" for what is no UTF-8.
local function valid(text)
    local pieces, from = {}, 1
    while true do
        local length, bad = utf8.len(text, from)
        if length then
            pieces[#pieces + 1] = text:sub(from)
            return table.concat(pieces)
        end
        pieces[#pieces + 1] = text:sub(from, bad - 1) .. "?"
        from = bad + 1
    end
end

--- Text from outside as it may be shown: no secret, no control character except newline and tab, no
-- mark that turns the direction of writing, at most `max` bytes.
---@param text string
---@param max integer
---@return string
function judge.clean(text, max)
    -- Cut only after the secrets are out, with room for one that begins before the cut.
    text = auth.redact(text:sub(1, max + 4096))
    local cut = #text > max
    if cut then
        local last = max
        while last > 0 and text:byte(last + 1) & 0xC0 == 0x80 do
            last = last - 1
        end
        text = text:sub(1, last)
    end
    text = valid(text):gsub("[%z\1-\8\11-\31\127]", " ")
        :gsub("\xC2[\x80-\x9F]", " ")
        :gsub("\xE2\x80[\x8E\x8F\xAA-\xAE]", "")
        :gsub("\xE2\x81[\xA6-\xA9]", "")
    return cut and text .. "..." or text
end

local function one_line(text, max)
    return (judge.clean(text:sub(1, max * 4), max):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

--- The parsed value with every text in it cleaned.
local function clean_value(value)
    if type(value) == "string" then
        return judge.clean(value, BODY_MAX)
    elseif type(value) ~= "table" then
        return value
    end
    local copy = setmetatable({}, getmetatable(value))
    for key, item in next, value do
        copy[clean_value(key)] = clean_value(item)
    end
    return copy
end

local parse_head -- moonflow._http's, which is loaded when there is something to judge

--- Reads the reason and the headers of a response, which a good answer does not need.
local function read_head(response)
    if not response.headers then
        parse_head = parse_head or require("moonflow._http").parse_head
        response.reason, response.headers = parse_head(response.head)
    end
end

local function is_html(response, text)
    local content_type = response.headers["content-type"] or ""
    return content_type:lower():find("html", 1, true) ~= nil or text:sub(1, 256):lower():find("^%s*<!?%a") ~= nil
end

local function page_title(text)
    local title = text:sub(1, 16384):match("<[tT][iI][tT][lL][eE][^>]*>(.-)</")
    return title and one_line(title, 80)
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

--- What a JSON body says: a message, and an MLflow error code where it has one.
local function words_of(value)
    if type(value) ~= "table" then
        return type(value) == "string" and value or nil
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

--- Reads the body of a failure: its words, its code, and what the error keeps of it.
local function read_body(response)
    local size = #response.body
    if size == 0 then
        return
    end
    local text = tostring(response.body)
    if size <= READ_MAX and text:find("^%s*[{%[\"]") then
        local value = json.decode(auth.redact(text))
        if value ~= nil then
            local message, code = words_of(value)
            local kept = size <= BODY_MAX and clean_value(value) or judge.clean(text, BODY_MAX)
            return message, code, kept
        end
    end
    if is_html(response, text) then
        local title = page_title(text)
        return title and ("an HTML page, title %q"):format(title) or "an HTML page", nil, judge.clean(text, BODY_MAX)
    end
    return text, nil, judge.clean(text, BODY_MAX)
end

--- "GET /path" of a request, without the query.
local function request_line(request)
    local path = request.url:match("^[^/]*//[^/?#]*([^?#]*)")
    return ("%s %s"):format(request.method, path ~= "" and path or "/")
end

local function request_id(headers)
    local id = headers["x-request-id"] or headers["x-databricks-request-id"] or headers["request-id"]
    return id and one_line(id, 128)
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

local function redirect(request, origin, response)
    local to = redirect_target(response.headers.location)
    return error.new {
        kind = "http",
        http_status = response.status,
        message = ("%s answered %d, a redirect to %s\n%s; moonflow follows no redirects"):format(origin.text,
            response.status, to, request_line(request)),
        request_id = request_id(response.headers),
        hint = to:find("://", 1, true) and to ~= origin.text
            and "use that address as the target, if you trust it" or "check the target's URL",
    }
end

local function credential_hint(origin)
    if origin.credential then
        return "the credential came from " .. origin.source
    end
    return "no credential was sent; looked at " .. origin.source
end

--- The error that a status of 300 or above is.
---@param request table what was sent
---@param origin moonflow.Origin
---@param response table
---@param hints table by status, from the backend, for answers that say nothing of their own
---@return table error
function judge.failure(request, origin, response, hints)
    read_head(response)
    local status = response.status
    if status < 400 then
        return redirect(request, origin, response)
    end
    local message, code, body = read_body(response)
    local reason = response.reason ~= "" and one_line(response.reason, 60) or nil
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
        request_id = request_id(response.headers),
        hint = hint,
    }
end

local EMPTY_IS_DONE = { PUT = true, PATCH = true, DELETE = true }

local function not_json(request, origin, response, what, why)
    read_head(response)
    return error.new {
        kind = "decode",
        http_status = response.status,
        message = ("%s answered %d with %s, not JSON\n%s%s"):format(origin.text, response.status, what,
            request_line(request), why and ": " .. why or ""),
        request_id = request_id(response.headers),
    }
end

--- The value that a 2xx answer stands for, or nil and an error. An empty answer is true for PUT,
-- PATCH and DELETE, and nil for 204.
---@param request table what was sent
---@param origin moonflow.Origin
---@param response table
---@return any value
---@return table? error
function judge.success(request, origin, response)
    local body = response.body
    if #body == 0 then
        if EMPTY_IS_DONE[request.method] then
            return true
        elseif response.status == 204 then
            return nil
        end
        return nil, not_json(request, origin, response, "an empty body")
    end
    local value, err = json.decode(body)
    if value ~= nil then
        return value
    end
    local text = tostring(body)
    local failure
    read_head(response)
    if is_html(response, text) then
        local title = page_title(text)
        failure = not_json(request, origin, response, "an HTML page",
            title and ("title %q"):format(title) or nil)
        failure.hint = "check the target's URL: this may be a login page or another server"
    else
        failure = not_json(request, origin, response, "something else",
            ("%s; it begins %q"):format(one_line(err.message, 200), one_line(text, 80)))
    end
    return nil, failure
end

return judge
