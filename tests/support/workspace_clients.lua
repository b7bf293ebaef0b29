--- Other people's Databricks clients that ask `moonflow serve` (tests/conformance/serve_databricks.py).
local json = require "moonflow.json"
local process = require "support.process"
local serve_clients = require "support.serve_clients"
local skip = require "support.skip"

local clients = {}

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local PYTHON = root .. "/.venv/bin/python"

--- Starts the server. As `support.serve_clients` does.
function clients.start(env)
    return serve_clients.start(root .. "/tests/gateway/serve_databricks.lua", env)
end

--- What the clients saw: records by the names of the cases.
---@param url string
---@return table
function clients.drive(url)
    local python = io.open(PYTHON)
    skip.unless(python, ".venv has no Python: run scripts/test.sh")
    python:close()
    local found = process.run { PYTHON, "-B", "-c", "import databricks.sdk, mlflow, openai" }
    skip.unless(found.code == 0, ".venv has no databricks-sdk: run scripts/test.sh")
    local result = process.run { PYTHON, "-B", root .. "/tests/conformance/serve_databricks.py", url, timeout = 240 }
    assert(result.code == 0, result.stderr)
    local records = {}
    for line in result.stdout:gmatch("[^\n]+") do
        local record = assert(json.decode(line))
        records[record.case] = record
    end
    return records
end

return clients
