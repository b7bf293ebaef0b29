--- Skipping a test, with its reason, when something it needs is not there.
local skip = {}

--- Set by tests/run.lua: ends the running test as pending.
skip.pending = nil

--- Ends the running `it` as skipped unless `condition` holds. To be called in the body of an `it`:
-- a test whose `before_each` is skipped would not be counted.
---@param condition any
---@param reason string
function skip.unless(condition, reason)
    if not condition then
        skip.pending(reason)
    end
end

--- The value of an environment variable that the test runner sets; skips the test without it.
---@param name string
---@return string
function skip.unless_env(name)
    local value = os.getenv(name)
    skip.unless(value and value ~= "", name .. " is not set: run scripts/test.sh")
    return value
end

return skip
