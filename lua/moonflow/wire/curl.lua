--- A request as a command for curl that a POSIX shell runs. Secrets are variables in it; what it prints
-- is always text, as a body that is none is written in base64.
local auth = require "moonflow.auth"
local base64 = require "moonflow.base64"
local env = require "moonflow.env"
local headers = require "moonflow.wire.headers"
local variables = require "moonflow.wire.variables"

local curl = {}

local INLINE_MAX = 4096 -- bytes of a body that stands among the arguments

local PROXY_VARIABLES = {
    "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY",
}

--- A word in single quotes, in which the shell changes nothing.
---@param word string
---@return string
function curl.quote(word)
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- A text with variables behind it or in it, in double quotes.
local function with_variable(before, reference)
    if before:find('["\\$`!]') then
        return curl.quote(before) .. '"' .. reference .. '"'
    end
    return '"' .. before .. reference .. '"'
end

--- Whether a terminal shows these bytes as they are, and the shell takes them as they are.
local function is_plain(bytes)
    return utf8.len(bytes) ~= nil and not bytes:find("[%z\1-\8\11-\31\127]") and not bytes:find("\xC2[\x80-\x9F]")
        and not bytes:find("\xE2\x80[\x8E\x8F\xAA-\xAE]") and not bytes:find("\xE2\x81[\xA6-\xA9]")
end

