--- When a failed request is repeated, and how long that waits.
--
-- Counts and factor are MLflow's, the waits are not: the k-th repetition waits a random time between
-- 0 and factor * 2^(k-1) seconds, at most 120 (MLflow: 0, 4, 8, ... and up to a second more). So many
-- clients do not come back together, nor all at once the first time. What a server asks for in
-- Retry-After is kept to exactly.
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local retry = {}

local COMMON = { [429] = true, [500] = true, [502] = true, [503] = true }

--- What a kind of request is repeated on: statuses; broken connections ("any", those
-- "before_answer", or those where the request was "unsent"); a timeout while waiting for the answer.
-- A connection that could not be made in time counts as broken.
---@class moonflow.Policy
---@field statuses table<integer, true>
---@field connection "any"|"before_answer"|"unsent"
---@field read_timeout? boolean
---@field gone_is_done? boolean a 404 after a repetition is success
---@field changes? boolean a second run would do something else than the first
---@field timeout? string the variable that holds the time to wait for the server
---@field total_timeout? string the variable that holds the time for all attempts

---@type table<string, moonflow.Policy>
retry.policies = {
    get = { statuses = COMMON, connection = "any", read_timeout = true },
    write = { statuses = COMMON, connection = "any" },
    delete = { statuses = COMMON, connection = "any", gone_is_done = true },
    create = { statuses = { [429] = true, [503] = true }, connection = "unsent", changes = true },
    predict = {
        statuses = COMMON,
        connection = "before_answer",
        timeout = "MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT",
        total_timeout = "MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT",
    },
}

--- The policy of a request that names none.
retry.policy_of_method = {
    GET = "get", HEAD = "get", PUT = "write", PATCH = "write", DELETE = "delete", POST = "create",
}

local BACKOFF_MAX = 120           -- seconds
local RETRY_AFTER_MAX = 120       -- seconds: a server that asks for more gets no repetition
local RETRY_AFTER_SANE = 31536000 -- seconds: what is beyond a year is no answer at all

-- Broken connections that another attempt may find whole; the other codes stand for certificates
-- that are not trusted, answers beyond a limit, and the like.
local TRANSIENT = { TEMPORARILY_UNAVAILABLE = true, DATA_LOSS = true }

-- The budget of each origin: where most requests fail, repeating them all makes it worse.
local BUDGET, RETRY_COST, TIMEOUT_COST, SUCCESS_GAIN = 500, 5, 10, 1
local budgets = {}

--- Tells that a request to an origin succeeded.
---@param key string
function retry.succeeded(key)
    local left = budgets[key]
    if left and left < BUDGET then
        budgets[key] = left + SUCCESS_GAIN
    end
end

--- Seconds that a Retry-After header asks for, or nil where it is missing or makes no sense.
local function retry_after(headers)
    local value = headers["retry-after"]
    if not value then
        return nil
    end
    local seconds
    if value:find("^%s*%d+%.?%d*%s*$") then
        seconds = tonumber(value)
    elseif value:find("%a") then
        local date = sys.http_date(value)
        seconds = date and math.max(0, date - sys.time())
    end
    return seconds and seconds < RETRY_AFTER_SANE and seconds or nil
end

--- Whether another attempt could succeed, and does no harm.
---@param policy moonflow.Policy
---@param failure table
---@return boolean
function retry.is_repeatable(policy, failure)
    if failure.http_status then
        return failure.kind == "http" and policy.statuses[failure.http_status] == true
    elseif failure.kind == "network" then
        if not TRANSIENT[failure.error_code] then
            return false
        elseif policy.connection == "unsent" then
            return not failure.request_sent
        end
        return policy.connection == "any" or failure.phase ~= "body"
    elseif failure.kind == "timeout" then
        if failure.phase == "resolve" or failure.phase == "connect" then
            return true
        end
        return policy.read_timeout == true and failure.phase ~= "total"
    end
    return false
end

--- Whether the server may have done what was asked although the request failed.
---@param policy moonflow.Policy
---@param failure table
---@return boolean
function retry.is_outcome_unknown(policy, failure)
    if not policy.changes then
        return false
    elseif failure.http_status then
        return failure.http_status >= 500 and not policy.statuses[failure.http_status]
    end
    return failure.request_sent == true
end

--- How long to wait before the next attempt; or nil and why there is none.
local function next_delay(own, attempt, wanted, time_left)
    if wanted and own.respect_retry_after then
        if wanted > RETRY_AFTER_MAX then
            return nil, ("the server asks to wait %.4g s (Retry-After), moonflow waits %d s at most"):format(wanted,
                RETRY_AFTER_MAX)
        elseif wanted >= time_left then
            return nil, ("the server asks to wait %.4g s (Retry-After), only %.3g s are left for this call"):format(
                wanted, math.max(0, time_left))
        end
        return wanted
    end
    local delay = math.min(BACKOFF_MAX, own.backoff * 2.0 ^ (attempt - 1))
    delay = delay * (1 - own.jitter * sys.random())
    if delay >= time_left then
        return nil, ("no time is left for another attempt (%.3g s)"):format(math.max(0, time_left))
    end
    return delay
end

local function describe(failure, origin, wanted)
    if not failure.http_status then
        return failure.message:match("^[^\n]*")
    end
    local asked = wanted and (", Retry-After: %.4g"):format(wanted) or ""
    return ("%d from %s%s"):format(failure.http_status, origin.text, asked)
end

--- Decides on another attempt after a failure. Waits for it and returns true; or says in the error
-- why there is none and returns false.
---@async
---@param call table policy, own (the client's settings), origin, options, attempts (so far), deadline
---@param failure table
---@param headers? table of the answer
---@return boolean
function retry.again(call, failure, headers)
    local own, attempts = call.own, call.attempts
    local max_retries = call.options.max_retries or own.max_retries
    failure.attempts = attempts
    failure.retryable = retry.is_repeatable(call.policy, failure)
    if not failure.retryable or attempts > max_retries then
        return false
    end
    local key = call.origin.budget_key
    local left = (budgets[key] or BUDGET) - (failure.kind == "timeout" and TIMEOUT_COST or RETRY_COST)
    local delay, why_not
    if left < 0 then
        why_not = "too many requests to this server failed lately: not repeated"
    else
        local wanted = headers and retry_after(headers)
        delay, why_not = next_delay(own, attempts, wanted, call.deadline - sys.monotonic())
        if delay then
            budgets[key] = left
            notice.say(("retrying in %.2g s (%s) %d/%d"):format(delay, describe(failure, call.origin, wanted),
                attempts, max_retries))
            task.sleep(delay)
            return true
        end
    end
    failure.message = failure.message .. "\n" .. why_not
    return false
end

return retry
