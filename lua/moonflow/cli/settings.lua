--- The table that the words behind -C make: KEY=text, KEY:=JSON, A.B.C=text, @FILE.json.
local check = require "moonflow.check"
local error = require "moonflow.error"
local json = require "moonflow.json"
local sys = require "moonflow.sys"

local settings = {}

local FILE_MAX = 16 * 1024 * 1024 -- bytes
local DEPTH_MAX = 64

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

local function is_object(value)
    return type(value) == "table" and not json.is_array(value)
end

--- The parts of a key: between dots, but for those behind a backslash.
local function split(key, word)
    local parts = {}
    for part in (key:gsub("\\%.", "\0") .. "."):gmatch("([^.]*)%.") do
        if part == "" or #parts == DEPTH_MAX then
            misuse(("-C %s has a key with an empty part, or too many of them"):format(check.show(word)),
                "-C a.b=text; a dot that belongs to a name is \\.")
        end
        parts[#parts + 1] = (part:gsub("%z", "."))
    end
    return parts
end

local function decode(source, what)
    local value, err = json.decode(source)
    if err then
        misuse(("%s is no JSON\n%s"):format(what, err.message))
    end
    return value
end

--- Adds what `from` has to `into`, objects into objects.
local function merge(into, from)
    for key, value in next, from do
        if is_object(value) and is_object(into[key]) then
            merge(into[key], value)
        else
            into[key] = value
        end
    end
end

local function add_file(into, path)
    local source, err = sys.read_file(path, FILE_MAX)
    if not source then
        misuse(("-C @%s can not be read\n%s"):format(path, err.message))
    end
    local value = decode(source, "-C @" .. path)
    if not is_object(value) then
        misuse(("-C @%s holds no JSON object"):format(path))
    end
    merge(into, value)
end

--- Puts a value at a path, making objects on the way.
local function put(into, parts, value, word)
    for i = 1, #parts - 1 do
        local below = into[parts[i]]
        if below == nil then
            below = {}
            into[parts[i]] = below
        elseif not is_object(below) then
            misuse(("-C %s goes into %s, which is no object"):format(check.show(word), check.show(parts[i])))
        end
        into = below
    end
    into[parts[#parts]] = value
end

local function add_word(into, word, seen)
    local key, value = word:match("^([^=]*)=(.*)$")
    if not key then
        misuse(("-C %s: config options must be pairs, -C key=value"):format(check.show(word)),
            "-C key=text, -C key:=JSON, -C a.b=text, -C @file.json")
    end
    local is_json = key:sub(-1) == ":"
    key = is_json and key:sub(1, -2) or key
    if seen[key] then
        misuse(("-C repeats the key %s"):format(check.show(key)))
    end
    seen[key] = true
    if is_json then
        value = decode(value, "the value of -C " .. check.show(key))
    end
    put(into, split(key, word), value, word)
end

--- The settings that the words say, in their order: files are a base that later words add to.
---@param words? string[]
---@return table? config nil where there are no words
function settings.parse(words)
    if not words then
        return nil
    end
    local config, seen = {}, {}
    for _, word in ipairs(words) do
        if word:sub(1, 1) == "@" then
            add_file(config, word:sub(2))
        else
            add_word(config, word, seen)
        end
    end
    return config
end

return settings
