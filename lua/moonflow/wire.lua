--- Watches the requests of all clients and of moonflow.http, and stops them where that is wished.
--
-- `wire.start` sets `http.watch`, which moonflow.pipeline and moonflow.http ask before each attempt, so
-- that nothing is slower while nobody watches. Streams and the requests for tokens pass there too.
--
-- `curl` and `dry_run` end the program with exit code 0 after the first request is printed, as os.exit
-- does: no answer will come, and an error in its place could be caught and taken for one by a script or
-- plugin. Until then all is as usual: what is wrong with arguments or configuration is an error with its
-- exit code. No token is fetched for such a request, nor a program run that gives one; a credential that
-- would have to be fetched is named in its place.
local auth = require "moonflow.auth"
local error = require "moonflow.error"
local headers = require "moonflow.wire.headers"
local http = require "moonflow.http"
local notice = require "moonflow.notice"
local response = require "moonflow.response"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local wire = {}

local SHOWN_MAX = 4096        -- bytes of a body in a line, and of an answer's that is kept
local LINE_MAX = 1024         -- bytes of another line
local KEPT = 20               -- exchanges
local BODY_MAX = 256 * 1024   -- bytes of a request's body that are kept

--- One attempt to send a request, and what became of it.
---@class moonflow.Exchange
---@field number integer
---@field method string
---@field url string
---@field headers table<string, string|userdata|table>
---@field body? string without secrets that are known, in what `wire.last` returns
---@field body_bytes? integer of a body that is too long to be kept
---@field settings table proxy, ca_file and the like, as moonflow._http.profile takes them
---@field target? string of the client
---@field credential? moonflow.Credential of the client
---@field is_stream? boolean
---@field timeout? number these three only where somebody chose them
---@field connect_timeout? number
---@field total_timeout? number
---@field answer? table status, reason, headers, body (cut), bytes, first_byte, total; of a stream also `chunks`
---@field error? string

local level, stop = 0, nil
local records = false
local count = 0
local kept = {}

local function say(exchange, mark, line, max)
    notice.write(("#%d %s %s"):format(exchange.number, mark, text.one_line(line, max or LINE_MAX)))
end

local function say_headers(exchange, mark, given)
    for _, pair in ipairs(headers.pairs_of(given)) do
        say(exchange, mark, ("%s: %s"):format(pair[1], headers.shown(pair[1], pair[2])))
    end
end

local function say_body(exchange, mark, bytes, size)
    if bytes and bytes ~= "" then
        local shown = text.clean(bytes, SHOWN_MAX):gsub("\n", "\\n"):gsub("\t", "\\t")
        if size and size > SHOWN_MAX then
            shown = ("%s (%d bytes)"):format(shown, size)
        end
        notice.write(("#%d %s %s"):format(exchange.number, mark, shown))
    end
end

--- The URL with the values of parameters left out that are credentials by their names.
local function shown_url(address)
    return (address:gsub("([?&])([^=&#]*)=([^&#]*)", function(mark, name)
        local is_secret = headers.is_secret_name(name) or name == "key" or name == "sig" or name == "code"
        return is_secret and mark .. name .. "=<redacted>" or nil
    end):gsub("//[^/?#@]*@", "//"))
end

