--- Runs busted specs inside the program that runs this file: `moonflow`, or a stock `lua5.4`.
--
--     build/bin/moonflow tests/run.lua tests/spec          all specs
--     build/bin/moonflow tests/run.lua tests/spec/url_spec.lua --filter=join
--
-- Takes busted's own options. The last line is "N passed, N failed, N skipped".
-- MOONFLOW_GC=stress makes the collector run all the time, to find values that C forgot to anchor.

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
package.path = root .. "/tests/?.lua;" .. package.path

if os.getenv("MOONFLOW_GC") == "stress" then
    -- no pause between cycles, and a cycle goes on with every kilobyte
    collectgarbage("incremental", 1, 400, 10)
end

-- Tokens that a test was given are kept for no later run; tests of that say so themselves.
require("moonflow.env").MOONFLOW_TOKEN_CACHE = "0"

-- A helper can not see the `pending` that busted puts into a test's environment: keep it for them.
local new_core = require "busted.core"
package.loaded["busted.core"] = function()
    local busted = new_core()
    require("support.skip").pending = busted.pending
    return busted
end

-- busted ends the process by itself. Here the end is ours, so that the state is closed as after
-- any script and no exit code is lost.
local EXIT = {}
require("busted.compatibility").exit = function(code)
    error(setmetatable({ code = code }, EXIT), 0)
end

local ok, stop = pcall(function()
    require "busted.runner" {
        standalone = false,
        output = root .. "/tests/support/report.lua",
    }
end)
if not ok then
    if getmetatable(stop) ~= EXIT then
        error(stop, 0)
    end
    os.exit(stop.code == 0 and 0 or 1, true)
end