--- A text without the secrets that are known, and whether it had any.
local function redact(given, comments, what)
    local shown = auth.redact(given)
    if shown ~= given then
        comments[#comments + 1] = ("%s holds a secret that is not printed: replace <redacted>"):format(what)
    end
    return shown
end

local function add_header(words, comments, exchange, name, value)
    if not headers.is_credential(name, value) then
        value = redact(value, comments, "the header " .. name)
        words[#words + 1] = "-H " .. curl.quote(value == "" and name .. ";" or name .. ": " .. value)
        return
    end
    local reference, more = variables.of(exchange, name, value)
    table.move(more, 1, #more, #comments + 1, comments)
    if reference.login then
        words[#words + 1] = ('-u "$%s:$%s"'):format(reference.login[1], reference.login[2])
    else
        local before = name .. ": " .. (reference.scheme and reference.scheme .. " " or "")
        words[#words + 1] = "-H " .. with_variable(before, "$" .. reference.name)
    end
end

--- The headers, and those that curl adds and moonflow does not.
local function add_headers(words, comments, exchange)
    local seen = {}
    for _, pair in ipairs(headers.pairs_of(exchange.headers)) do
        seen[pair[1]:lower()] = true
        add_header(words, comments, exchange, pair[1], pair[2])
    end
    if not seen["user-agent"] then
        words[#words + 1] = "-H 'User-Agent:'"
    end
    if exchange.body and not seen["content-type"] then
        words[#words + 1] = "-H 'Content-Type:'"
    end
    if exchange.body and #exchange.body > 1024 * 1024 then
        words[#words + 1] = "-H 'Expect:'"
    end
end

--- The variable of the environment that holds a proxy with a password, or nil.
local function proxy_holder(proxy)
    for _, name in ipairs(PROXY_VARIABLES) do
        if env[name] == proxy then
            return name
        end
    end
end

local function add_proxy(words, comments, own)
    local proxy = own.proxy
    if not proxy or proxy == "" then
        for _, name in ipairs(PROXY_VARIABLES) do
            if (env[name] or "") ~= "" then -- curl would use it
                words[#words + 1] = "--noproxy '*'"
                return
            end
        end
        return
    end
    local login, rest = proxy:match("^([^/@]*//[^/@]*)@(.*)$")
    local holder = login and proxy_holder(proxy)
    if holder then
        words[#words + 1] = ('--proxy "$%s"'):format(holder)
    elseif login then
        comments[#comments + 1] = "PROXY_LOGIN stands for the proxy's user name and password, as USER:PASSWORD"
        words[#words + 1] = "--proxy " .. curl.quote(login:match("^[^/]*//") .. rest)
        words[#words + 1] = '--proxy-user "$PROXY_LOGIN"'
    else
        words[#words + 1] = "--proxy " .. curl.quote(redact(proxy, comments, "the proxy's URL"))
    end
    if own.no_proxy and own.no_proxy ~= "" then
        words[#words + 1] = "--noproxy " .. curl.quote(own.no_proxy)
    end
end

--- What is set besides: certificates, times, the version of HTTP.
local function add_settings(words, exchange)
    local own = exchange.settings
    local function add(option, value)
        if value then
            words[#words + 1] = option .. " " .. curl.quote(value)
        end
    end
    if exchange.url:find("^[Hh][Tt][Tt][Pp][Ss]:") then
        add("--cacert", own.ca_file)
        add("--capath", own.ca_path)
        add("--cert", own.client_cert)
        add("--key", own.client_key)
        words[#words + 1] = own.insecure_tls and "--insecure" or nil
        words[#words + 1] = own.http2 and "--http2" or "--http1.1"
    end
    for _, pair in ipairs { { "connect_timeout", "--connect-timeout" }, { "total_timeout", "--max-time" } } do
        local seconds = exchange[pair[1]]
        if seconds and seconds < math.huge then
            words[#words + 1] = ("%s %.12g"):format(pair[2], seconds)
        end
    end
    if exchange.timeout and exchange.timeout < math.huge then -- so long without a byte
        words[#words + 1] = ("--speed-limit 1 --speed-time %d"):format(math.ceil(exchange.timeout))
    end
    if exchange.is_stream then
        words[#words + 1] = "--no-buffer"
    end
end

--- The body's option, and what has to come before curl on a pipe.
local function add_body(words, comments, exchange)
    local body = exchange.body
    if not body then
        if exchange.body_bytes then
            comments[#comments + 1] = ("the body of %d bytes was not kept: give it to the command's standard input")
                :format(exchange.body_bytes)
            words[#words + 1] = "--data-binary @-"
        end
        return ""
    end
    body = redact(body, comments, "the body")
    if not is_plain(body) then
        words[#words + 1] = "--data-binary @-"
        return ("printf %%s %s | base64 -d | "):format(curl.quote(base64.encode(body)))
    elseif #body > INLINE_MAX then
        words[#words + 1] = "--data-binary @-"
        return ("printf %%s %s | "):format(curl.quote(body))
    end
    words[#words + 1] = "--data-raw " .. curl.quote(body)
    return ""
end

local METHODS_WITH_BODY = { POST = true, PUT = true, PATCH = true }

local function method_word(exchange)
    local method = exchange.method
    if method == "HEAD" then
        return "--head "
    elseif method == "GET" and not exchange.body then
        return ""
    end
    return "-X " .. curl.quote(method):gsub("^'(%u+)'$", "%1") .. " "
end

--- The command for a request.
---@param exchange moonflow.Exchange
---@return string command of one or several lines
---@return string[] comments what a person has to do before it runs
function curl.command(exchange)
    local words, comments = {}, {}
    add_headers(words, comments, exchange)
    add_proxy(words, comments, exchange.settings)
    add_settings(words, exchange)
    local address = redact(exchange.url, comments, "the URL")
    if address:find("[%[%]{}]") then
        words[#words + 1] = "--globoff"
    end
    if address:find("/%.") then
        words[#words + 1] = "--path-as-is"
    end
    if METHODS_WITH_BODY[exchange.method] and not exchange.body and not exchange.body_bytes then
        words[#words + 1] = "-H 'Content-Type:'"
        words[#words + 1] = "--data-raw ''"
    end
    local before = add_body(words, comments, exchange)
    local own_lines = { before .. "curl " .. method_word(exchange) .. curl.quote(address) }
    table.move(words, 1, #words, 2, own_lines)
    return table.concat(own_lines, " \\\n  "), comments
end

return curl