local function say_request(exchange)
    if level >= 1 then
        say(exchange, ">", exchange.method .. " " .. shown_url(exchange.url), SHOWN_MAX)
    end
    if level >= 2 then
        say_headers(exchange, ">", exchange.headers)
    end
    if level >= 3 then
        say_body(exchange, ">", exchange.body, exchange.body and #exchange.body)
    end
end

local function seconds(value)
    return ("%.3g s"):format(value)
end

local function say_failure(exchange)
    say(exchange, "!", exchange.error)
end

--- What is told and kept of an answer's head.
local function take_head(exchange, answer)
    local given, reason = response.headers(answer)
    exchange.answer = { status = answer.status, reason = text.one_line(reason, 128), headers = {} }
    for name, value in next, given do
        exchange.answer.headers[name] = headers.shown(name, value)
    end
    if level >= 1 then
        local id = response.request_id(answer)
        say(exchange, "<", ("%d %s in %s%s%s"):format(answer.status, reason,
            seconds(sys.monotonic() - exchange.started), exchange.is_stream and answer.exchange and ", a stream" or "",
            id and ", request id " .. id or ""))
    end
    if level >= 2 then
        say_headers(exchange, "<", given)
    end
end

--- The beginning of a body, which is a string or a buffer.
local function beginning_of(body)
    return tostring(body):sub(1, SHOWN_MAX + 4096)
end

local function take_body(exchange, body)
    if body and (level >= 3 or records) then
        local beginning = beginning_of(body)
        exchange.answer.bytes = #body
        exchange.answer.body = text.clean(beginning, SHOWN_MAX)
        if level >= 3 then
            say_body(exchange, "<", beginning, #body)
        end
    end
end

local function take_failure(exchange, failure)
    local message = text.clean(failure.message:match("^[^\n]*"), LINE_MAX)
    exchange.error = ("%s: %s"):format(failure.kind, message)
    if level >= 1 then
        say_failure(exchange)
    end
end

--- An open answer whose reads are watched: the same methods, so that moonflow.stream sees no difference.
local function watched_stream(exchange, inner)
    local proxy, chunks, ended = {}, 0, false
    local function finish(how)
        if not ended then
            ended = true
            exchange.answer.chunks = chunks
            exchange.answer.total = sys.monotonic() - exchange.started
            if level >= 1 then
                say(exchange, "<", ("%s, %d events in %s"):format(how, chunks, seconds(exchange.answer.total)))
            end
        end
    end
    for _, name in ipairs { "bytes", "peek", "times" } do
        proxy[name] = function(_, ...)
            return inner[name](inner, ...)
        end
    end
    function proxy.event()
        local value, what, size = inner:event()
        if value ~= nil then
            chunks = chunks + 1
            if level >= 3 then
                say_body(exchange, "<", require("moonflow.json").encode(value) or "", size)
            end
        elseif error.is(what) then
            take_failure(exchange, what)
            finish("broken off")
        elseif what == "done" or what == "end" then
            finish("end of the stream")
        end
        return value, what, size
    end
    function proxy.close()
        finish("stream closed")
        return inner:close()
    end
    function proxy.finish()
        finish("end of the stream")
        return inner:finish()
    end
    return proxy
end

local function keep(exchange)
    local body = exchange.body
    if body and #body > BODY_MAX then
        exchange.body, exchange.body_bytes = nil, #body
    elseif body then
        exchange.body = auth.redact(body)
    end
    exchange.url = auth.redact(exchange.url)
    kept[#kept + 1] = exchange
    if #kept > KEPT then
        table.remove(kept, 1)
    end
end

--- What http.watch is.
local function watch(exchange, perform, profile, method, address, body, ...)
    count = count + 1
    exchange.number, exchange.method, exchange.url, exchange.body = count, method, address, body
    exchange.started = sys.monotonic()
    say_request(exchange)
    if stop then
        return stop(exchange)
    elseif records then
        keep(exchange)
    end
    local answer, failure = perform(profile, method, address, body, ...)
    if not answer then
        take_failure(exchange, failure)
        return nil, failure
    end
    take_head(exchange, answer)
    exchange.answer.first_byte, exchange.answer.total = answer.first_byte_time, answer.total_time
    if answer.exchange then
        answer.exchange = watched_stream(exchange, answer.exchange)
    else
        take_body(exchange, answer.body)
    end
    return answer
end

--- Prints the request as a command, and ends the program.
local function stop_with_curl(exchange)
    local command, comments = require("moonflow.wire.curl").command(exchange)
    for _, comment in ipairs(comments) do
        notice.write("# " .. comment)
    end
    io.stdout:write(command, "\n")
    os.exit(true)
end

--- A request as a dry run shows it.
---@param exchange moonflow.Exchange
---@return string
function wire.describe(exchange)
    local credential = exchange.credential
    local lines = { exchange.method .. " " .. text.one_line(shown_url(exchange.url), SHOWN_MAX) }
    for _, pair in ipairs(headers.pairs_of(exchange.headers)) do
        local source = credential and credential.headers[pair[1]] and credential.source or nil
        lines[#lines + 1] = ("%s: %s"):format(pair[1], headers.shown(pair[1], pair[2], source))
    end
    local body = exchange.body
    if body and body ~= "" then
        local is_json = require("moonflow.json").decode(body) ~= nil
        body = auth.redact(is_json and require("moonflow.wire.pretty").json(body) or body)
        lines[#lines + 1] = ""
        lines[#lines + 1] = text.clean(body, #body)
    end
    return table.concat(lines, "\n")
end

local function stop_dry(exchange)
    io.stdout:write(wire.describe(exchange), "\n")
    notice.say("dry run: nothing was sent")
    os.exit(true)
end

--- Puts a name in the place of tokens that would have to be fetched.
local function fetch_no_tokens()
    local tokens = require "moonflow.tokens"
    function tokens.get(_, _, _, what)
        return { secret = auth.secret("a token that was not fetched"), source = what or "a login", expires_in = 3600 }
    end
end

local function update()
    http.watch = (level > 0 or stop or records) and watch or nil
end

--- Begins to watch.
---@param options table level: 1 request lines, statuses and times, 2 headers, 3 bodies, all on stderr and
--- without secrets; curl: print the first request as a command instead of sending it, and end the program;
--- dry_run: print what would be sent, and end the program
function wire.start(options)
    level = options.level or 0
    stop = options.curl and stop_with_curl or options.dry_run and stop_dry or nil
    if stop then
        fetch_no_tokens()
    end
    update()
end

--- Keeps the last exchanges, or no longer.
---@param on boolean
function wire.record(on)
    records = on
    kept = on and kept or {}
    update()
end

--- The last exchange that was kept, or the one that was `n` before it.
---@param n? integer default 0
---@return moonflow.Exchange?
function wire.last(n)
    return kept[#kept - (n or 0)]
end

--- An exchange as a command for curl.
---@param exchange moonflow.Exchange
---@return string command
---@return string[] comments what has to be done before it runs
function wire.curl_of(exchange)
    return require("moonflow.wire.curl").command(exchange)
end

return wire
