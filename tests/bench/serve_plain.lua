--- A server whose handler returns a fixed body: the file of its argument. Prints its URL.
local body = assert(require("moonflow.sys").read_file(arg[1]))
local HEADERS = { ["Content-Type"] = "application/json" }

print(require("moonflow.server").start {
    handler = function()
        return 200, HEADERS, body
    end,
}.url)
io.stdout:flush()
