--- MLflow's own gateway beside moonflow's, for the same requests (tests/gateway/reference.py).
local json = require "moonflow.json"
local process = require "support.process"
local skip = require "support.skip"

local reference = {}

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local PYTHON = root .. "/.venv/bin/python"

--- The endpoints of both: each answers with the inputs that it was given, as JSON.
reference.ENDPOINTS = {
    { name = "chat", endpoint_type = "llm/v1/chat" },
    { name = "completions", endpoint_type = "llm/v1/completions" },
    { name = "embeddings", endpoint_type = "llm/v1/embeddings" },
    { name = "limited", endpoint_type = "llm/v1/chat", limit = { calls = 2, renewal_period = "minute" } },
}

--- JSON's texts are UTF-8, where a body is bytes: one character for each.
local function to_text(bytes)
    return (bytes:gsub("[\x80-\xff]", function(byte)
        return utf8.char(byte:byte())
    end))
end

local function to_bytes(text)
    return (text:gsub("[\xc2\xc3][\x80-\xbf]", function(char)
        return string.char(utf8.codepoint(char))
    end))
end

local function exists(path)
    local file = io.open(path, "rb")
    return file ~= nil and file:close()
end

--- The endpoints with a handler for moonflow's gateway.
---@param heard fun(inputs: table)
---@return table[]
function reference.endpoints(heard)
    local endpoints = {}
    for i, given in ipairs(reference.ENDPOINTS) do
        endpoints[i] = {
            name = given.name, endpoint_type = given.endpoint_type, limit = given.limit,
            model = { name = "m", provider = "echo" },
            handler = function(inputs)
                heard(inputs)
                return given.name == "embeddings" and { data = { { embedding = { 0.5 }, index = 0 } } } or "heard"
            end,
        }
    end
    return endpoints
end

--- What MLflow's gateway answers; skips the test where it is not installed.
---@param requests table[] method, path (with the query), headers, body
---@return table[] answers status, headers, body
function reference.ask(requests)
    skip.unless(exists(PYTHON), "MLflow is not installed: run scripts/setup.sh")
    local endpoints, asked = json.array {}, json.array {}
    for i, given in ipairs(reference.ENDPOINTS) do
        endpoints[i] = {
            name = given.name, endpoint_type = given.endpoint_type, limit = given.limit,
            model = { provider = "echo", name = "m", config = {} },
        }
    end
    for i, given in ipairs(requests) do
        asked[i] = {
            method = given.method, path = given.path, headers = given.headers, body = to_text(given.body or ""),
        }
    end
    local result = process.run {
        PYTHON, "-B", root .. "/tests/gateway/reference.py",
        stdin = assert(json.encode { endpoints = endpoints, requests = asked }), timeout = 300,
    }
    assert(result.code == 0, result.stderr)
    local answers = assert(json.decode(result.stdout))
    for _, answer in ipairs(answers) do
        answer.body = to_bytes(answer.body)
    end
    return answers
end

--- What moonflow's gateway answers to the same request.
---@param gateway table
---@param given table
---@return table answer status, headers (by lower-case names), body
function reference.play(gateway, given)
    local path, query = given.path:match("^([^?]*)%??(.*)$")
    local status, headers, body = gateway:handle {
        method = given.method, path = path, query = given.path:find("?", 1, true) and query or nil,
        headers = given.headers or {}, body = given.body or "", peer = "127.0.0.1",
    }
    local lower = {}
    for name, value in pairs(headers or {}) do
        lower[name:lower()] = value
    end
    return { status = status, headers = lower, body = body or "" }
end

--- Adds a line for each difference of two decoded values.
---@param theirs any
---@param ours any
---@param place string
---@param lines string[]
---@param may_lack? fun(key: any, value: any): boolean what ours may be without
---@param may_add? boolean whether ours may have more
function reference.differ(theirs, ours, place, lines, may_lack, may_add)
    if type(theirs) ~= "table" or type(ours) ~= "table" then
        if theirs ~= ours and tostring(theirs) ~= tostring(ours) then
            lines[#lines + 1] = ("%s: MLflow %s, moonflow %s"):format(place, json.encode(theirs), json.encode(ours))
        end
        return
    end
    for key, value in pairs(theirs) do
        if ours[key] ~= nil then
            reference.differ(value, ours[key], place .. "." .. key, lines, may_lack, may_add)
        elseif not (may_lack and may_lack(key, value)) then
            lines[#lines + 1] = ("%s.%s: MLflow %s, moonflow has none"):format(place, key, json.encode(value))
        end
    end
    for key, value in pairs(ours) do
        if theirs[key] == nil and not may_add then
            lines[#lines + 1] = ("%s.%s: moonflow %s, MLflow has none"):format(place, key, json.encode(value))
        end
    end
end

return reference
