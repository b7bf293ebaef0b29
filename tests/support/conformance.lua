--- Runs the cases of tests/conformance with moonflow, in the form of the records that the programs
-- there make of the Python clients.
local env = require "moonflow.env"
local json = require "moonflow.json"
local raw = require "support.raw"
local skip = require "support.skip"

local conformance = {}

local SERVER, PLACEHOLDER = "http://SERVER", "SERVER_URL"

--- What a JSON file holds.
---@param name string
function conformance.read(name)
    local file <close> = assert(io.open(name, "rb"))
    return assert(json.decode(file:read("a")))
end

--- The record of a case out of the file that an environment variable names; skips the test without it.
---@param variable string
---@param name string the case's
---@return table record
function conformance.record(variable, name)
    for _, record in ipairs(conformance.read(skip.unless_env(variable))) do
        if record.name == name then
            return record
        end
    end
    error("no record of this case: make the records anew")
end

local function replace(text, old, new)
    return (text:gsub(old:gsub("%p", "%%%0"), (new:gsub("%%", "%%%%"))))
end

--- The same value with another text in place of `old`, wherever it is.
local function replaced(value, old, new)
    return assert(json.decode(replace(assert(json.encode(value)), old, new)))
end

local ARRAY = getmetatable(json.array {})

--- A value as JSON with the names of objects in order: equal values, equal texts. Beside what
-- `assert.same` tells apart, it does so with [] and {}, and with 1 and 1.0.
---@param value any
---@return string
function conformance.canonical(value)
    if type(value) ~= "table" or value == json.null then
        return assert(json.encode(value))
    end
    local parts = {}
    if getmetatable(value) == ARRAY or #value > 0 then
        for i, item in ipairs(value) do
            parts[i] = conformance.canonical(item)
        end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for name, item in pairs(value) do
        parts[#parts + 1] = json.encode(name) .. ":" .. conformance.canonical(item)
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

--- Runs `body` with these variables, and none of the user's own that change a request.
local function with_environment(variables, body)
    local saved = {}
    for name, value in pairs(env) do
        if name:find("^MLFLOW_") or name:find("^OPENAI_") or name:find("^AZURE_") or variables[name] then
            saved[name] = value
            env[name] = nil
        end
    end
    for name, value in pairs(variables) do
        env[name] = value
    end
    local ok, err = pcall(body)
    for name in pairs(variables) do
        env[name] = nil
    end
    for name, value in pairs(saved) do
        env[name] = value
    end
    if not ok then
        error(err, 0)
    end
end

local function shown_request(request, headers)
    local path, query = request.target:match("^([^?]*)%??(.*)$")
    local shown = { method = request.method, path = path, query = query, headers = {} }
    for _, name in ipairs(headers) do
        shown.headers[name] = request.header(name)
    end
    if request.body ~= "" then
        shown.body = assert(json.decode(request.body))
    else
        shown.headers["content-length"] = request.header("content-length")
    end
    return shown
end

--- What moonflow does where the server answers with `replies`, in the form of the record: requests,
-- and beside what `call` puts there the http_status of an error, or `error`, its kind.
---@param replies table as raw.reply takes them
---@param headers string[] those to record
---@param variables table the environment; SERVER_URL in it stands for the server's URL
---@param call fun(server_url: string, outcome: table) sets outcome.result, or raises an error object
---@return table outcome
function conformance.run(replies, headers, variables, call)
    local steps = {}
    for i, reply in ipairs(replies) do
        steps[i] = raw.reply(reply)
    end
    local server <close> = raw.listen(steps)
    local outcome, requests = {}, json.array {}
    with_environment(replaced(variables, PLACEHOLDER, server.url), function()
        local ok, err = pcall(call, server.url, outcome)
        if not ok then
            assert(type(err) == "table", err)
            outcome.http_status = err.http_status
            outcome.error = not err.http_status and err.kind or nil
        end
    end)
    for i, request in ipairs(server:requests()) do
        requests[i] = shown_request(request, headers)
    end
    outcome.requests = requests
    return replaced(outcome, server.url, SERVER)
end

--- Calls a method and puts what it gives into outcome.result: of a stream, the list of its chunks, also of one
-- that raises later.
---@param client table
---@param method string
---@param args table
---@param outcome table
function conformance.call(client, method, args, outcome)
    if method ~= "predict_stream" then
        outcome.result = client[method](client, args)
        return
    end
    local stream <close> = client:predict_stream(args)
    outcome.result = json.array {}
    for chunk in stream do
        outcome.result[#outcome.result + 1] = chunk
    end
end

return conformance
