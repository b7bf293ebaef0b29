--- Tokens that outlive the program: a file for each in ~/.cache/moonflow, which a later run takes
-- instead of asking for another one. Programs that run at once ask one after the other, so that one of
-- them asks.
--
-- Whose a token is stands in its file, of the secret that it was given for only a slow hash. A file
-- that is not this user's alone, or is not whole, counts as none. Nothing here fails: where there can
-- be no file, the token is asked for as if this module were not there.
local auth = require "moonflow.auth"
local config = require "moonflow.config"
local env = require "moonflow.env"
local json = require "moonflow.json"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local tokens = require "moonflow.tokens"

local token_cache = {}

local FIRST_LINE = "moonflow token 1"
local FILE_MAX = 256 * 1024 -- bytes
local LOCK_WAIT = 20        -- seconds that another program may take to fetch the same token
local LOCK_PAUSE = 0.02     -- seconds
local OTHERS_MAY_WRITE = 0x12

--- The hashes' module, or nil where it was not built.
local function hashes()
    local ok, module = pcall(require, "moonflow._crypt")
    return ok and module or nil
end

local function is_own(status)
    return status and status.type == "directory" and status.uid == sys.euid() and status.mode & OTHERS_MAY_WRITE == 0
end

--- Makes a directory inside one of this user's own, and no more than that: what is another user's, or
--- a home that does not exist, is left as it is.
local function is_usable(path)
    local status = sys.stat(path)
    if not status and is_own(sys.stat(path:match("^(.*)/[^/]*$"))) then
        sys.make_private_dir(path)
        status = sys.stat(path)
    end
    return is_own(status)
end

--- The directory of the files, or nil where there can be none.
local function find_directory()
    local base = env.XDG_CACHE_HOME
    if not base or not base:find("^/") then
        base = env.HOME and env.HOME:find("^/") and env.HOME .. "/.cache"
    end
    if not base then
        return nil
    end
    base = base:gsub("/+$", "")
    -- what is above may be another's, such as root's: it is asked only where something has to be made
    local path = base .. "/moonflow"
    if not sys.stat(path) then
        is_usable(base)
    end
    return is_usable(path) and path or nil
end

--- A name of 16 digits for a text: FNV-1a. Two texts with the same name only take turns in one file.
local function name_of(text)
    local hash = 0xcbf29ce484222325
    for i = 1, #text do
        hash = (hash ~ text:byte(i)) * 0x100000001b3
    end
    return ("token-%016x"):format(hash)
end

--- What is in a file, or nil where it is not whole or not this user's alone.
local function read(path)
    local text = sys.read_private(path, FILE_MAX)
    local first, whose, hash, times, token = (text or ""):match("^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([!-~]+)\n$")
    local expires_at, lifetime = (times or ""):match("^(%d+) (%d+)$") -- in milliseconds
    if first ~= FIRST_LINE or not expires_at then
        return nil
    end
    return {
        whose = whose, hash = hash, times = times, secret = auth.secret(token),
        expires_at = tonumber(expires_at) / 1000, lifetime = tonumber(lifetime) / 1000,
    }
end

--- Seconds that a kept token is good for: none where that is more than it had, as a clock was set back.
local function seconds_left(kept)
    local left = kept.expires_at - sys.time()
    return left <= kept.lifetime and left or 0
end

--- The place of one token.
---@class moonflow.TokenFile
---@field path string
---@field whose string
---@field secret string|userdata
---@field crypt table

--- What removes a token's file, unless there is another one in it by now.
local function dropper(place, times)
    return function()
        local now = read(place.path)
        if now and now.whose == place.whose and now.times == times then
            os.remove(place.path)
        end
    end
end

--- The token that a file has for us, as `moonflow.tokens` takes it, or nil.
---@param place moonflow.TokenFile
local function take(place)
    local kept = read(place.path)
    local left = kept and kept.whose == place.whose and seconds_left(kept) or 0
    if left <= 0 or not place.crypt.matches(place.secret, kept.hash) then
        return nil
    end
    return {
        secret = kept.secret, expires_in = left, lifetime = kept.lifetime, drop = dropper(place, kept.times),
    }
end

local function is_fresh(token)
    return token.expires_in > tokens.margin(token.lifetime)
end

--- Puts a token into its file, if it can be put there.
local function put(place, token, started)
    local hash = place.crypt.hash(place.secret)
    local times = ("%d %d"):format((started + token.expires_in) * 1000 // 1, token.expires_in * 1000 // 1)
    local head = table.concat({ FIRST_LINE, place.whose, hash or "", times, "" }, "\n")
    if hash and sys.write_private(place.path, head, token.secret, "\n") then
        token.drop = dropper(place, times)
    end
    return token
end

--- Waits for the lock of a token's file.
---@async
---@return userdata? lock to be closed; nil where there is none to be had
local function lock(path)
    local deadline = sys.monotonic() + LOCK_WAIT
    repeat
        local held, err = sys.lock(path .. ".lock")
        if held or err.error_code ~= "RESOURCE_CONFLICT" then
            return held
        end
        task.sleep(LOCK_PAUSE)
    until sys.monotonic() >= deadline
    return nil
end

local function find_place(whose, secret)
    local crypt = config.get("MOONFLOW_TOKEN_CACHE") and hashes()
    local text = crypt and json.encode(json.array(whose))
    local directory = text and find_directory()
    return directory and { path = directory .. "/" .. name_of(text), whose = text, secret = secret, crypt = crypt }
end

--- The token in its file, or what `fetch` gives, which is put there. Where a token that is about to end
--- can not be renewed, it is what there is.
---@async
---@param whose string[] all that decides whose the token is and what it is for, but no secret
---@param secret string|userdata what it is given for: another one gets another token
---@param fetch fun(): table?, table? a token {secret =, expires_in =}, or nil and an error
---@return table? token, as `moonflow.tokens` takes it
---@return table? err
function token_cache.get(whose, secret, fetch)
    local place = find_place(whose, secret)
    local kept = place and take(place)
    if not place then
        return fetch()
    elseif kept and is_fresh(kept) then
        return kept
    end
    local held <close> = lock(place.path)
    kept = held and take(place) or kept -- another program may have fetched it meanwhile
    if kept and is_fresh(kept) then
        return kept
    end
    local started = sys.time()
    local token, err = fetch()
    if token then
        return put(place, token, started)
    end
    return kept, err
end

return token_cache
