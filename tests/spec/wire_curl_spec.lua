local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"
local wired = require "support.wired"

local CHAT = { messages = { { role = "user", content = "Hi" } } }
local every_byte = {}
for byte = 0, 255 do
    every_byte[#every_byte + 1] = string.char(byte)
end
every_byte = table.concat(every_byte)

local TRICKY = "It's \"$HOME\" `id` \\ ! $(id) %s \xE2\x82\xAC\n\ttab"

local cases = {
    { name = "a predict with a token", env = { MLFLOW_TRACKING_TOKEN = "tok-1234567890" }, given = { inputs = CHAT } },
    {
        name = "basic authentication",
        env = { MLFLOW_TRACKING_USERNAME = "ann", MLFLOW_TRACKING_PASSWORD = "p\"$w'1234" },
        given = { inputs = CHAT },
    },
    { name = "nothing to show who asks", env = {}, given = { inputs = CHAT } },
    {
        name = "a key of OpenAI's", target = "openai:", env = { OPENAI_API_KEY = "sk-1234567890" },
        given = { inputs = CHAT },
    },
    { name = "a body with all that a shell reads", env = {}, given = { inputs = { prompt = TRICKY } } },
    { name = "a long body", env = {}, given = { inputs = { prompt = TRICKY:rep(500) } } },
    {
        name = "headers with all that a shell reads", env = {},
        given = { inputs = CHAT, options = { headers = { ["X-One"] = "a'b\"c$d`e\\f!", ["X-Empty"] = "" } } },
    },
    {
        name = "times", env = {},
        given = { inputs = CHAT, options = { total_timeout = 20, timeout = 9, connect_timeout = 4 } },
    },
    {
        name = "a body that begins with @", env = {},
        given = { plain = { method = "PUT", url = "/x", body = "@/etc/passwd" } },
    },
    { name = "an empty POST", env = {}, given = { plain = { method = "POST", url = "/x" } } },
    { name = "a plain GET", env = {}, given = { plain = { url = "/a/../b?x={1}&y=[2]&z='" } } },
    { name = "HEAD", env = {}, given = { plain = { method = "HEAD", url = "/x" } } },
    { name = "DELETE", env = {}, given = { plain = { method = "DELETE", url = "/x" } } },
    {
        name = "a secret in another header", env = { MY_SECRET = "s3cret-value-1" },
        given = { plain = { url = "/x", headers = { A = "b" } }, secret_header = "x-api-key" },
    },
    {
        name = "a proxy that this machine needs none of", env = { http_proxy = "http://127.0.0.1:9" },
        given = { inputs = CHAT },
    },
}

--- A request as text, without the host and the order of headers.
local function shown(request)
    local lines = {}
    for _, pair in ipairs(request.headers) do
        lines[#lines + 1] = pair[1]:lower() .. ": " .. pair[2]
    end
    table.sort(lines)
    return ("%s %s\n%s\n\n%s"):format(request.method, request.target, table.concat(lines, "\n"), request.body)
end

describe("a request as a command for curl", function()
    --- Without the order of names in JSON, which is another one each time.
    local function normal(body)
        local json = require "moonflow.json"
        local value = json.decode(body)
        return value and json.encode(value, { sort = true }) or body
    end

    for _, case in ipairs(cases) do
        it("is the same request: " .. case.name, function()
            skip.unless_env("MOONFLOW_BIN")
            local server <close> = raw.listen { raw.reply { json = { choices = { { finish_reason = "stop" } } } } }
            local target = (case.target or "") .. server.url .. (case.target and "/v1" or "")
            local sent = wired.run(0, target, case.given, case.env)
            assert.equal(0, sent.code, sent.stderr)
            local printed = wired.run("curl", target, case.given, case.env)
            assert.equal(0, printed.code, printed.stderr)
            assert.equal(1, #server:requests())
            for name, value in pairs(case.env) do
                if name ~= "http_proxy" and name ~= "MLFLOW_TRACKING_USERNAME" then
                    assert.is_nil(printed.stdout:find(value, 1, true), printed.stdout)
                    assert.is_truthy(printed.stdout:find("$" .. name, 1, true), printed.stdout)
                end
            end
            assert.is_nil(printed.stdout:find("[%z\1-\8\11-\31\127]"))
            local result = process.run { "sh", stdin = printed.stdout, env = case.env }
            assert.equal(0, result.code, result.stderr)
            local requests = server:requests()
            assert.equal(2, #requests)
            for _, request in ipairs(requests) do
                request.body = normal(request.body)
            end
            assert.equal(shown(requests[1]), shown(requests[2]))
        end)
    end

    it("is the same for a body of every byte", function()
        local curl = require "moonflow.wire.curl"
        local server <close> = raw.listen { raw.reply {} }
        local command = curl.command {
            method = "POST", url = server.url .. "/x", headers = { ["Content-Type"] = "a/b" }, body = every_byte,
            settings = {},
        }
        assert.is_nil(command:find("[%z\1-\8\11-\31\127-\255]"))
        assert.equal(0, process.run({ "sh", "-c", command }).code)
        assert.equal(every_byte, server:requests()[1].body)
    end)

    it("names what the shell does not have", function()
        skip.unless_env("MOONFLOW_BIN")
        local given = { inputs = CHAT, options = { token = "tok-1234567890" } }
        local result = wired.run("curl", "http://127.0.0.1:1", given)
        assert.equal(0, result.code)
        assert.is_truthy(result.stdout:find('"Authorization: Bearer $MLFLOW_TRACKING_TOKEN"', 1, true))
        assert.is_truthy(result.stderr:find("MLFLOW_TRACKING_TOKEN stands for the credential from the option token"))
        result = wired.run("curl", "http://127.0.0.1:1", given, { MLFLOW_TRACKING_TOKEN = "another" })
        assert.is_truthy(result.stdout:find("$MOONFLOW_MLFLOW_TRACKING_TOKEN", 1, true))
    end)

    it("needs no token that would have to be fetched", function()
        skip.unless_env("MOONFLOW_BIN")
        local server <close> = raw.listen { raw.reply {} }
        local result = wired.run("curl", "databricks", { inputs = CHAT }, {
            DATABRICKS_HOST = server.url, DATABRICKS_CLIENT_ID = "id", DATABRICKS_CLIENT_SECRET = "secret-12345",
        })
        assert.equal(0, result.code, result.stderr)
        assert.is_truthy(result.stdout:find('"Authorization: Bearer $DATABRICKS_TOKEN"', 1, true), result.stdout)
        assert.is_truthy(result.stderr:find("oauth%-m2m"))
        assert.same({}, server:requests())
    end)
end)
