--- An endpoint's life by commands alone, at the workspace that `moonflow serve` is.
local json = require "moonflow.json"
local process = require "support.process"
local serve_clients = require "support.serve_clients"

local BODY = [[{"config": {"served_entities": [{"name": "m", "entity_name": "models.demo.m", "entity_version": "%d",
    "workload_size": "Small", "scale_to_zero_enabled": true}]}%s}]]

local file = os.tmpname()

local function write(version, more)
    local out <close> = assert(io.open(file, "wb"))
    out:write(BODY:format(version, more or ""))
end

teardown(function()
    os.remove(file)
end)

describe("the life of an endpoint", function()
    it("goes from create to delete", function()
        local server <close> = serve_clients.start "tests/gateway/serve_handlers.lua"
        local function run(words, code, stdin)
            local args = { "-t", "databricks", table.unpack(words) }
            local result = process.run {
                args = args, stdin = stdin,
                env = { DATABRICKS_HOST = server.url, DATABRICKS_TOKEN = "dapi-of-the-spec", HOME = "/nowhere" },
            }
            assert.equal(code or 0, result.code, table.concat(words, " ") .. "\n" .. result.stderr)
            return result.stdout, result.stderr
        end

        write(1)
        local created, said = run { "endpoints", "create", "mine", "-C", "@" .. file }
        assert.equal("mine", assert(json.decode(created)).name)
        assert.equal('created endpoint "mine"\nnext: moonflow endpoints wait mine\n', said)
        run({ "endpoints", "create", "mine", "-C", "@" .. file }, 5)

        local waited, progress = run { "endpoints", "wait", "mine", "--timeout", "20s", "-o", "name" }
        assert.equal("mine\n", waited)
        assert.equal("", progress) -- for people only
        assert.matches("\nmine +models%.demo%.m:1 +READY\n", (run { "endpoints", "list", "-o", "table" }))
        assert.equal('{"predictions":[1.0]}\n', (run({ "predict", "-e", "mine", "-I", "-" }, 0, '{"inputs":[1]}')))
        run({ "predict", "-e", "mine", "a text" }, 2)

        write(2)
        local _, warned = run { "endpoints", "update", "mine", "-C", "@" .. file }
        assert.equal('updated endpoint "mine"\n', warned)
        run { "endpoints", "wait", "mine", "--timeout", "20s" }
        assert.equal("2\n", (run { "endpoints", "get", "mine", "-q", "r.config.served_entities[1].entity_version" }))
        write(3, ', "tags": []')
        run({ "endpoints", "update", "mine", "-C", "@" .. file }, 2)

        run({ "endpoints", "delete", "mine" }, 2)
        run { "endpoints", "delete", "mine", "--yes" }
        local _, missing = run({ "endpoints", "get", "mine" }, 3)
        assert.matches("\n  try: moonflow endpoints list\n$", missing)
    end)
end)
