--- An HTTP server whose handlers are Lua functions. Each request is a task of its own, in the loop that
-- requests to others run in as well, so a handler may wait for anything.
--
--     local server = require "moonflow.server"
--     server.start { port = 8080, handler = function(request)
--         return 200, { ["Content-Type"] = "text/plain" }, "You asked for " .. request.path .. "\n"
--     end }
local _task = require "moonflow._task"
local check = require "moonflow.check"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local raise = _G.error
local traceback = debug.traceback -- leaves what is no string as it is

local server = {}

--- What a body's iterator raises to close the connection in the middle, without a word in the log.
server.CUT = setmetatable({}, {
    __name = "moonflow.server.CUT",
    __tostring = function()
        return "the answer ends here"
    end,
})

---@class moonflow.ServerRequest
---@field method string
---@field path string percent-encoded, as it came
---@field query? string what stands behind "?"
---@field headers table<string, string> by lower-case names; repeated ones are joined by ", "
---@field body string
---@field peer string the client's address

local OPTIONS = {
    handler = true, host = true, port = true, log = true, max_body = true, max_header = true,
    max_connections = true, request_timeout = true, handler_timeout = true,
}

local PLAIN = { ["Content-Type"] = "text/plain; charset=utf-8" }

local Server = {}
Server.__index = Server

--- Tells the log what a handler did wrong; the client hears no more than that there was something.
local function complain(self, request, failure)
    local ok, said = pcall(tostring, failure)
    said = ok and said or "an error whose text can not be had"
    pcall(self.log, ("%s %s: %s"):format(request.method, text.one_line(request.path, 200), text.clean(said, 10000)))
end

local function is_callable(value)
    local metatable = getmetatable(value)
    return type(value) == "function" or type(metatable) == "table" and metatable.__call ~= nil
end

--- What is wrong with the values that a handler returned, or nil.
local function fault_of(status, headers, body)
    if status == false then
        return nil
    elseif math.type(status) ~= "integer" or status < 200 or status > 599 then
        return "the handler must return a status from 200 to 599, not " .. check.show(status)
    elseif headers ~= nil and type(headers) ~= "table" then
        return "the handler's headers must be a table, not " .. type(headers)
    elseif body ~= nil and type(body) ~= "string" and not is_callable(body) then
        return "the handler's body must be a string or a function, not " .. type(body)
    end
    return nil
end

--- Sends the pieces of a body as they come.
local function send_pieces(exchange, body)
    local piece = body()
    while piece ~= nil do
        if type(piece) ~= "string" then
            raise("a piece of a body must be a string, not " .. type(piece), 0)
        end
        if not exchange:write(piece) then
            return
        end
        piece = body()
    end
    exchange:finish()
end

local function closable(value)
    local metatable = getmetatable(value)
    return type(metatable) == "table" and metatable.__close and value or nil
end

local function send(exchange, status, headers, body)
    if not status then
        exchange:cut()
    elseif body == nil or type(body) == "string" then
        exchange:respond(status, headers, body)
    elseif exchange:start(status, headers) then
        send_pieces(exchange, body)
    end
end

--- Ends an exchange in which something went wrong.
local function fail(exchange)
    if exchange:state() == "waiting" then
        exchange:respond(500, PLAIN, "Internal Server Error")
    else
        exchange:cut()
    end
end

local function answer(self, exchange, request)
    local status, headers, body = self.handler(request)
    local _ <close> = closable(body)
    local fault = fault_of(status, headers, body)
    if fault then
        raise(fault, 0)
    end
    send(exchange, status, headers, body)
end

local function serve_one(self, id, exchange)
    local held <close> = exchange
    local request = held:request()
    if request then
        local ok, failure = _task.guard(answer, traceback, self, held, request)
        if not ok then
            if failure ~= server.CUT then
                complain(self, request, failure)
            end
            fail(held)
        end
    end
    self.running[id] = nil
end

