--- The same command lines in `mlflow deployments` and in moonflow, at MLflow's own gateway. The rows are
-- those of the README's comparison.
local json = require "moonflow.json"
local process = require "support.process"
local skip = require "support.skip"

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local PYTHON = root .. "/.venv/bin/python"
local INPUT = os.tmpname()

-- The words behind "deployments", with the target's put between; then what each program ends with.
local CASES = {
    { { "list-endpoints" }, mlflow = { 0 }, moonflow = { 0, '^%[{"endpoint_type":' } },
    { { "get-endpoint", "--endpoint", "chat" }, mlflow = { 1, "AttributeError" }, moonflow = { 0, '"name":"chat"' } },
    { { "predict", "--endpoint", "chat", "-I", INPUT },
        mlflow = { 1, "MlflowException" }, moonflow = { 0, '^{"choices":' } },
    { { "create-endpoint", "--endpoint", "x", "-C", "a=1" },
        mlflow = { 1, "TypeError" }, moonflow = { 5, "offers predict" } },
    { { "update-endpoint", "--endpoint", "x", "-C", "a=1" },
        mlflow = { 1, "NotImplementedError" }, moonflow = { 5, "offers predict" } },
    { { "delete-endpoint", "--endpoint", "x" }, mlflow = { 1, "NotImplementedError" }, moonflow = { 2, "%-%-yes" } },
    { { "list" }, mlflow = { 1, "NotImplementedError" }, moonflow = { 5, "offers predict" } },
    { { "get", "--name", "x" }, mlflow = { 1, "NotImplementedError" }, moonflow = { 5, "offers predict" } },
    { { "predict", "--endpoint", "chat", "-I", "/nowhere.json" },
        mlflow = { 1, "FileNotFoundError" }, moonflow = { 2, "No such file" } },
    { { "get-endpoint", "--endpoint", "nobody" }, mlflow = { 1, "HTTPError" }, moonflow = { 3, "not present" } },
    { { "get-endpoints" }, mlflow = { 2 }, moonflow = { 2, "get%-endpoint" }, no_target = true },
}

local function words_of(case, target)
    local words = table.move(case[1], 1, #case[1], 1, {})
    if not case.no_target then
        table.move({ "--target", target }, 1, 2, #words + 1, words)
    end
    return words
end

local function of_mlflow(target)
    local lists = {}
    for i, case in ipairs(CASES) do
        lists[i] = json.array(words_of(case, target))
    end
    local result = process.run { "env", "MLFLOW_DISABLE_TELEMETRY=true", "PYTHONWARNINGS=ignore",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES=0", PYTHON, "-B", root .. "/tests/conformance/mlflow_cli.py",
        stdin = assert(json.encode(json.array(lists))) }
    return assert(json.decode(result.stdout), result.stderr)
end

describe("the command line beside MLflow's", function()
    it("does what it does, and what fails there", function()
        local target = skip.unless_env "MOONFLOW_TEST_GATEWAY"
        local file <close> = assert(io.open(INPUT, "wb"))
        file:write('{"messages":[{"role":"user","content":"Hello"}]}')
        file:flush()
        for i, theirs in ipairs(of_mlflow(target)) do
            local case = CASES[i]
            local shown = table.concat(case[1], " ")
            assert.equal(case.mlflow[1], theirs.code, shown)
            assert.equal(case.mlflow[2] or "", theirs.error, shown)
            local ours = process.run { args = table.move(words_of(case, target), 1, 9, 2, { "deployments" }) }
            assert.equal(case.moonflow[1], ours.code, shown .. ours.stderr)
            assert.matches(case.moonflow[2], ours.stdout .. ours.stderr, 1, false, shown)
        end
        os.remove(INPUT)
    end)
end)
