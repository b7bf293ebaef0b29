--- The login of the Databricks CLI: a token that lives out of its cache file, which is only read, else
-- what the program gives. It alone renews tokens, as a renewal makes the old one worthless.
local _process = require "moonflow._process"
local azure = require "moonflow.azure"
local env = require "moonflow.env"
local grants = require "moonflow.grants"
local hosts = require "moonflow.databricks.hosts"
local json = require "moonflow.json"
local sys = require "moonflow.sys"

local cli = {}

local CACHE_FILE = "/.databricks/token-cache.json"
local CACHE_MAX = 4 * 1024 * 1024 -- bytes
local MARGIN = 300                -- seconds before its end that the CLI renews a token
local TIMEOUT = 30                -- seconds
local LEGACY_BELOW = 1024 * 1024  -- bytes: a smaller program is the old CLI, which gives no tokens
local DAY = 86400

local failure = grants.failure

--- Which logins a workspace refused, by what the CLI keeps them by: it has to renew them.
local refused = {}

--- Days since 1970 of a date, by the rule that years begin in March.
local function days_of(year, month, day)
    if month <= 2 then
        year, month = year - 1, month + 12
    end
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
end

--- Seconds since 1970 of a time such as 2023-12-05T15:59:01.40081+11:00; without a zone it is UTC.
---@param value any
---@return number?
function cli.to_time(value)
    if type(value) ~= "string" or #value > 64 then
        return nil
    end
    local year, month, day, hour, min, sec, rest = value:match(
        "^(%d%d%d%d)%-(%d%d)%-(%d%d)[T ](%d%d):(%d%d):(%d%d)%.?%d*(.*)$")
    if not year then
        return nil
    end
    local sign, zone_hours, zone_minutes = rest:match("^([+-])(%d%d):?(%d%d)$")
    if not sign and rest ~= "" and rest ~= "Z" then
        return nil
    end
    local offset = sign and (tonumber(zone_hours) * 3600 + tonumber(zone_minutes) * 60) * (sign == "-" and -1 or 1) or 0
    return days_of(tonumber(year), tonumber(month), tonumber(day)) * DAY + tonumber(hour) * 3600 + tonumber(min) * 60
        + tonumber(sec) - offset
end

local function take(who, value)
    if type(value) ~= "table" then
        return nil, failure("auth", "%s gave something else than a token in JSON", who)
    end
    local at = cli.to_time(value.expiry)
    return grants.to_token(who, value.access_token, at and at - sys.time() or grants.to_number(value.expires_in))
end

--- The key that the CLI keeps a workspace's token by, besides the profile's name.
local function host_key(found)
    if hosts.is_account(found) and found.values.account_id then
        return found.base .. "/oidc/accounts/" .. found.values.account_id
    end
    return found.base
end

--- What the cache file has, or nil and the reason why it has nothing.
local function read_cache(found)
    local path = (env.HOME or "") .. CACHE_FILE
    if not sys.stat(path) then
        return nil, "there is no " .. path
    end
    local content, err = sys.read_file(path, CACHE_MAX)
    if not content then
        return nil, err.message
    end
    local document = json.decode(content)
    if type(document) ~= "table" or type(document.tokens) ~= "table" then
        return nil, path .. " is no token cache"
    elseif document.version ~= 1 then
        return nil, ("%s needs version 1, got version %s"):format(path, grants.one_line(tostring(document.version)))
    end
    local entry = found.profile and document.tokens[found.profile] or document.tokens[host_key(found)]
    if type(entry) ~= "table" then
        return nil, path .. " has no token for it"
    end
    local token
    token, err = take(path, entry)
    if token then
        token.source = path
    end
    return token, err and err.message
end

--- The program's path, or nil and why there is none.
local function find_program(found)
    local name = found.values.databricks_cli_path or "databricks"
    local places = name:find("/", 1, true) and { name } or {}
    if not places[1] then
        for directory in (env.PATH or ""):gmatch("[^:]+") do
            places[#places + 1] = directory .. "/" .. name
        end
    end
    local legacy
    for _, path in ipairs(places) do
        local status = sys.stat(path)
        if status and status.type == "file" and status.mode & 0x49 ~= 0 then
            if status.size >= LEGACY_BELOW then
                return path
            end
            legacy = path
        end
    end
    if legacy then
        return nil, ("%s is a Databricks CLI below 0.100.0, which gives no tokens"):format(legacy)
    end
    return nil, "the Databricks CLI is not installed"
end

local function run(program, arguments)
    local command = table.move(arguments, 1, #arguments, 4, { program, "auth", "token" })
    local result, err = _process.run(command, { timeout = TIMEOUT, env = azure.environment() })
    if not result then
        return nil, err
    elseif result.code ~= 0 then
        local words = result.stderr:match("%S[^\n]*") or "it printed no reason"
        err = failure("auth", "cannot get access token: %s", grants.one_line(words))
        err.stderr = result.stderr:sub(1, 4096)
        return nil, err
    end
    local token
    token, err = take("databricks auth token", json.decode(result.stdout))
    if token then
        token.source = "databricks auth token"
    end
    return token, err
end

--- Runs it, with a flag more where it has to renew the token; what is older than 0.296.0 does not know it.
local function run_with(program, arguments, is_refused)
    if is_refused then
        local more = table.move(arguments, 1, #arguments, 1, {})
        more[#more + 1] = "--force-refresh"
        local token, err = run(program, more)
        local is_old = err and err.stderr and err.stderr:find("unknown flag: --force-refresh", 1, true)
        if not is_old then
            return token, err
        end
    end
    return run(program, arguments)
end

local function run_program(program, found, is_refused)
    local by_host = { "--host", found.base }
    if hosts.is_account(found) and found.values.account_id then
        table.move({ "--account-id", found.values.account_id }, 1, 2, 3, by_host)
    end
    if not found.profile then
        return run_with(program, by_host, is_refused)
    end
    local token, err = run_with(program, { "--profile", found.profile }, is_refused)
    if err and err.stderr and err.stderr:find("unknown flag", 1, true) then -- before 0.207.1
        return run_with(program, by_host, is_refused)
    end
    return token, err
end

local function get(found, is_refused)
    local kept, reason = read_cache(found)
    if is_refused then
        kept = nil
    elseif kept and kept.expires_in > MARGIN then
        return kept
    end
    local program, missing = find_program(found)
    if not program then
        if kept then
            return kept
        end
        return nil, failure("auth", "%s; %s", missing, reason)
    end
    local token, err = run_program(program, found, is_refused)
    if token or not kept then
        return token, err
    end
    return kept
end

--- A token of the CLI's login. One that follows a token which the workspace refused is a renewed one.
---@async
---@param found moonflow.DatabricksConfig
---@return table? token
---@return table? err
function cli.token(found)
    local name = found.profile or host_key(found)
    local token, err = get(found, refused[name])
    if token then
        refused[name] = nil
        function token.drop()
            refused[name] = true
        end
    end
    return token, err
end

return cli