--- Ends the task of a request that nobody waits for any more, or that took too long.
local function stop_one(self, id, why)
    local running = self.running[id]
    if not running then
        return
    end
    self.running[id] = nil
    if why == "late" and running.exchange:state() == "waiting" then
        pcall(self.log, "a handler took longer than its time")
        running.exchange:respond(504, PLAIN, "Gateway Timeout")
    end
    _task.spawn(running.task.cancel, running.task) -- what it closes may wait: others are served meanwhile
end

local function accept(self)
    while true do
        local id, exchange = self.listener:next()
        if id == nil then
            return
        elseif type(exchange) == "string" then
            stop_one(self, id, exchange)
        elseif exchange then
            self.running[id] = { exchange = exchange, task = _task.spawn(serve_one, self, id, exchange) }
        end
    end
end

--- Takes no more connections and waits until the requests that are here are answered.
-- @tparam[opt=10] number seconds how long at the most; then they are cancelled
function Server:stop(seconds)
    local tasks = {}
    local deadline = sys.monotonic() + (seconds or 10)
    self.listener:stop_listening()
    for _, running in pairs(self.running) do
        tasks[#tasks + 1] = running.task
    end
    for _, task in ipairs(tasks) do -- one by one, as a wait for all ends with the first that fails
        _task.join({ task }, math.max(0, deadline - sys.monotonic()))
    end
    self:close()
end

--- Closes every connection and cancels what runs. Any number of times; a `<close>` variable does it too.
function Server:close()
    for id, running in pairs(self.running) do
        self.running[id] = nil
        running.task:cancel()
    end
    self.listener:close()
end

Server.__close = Server.close

--- Waits until the server is closed.
function Server:wait()
    self.task:wait()
end

function Server:__tostring()
    return "moonflow.server: " .. self.url
end

local function check_options(options)
    if type(options) ~= "table" then
        error.raise { kind = "usage", message = "a table of options expected, not " .. type(options) }
    end
    for name in pairs(options) do
        if not OPTIONS[name] then
            error.raise {
                kind = "usage",
                message = check.show(name) .. " is not an option of a server",
                hint = check.hint(name, check.sorted_keys(OPTIONS)),
            }
        end
    end
    if not is_callable(options.handler) then
        error.raise { kind = "usage", message = "the option handler must be a function" }
    elseif options.log ~= nil and not is_callable(options.log) then
        error.raise { kind = "usage", message = "the option log must be a function" }
    end
end

--- Starts to serve, and returns at once. A script goes on serving behind its last line.
--
-- The handler gets a `moonflow.ServerRequest` and returns a status, a table of headers or nil, and the
-- body: a string, nil, or a function that is called until it returns nil and whose pieces are sent as
-- they come (it may wait, and is held back while the client reads slowly; an object with `__call` may
-- have `__close`, which is called at the end). A status of false closes the connection without an
-- answer. When a client leaves, its handler is cancelled. A handler that raises is a 500 for the
-- client, and a line in the log.
-- @tparam table options `handler` (required); `host` (default "127.0.0.1"), `port` (default 0: any that
-- is free); `log` (function of a line, default stderr); `max_body` (bytes, default 16 MiB), `max_header`
-- (bytes, default 32 KiB), `max_connections` (default 1000), `request_timeout` (seconds until a request
-- has come, and that a client may stop reading for; default 60), `handler_timeout` (seconds until an
-- answer begins, default 600)
-- @return the server: `url`, `host`, `port`, and the methods `wait`, `stop`, `close`. Raises an error of
-- kind "config" where it can not listen there.
function server.start(options)
    check_options(options)
    local listener, err = require("moonflow._server").listen(options)
    if not listener then
        raise(err, 0)
    end
    local host = options.host or "127.0.0.1"
    local self = setmetatable({
        handler = options.handler, host = host, port = listener:port(), listener = listener,
        is_local = listener:is_local(), log = options.log or notice.say, running = {},
    }, Server)
    self.url = ("http://%s:%d"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, self.port)
    self.task = _task.spawn(accept, self)
    return self
end

return server
