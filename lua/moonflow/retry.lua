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

--- Besides the usual ones 408, 409 and every other 5xx.
local function openai_statuses()
    local statuses = { [408] = true, [409] = true, [429] = true }
    for status = 500, 599 do
        statuses[status] = true
    end
    return statuses
end

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
---@field server_decides? boolean the header x-should-retry goes before the status
---@field backoff? {first: number, max: number, jitter: number} waits in place of MLflow's

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
    -- As OpenAI's own clients (spec/openai.md 2.1), but no prompt twice after a read timeout.
    openai = {
        statuses = openai_statuses(),
        connection = "before_answer",
        timeout = "OPENAI_TIMEOUT",
        total_timeout = "MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT",
        server_decides = true,
        backoff = { first = 0.5, max = 8, jitter = 0.25 },
    },
}

--- The policy of a request that names none.
retry.policy_of_method = {
    GET = "get", HEAD = "get", PUT = "write", PATCH = "write", DELETE = "delete", POST = "create",
}

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

local NUMBER = "^%s*%d+%.?%d*%s*$"
local HEADER_MAX = 64 -- bytes of a header that makes sense; patterns take their time with long ones

--- Seconds that retry-after-ms or Retry-After asks for, or nil where they are missing or make no
-- sense. To OpenAI's own clients no time at all is no answer.
local function retry_after(headers, policy)
    local milliseconds, value = headers["retry-after-ms"], headers["retry-after"]
    milliseconds = milliseconds and #milliseconds <= HEADER_MAX and milliseconds
    value = value and #value <= HEADER_MAX and value
    local seconds
    if milliseconds and milliseconds:find(NUMBER) then
        seconds = tonumber(milliseconds) / 1000
    elseif value and value:find(NUMBER) then
        seconds = tonumber(value)
    elseif value and value:find("%a") then
        local date = sys.http_date(value)
        seconds = date and math.max(0, date - sys.time())
    end
    if not seconds or seconds >= RETRY_AFTER_SANE or seconds == 0 and policy.server_decides then
        return nil
    end
    return seconds
end

--- Whether another attempt could succeed, and does no harm.
---@param policy moonflow.Policy
---@param failure table
---@param headers? table of the answer
---@return boolean
function retry.is_repeatable(policy, failure, headers)
    if failure.partial then
        return false -- some of the answer was there already
    elseif failure.http_status then
        if failure.kind ~= "http" or failure.quota_spent then
            return false
        end
        local word = policy.server_decides and headers and headers["x-should-retry"]
        if word == "true" or word == "false" then
            return word == "true"
        end
        return policy.statuses[failure.http_status] == true
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
local function next_delay(own, policy, attempt, wanted, time_left)
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
    local backoff = policy.backoff or own.backoff
    local delay = math.min(backoff.max, backoff.first * 2.0 ^ (attempt - 1)) * (1 - backoff.jitter * sys.random())
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
---@param call table policy, own (the client's settings), origin, max_retries, attempts (so far), deadline
---@param failure table
---@param headers? table of the answer
---@return boolean
function retry.again(call, failure, headers)
    local own, attempts = call.own, call.attempts
    local max_retries = call.max_retries
    failure.attempts = attempts
    failure.retryable = retry.is_repeatable(call.policy, failure, headers)
    if not failure.retryable or attempts > max_retries then
        return false
    end
    local key = call.origin.budget_key
    local left = (budgets[key] or BUDGET) - (failure.kind == "timeout" and TIMEOUT_COST or RETRY_COST)
    local delay, why_not
    if left < 0 then
        why_not = "too many requests to this server failed lately: not repeated"
    else
        local wanted = headers and retry_after(headers, call.policy)
        delay, why_not = next_delay(own, call.policy, attempts, wanted, call.deadline - sys.monotonic())
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
