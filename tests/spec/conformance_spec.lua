--- moonflow sends what MLflow's Python client sends, and returns what that returns: every case of
-- tests/conformance/cases.json against the record that python_client.py made of it.
local env = require "moonflow.env"
local json = require "moonflow.json"
local raw = require "support.raw"
local skip = require "support.skip"

local SERVER = "http://SERVER"

local function read(name)
    local file <close> = assert(io.open(name, "rb"))
    return assert(json.decode(file:read("a")))
end

local function by_name(list)
    local map = {}
    for _, one in ipairs(list) do
        map[one.name] = one
    end
    return map
end

--- Runs `body` with these variables, and none of the user's own that change a request.
local function with_environment(variables, body)
    local saved = {}
    local own = {
        HOME = "/nonexistent",
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0",
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = "0",
    }
    for name, value in pairs(variables or {}) do
        own[name] = value
    end
    for name, value in pairs(env) do
        if name:find("^MLFLOW_") or own[name] then
            saved[name] = value
            env[name] = nil
        end
    end
    for name, value in pairs(own) do
        env[name] = value
    end
    local ok, err = pcall(body)
    for name in pairs(own) do
        env[name] = nil
    end
    for name, value in pairs(saved) do
        env[name] = value
    end
    if not ok then
        error(err, 0)
    end
end

local function shown_request(request)
    local path, query = request.target:match("^([^?]*)%??(.*)$")
    local shown = { method = request.method, path = path, query = query, headers = {} }
    for _, name in ipairs { "authorization", "content-type" } do
        shown.headers[name] = request.header(name)
    end
    if request.body ~= "" then
        shown.body = assert(json.decode(request.body))
    else
        shown.headers["content-length"] = request.header("content-length")
    end
    return shown
end

--- The same value with the address of the server replaced, as in the record.
local function without_address(value, url)
    local text = assert(json.encode(value))
    local start, finish = text:find(url, 1, true)
    while start do
        text = text:sub(1, start - 1) .. SERVER .. text:sub(finish + 1)
        start, finish = text:find(url, start, true)
    end
    return assert(json.decode(text))
end

local function replies(case)
    local list = {}
    for i, reply in ipairs(case.replies) do
        list[i] = raw.reply(reply)
    end
    return list
end

--- What the case does with our client, in the form of the record.
local function run(case)
    local server <close> = raw.listen(replies(case))
    local client = require("moonflow.deployments").get_deploy_client(server.url)
    local outcome = {}
    with_environment(case.env, function()
        local ok, result = pcall(client[case.method], client, case.args or {})
        if ok then
            outcome.result = without_address(result, server.url)
        else
            outcome.http_status = assert(result.http_status, result)
        end
    end)
    local requests = {}
    for i, request in ipairs(server:requests()) do
        requests[i] = shown_request(request)
    end
    outcome.requests = without_address(requests, server.url)
    return outcome
end

describe("the wire of MLflow's Python client:", function()
    for _, case in ipairs(read("tests/conformance/cases.json")) do
        it(case.name, function()
            local record = by_name(read(skip.unless_env("MOONFLOW_TEST_CONFORMANCE")))[case.name]
            local ours = run(case)
            assert.same(record.requests, ours.requests)
            assert.same(record.result, ours.result)
            assert.same(record.http_status, ours.http_status)
        end)
    end
end)
