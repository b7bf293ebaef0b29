--- The headers of a request or an answer as they may be shown.
local auth = require "moonflow.auth"
local check = require "moonflow.check"
local text = require "moonflow.text"

local headers = {}

local MARK = "<redacted>"
local VALUE_MAX = 1024 -- bytes

-- What the name of a header that carries a credential holds. Answers have such headers too.
local SECRET_NAMES = {
    "authorization", "cookie", "token", "secret", "password", "api%-?_?key", "access%-?_?key", "credential",
    "signature", "session",
}

--- Whether a header's name says that its value is a credential.
---@param name string
---@return boolean
function headers.is_secret_name(name)
    local lower = name:lower()
    for _, pattern in ipairs(SECRET_NAMES) do
        if lower:find(pattern) then
            return not lower:find("^x%-ratelimit")
        end
    end
    return false
end

--- The scheme of a credential, "Bearer" or "Basic", or nil.
---@param value string|userdata
---@return string?
function headers.scheme(value)
    if auth.is_secret(value) then
        return auth.scheme(value)
    end
    return value:match("^(Bearer) .") or value:match("^(Basic) .")
end

--- Whether a credential, without its scheme, is this text.
---@param value string|userdata
---@param given string
---@return boolean
function headers.holds(value, given)
    if auth.is_secret(value) then
        return auth.holds(value, given)
    end
    local scheme = headers.scheme(value)
    return given ~= "" and value == (scheme and scheme .. " " or "") .. given
end

--- The pairs of name and value, a pair for each of several values, in the order of the names.
---@param given table<string, string|userdata|table>
---@return table list of {name, value}
function headers.pairs_of(given)
    local list = {}
    for _, name in ipairs(check.sorted_keys(given)) do
        local value = given[name]
        for _, one in ipairs(type(value) == "table" and value or { value }) do
            list[#list + 1] = { name, one }
        end
    end
    return list
end

--- Whether a header is a credential: a secret, or a text under the name of one.
---@param name string
---@param value string|userdata
---@return boolean
function headers.is_credential(name, value)
    return auth.is_secret(value) or headers.is_secret_name(name)
end

--- A header's value as it may be shown.
---@param name string
---@param value string|userdata
---@param source? string where a credential comes from
---@return string
function headers.shown(name, value, source)
    if not headers.is_credential(name, value) then
        return text.one_line(value, VALUE_MAX)
    end
    local scheme = headers.scheme(value)
    local mark = source and ("<redacted, from %s>"):format(text.one_line(source, VALUE_MAX)) or MARK
    return scheme and scheme .. " " .. mark or mark
end

return headers
