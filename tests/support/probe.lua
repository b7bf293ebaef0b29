--- A deployment client for tests of requests: its method `ask` sends any request, as a backend's own
-- methods do, and what moonflow says on stderr is kept instead.
--
--     local client = probe.client(server.url, { max_retries = 2 })
--     local err = probe.failure(client.ask, client, { method = "GET" })
local client = require "moonflow.client"
local error = require "moonflow.error"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"

local probe = {}

local Client = client.BaseDeploymentClient:extend {
    name = "ProbeClient",
    signatures = {
        {
            name = "ask",
            params = { { name = "request", type = "table", required = true, doc = "what to send, without its url" } },
            doc = "Sends one request to the target.",
        },
    },
    ask = function(self, args)
        local request = { url = self.target_uri .. "/x", options = args.options }
        for name, value in pairs(args.request) do
            request[name] = value
        end
        return self:send(request)
    end,
}

---@param target_uri string
---@param options? table
---@return table client
function probe.client(target_uri, options)
    return Client(target_uri, options)
end

--- Calls a function that must raise an error object, and returns the object.
---@return table
function probe.failure(fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok, "nothing was raised")
    assert(error.is(err), tostring(err))
    return err
end

--- Calls a function, and returns how many seconds that took and its results.
---@return number
function probe.timed(fn, ...)
    local started = sys.monotonic()
    local results = table.pack(fn(...))
    return sys.monotonic() - started, table.unpack(results, 1, results.n)
end

--- Keeps the lines that moonflow would write to stderr, until `close`.
---@return table lines
function probe.listen()
    local write = notice.write
    local lines = {}
    notice.write = function(line)
        lines[#lines + 1] = line
    end
    return setmetatable(lines, {
        __index = {
            close = function()
                notice.write = write
            end,
        },
    })
end

return probe
