--- moonflow.server: handlers that compute and compute, under the watch that `moonflow serve` has.
local process = require "support.process"

local SCRIPT = [[
local http, server = require "moonflow.http", require "moonflow.server"
require("moonflow._task").watch(tonumber(arg[1]))

local function compute()
    while true do end
end

local function stubborn()
    while true do pcall(compute) end
end

local handlers = {
    ["/computes"] = compute,
    ["/catches"] = function()
        return 200, nil, pcall(compute) and "computed" or "caught"
    end,
    ["/loops"] = stubborn,
    ["/loops-twice"] = function()
        while true do pcall(stubborn) end
    end,
    ["/loops-in-a-coroutine"] = function()
        while true do pcall(coroutine.wrap(stubborn)) end
    end,
    ["/streams"] = function()
        return 200, nil, stubborn
    end,
}

local served <close> = server.start {
    log = function(line) print("log " .. line:match("^[^\n]*")) end,
    handler = function(request)
        local handler = handlers[request.path]
        if handler then return handler() end
        return 200, nil, "fine"
    end,
}
local response = http.request { url = served.url .. arg[2], timeout = 50 }
print(response and response.status, response and response.body)
print(http.request { url = served.url .. "/" }.body)
]]

local HELD = "computes for too long without a wait\n"
local CASES = {
    { "/computes", HELD .. "500\tInternal Server Error\nfine\n" },
    { "/catches", "^200\tcaught\nfine\n$" },
    { "/loops", HELD .. "500\tInternal Server Error\nfine\n" },
    { "/loops-twice", HELD .. "500\tInternal Server Error\nfine\n" },
    { "/loops-in-a-coroutine", HELD .. "500\tInternal Server Error\nfine\n" },
    { "/streams", HELD .. "nil\tnil\nfine\n" },
}

describe("a handler that never waits", function()
    for _, case in ipairs(CASES) do
        it("ends, and others are served: " .. case[1], function()
            local result = process.run { args = { "-e", SCRIPT, "0.1", case[1] } }
            assert.equal("", result.stderr)
            assert.matches(case[2], result.stdout)
            assert.equal(0, result.code)
        end)
    end
end)
