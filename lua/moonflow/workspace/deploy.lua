--- How long deployments take and which of them fail: the rules of `moonflow serve --deploy`.
local check = require "moonflow.check"
local error = require "moonflow.error"

local deploy = {}

local FIELDS = { endpoint = "string", version = "count", seconds = "number", reads = "count", fail = "string" }
local WORDS = { "seconds", "reads", "fail", "version" }
local USUAL = { seconds = 0.5 }
local SECONDS_MAX = 86400
local MESSAGE = "the deployment failed, as it was told to"

local function refuse(message, hint)
    error.raise { kind = "config", message = message, hint = hint }
end

local function is_good(name, value)
    if FIELDS[name] == "number" then
        return type(value) == "number" and value >= 0 and value <= SECONDS_MAX
    end
    return check.types[FIELDS[name]].test(value)
end

--- A rule, checked.
-- @tparam table given endpoint, version (of the configuration), seconds, reads, fail (the message)
-- @tparam string where for messages
-- @treturn table of its own
function deploy.check(given, where)
    if type(given) ~= "table" then
        refuse(where .. ": a table expected, not " .. check.show(given))
    end
    local rule = {}
    for name, value in next, given do
        if not FIELDS[name] then
            refuse(("%s: %s is no field of a deployment"):format(where, check.show(name)),
                check.hint(name, check.sorted_keys(FIELDS)))
        elseif not is_good(name, value) then
            refuse(("%s: %s can not be %s"):format(where, name, check.show(value)))
        end
        rule[name] = value
    end
    return rule
end

--- Reads "[ENDPOINT:]WORD[,WORD...]".
-- @tparam string given
-- @treturn table the rule
function deploy.parse(given)
    local where = "deploy " .. check.show(given)
    local endpoint, words = given:match("^([%w_-]+):(.*)$")
    local rule = { endpoint = endpoint }
    for word in (words or given):gmatch("[^,]+") do
        local name, value = word:match("^(%a+)=(.+)$")
        if word == "fail" then
            name, value = "fail", MESSAGE
        elseif not name then
            refuse(("%s: %s is no word of a deployment"):format(where, check.show(word)), check.hint(word, WORDS))
        end
        if name ~= "fail" then
            value = math.tointeger(tonumber(value)) or tonumber(value) or value
        end
        rule[name] = value
    end
    return deploy.check(rule, where)
end

--- All rules, those of the command line before those of a file.
-- @tparam table|nil words of the command line
-- @tparam table|nil given by the file: a list of tables
-- @treturn table
function deploy.rules(words, given)
    local rules = {}
    for _, word in ipairs(words or {}) do
        rules[#rules + 1] = deploy.parse(word)
    end
    if given ~= nil and type(given) ~= "table" then
        refuse("deploy must be a list of tables, not " .. check.show(given))
    end
    for i, one in ipairs(given or {}) do
        rules[#rules + 1] = deploy.check(one, ("deploy[%d]"):format(i))
    end
    return rules
end

--- What becomes of one deployment: the first rule that fits.
-- @tparam table rules
-- @tparam string name the endpoint's
-- @tparam integer version of its configuration
-- @treturn table seconds, reads (either may be missing: it is over with the first that is reached), fail
function deploy.plan(rules, name, version)
    for _, rule in ipairs(rules) do
        if (not rule.endpoint or rule.endpoint == name) and (not rule.version or rule.version == version) then
            local seconds = rule.seconds or not rule.reads and USUAL.seconds or nil
            return { seconds = seconds, reads = rule.reads, fail = rule.fail }
        end
    end
    return USUAL
end

return deploy
