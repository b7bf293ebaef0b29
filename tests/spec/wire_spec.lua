local probe = require "support.probe"
local raw = require "support.raw"
local skip = require "support.skip"
local wired = require "support.wired"

local pretty = require "moonflow.wire.pretty"
local wire = require "moonflow.wire"

local CHAT = { messages = { { role = "user", content = "Hi" } } }

local function random_secret()
    local characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+/=!$'\"\\`&?%"
    local out = {}
    for i = 1, math.random(8, 60) do
        local at = math.random(#characters)
        out[i] = characters:sub(at, at)
    end
    return table.concat(out)
end

describe("moonflow.wire", function()
    local heard

    before_each(function()
        heard = probe.listen()
    end)

    after_each(function()
        heard:close()
        wire.start {}
        wire.record(false)
    end)

    local function told()
        return table.concat(heard, "\n")
    end

    it("tells requests, headers and bodies by level", function()
        local server <close> = raw.listen {
            raw.reply { body = '{"choices":[]}', headers = { ["Set-Cookie"] = "id=1" } },
        }
        local expected = {
            [0] = {},
            { "#%d+ > POST http://127.0.0.1:%d+/endpoints/chat/invocations", "#%d+ < 200 Scripted in [%d.e-]+ s" },
            { "> Content%-Type: application/json", "< set%-cookie: <redacted>" },
            { '> {"messages":%[', '< {"choices":%[%]}' },
        }
        for level = 0, 3 do
            wire.start { level = level }
            local before = #heard
            local client = require("moonflow.deployments").get_deploy_client(server.url, { max_retries = 0 })
            client:predict { endpoint = "chat", inputs = CHAT }
            local lines = table.concat(heard, "\n", before + 1)
            for other = 1, 3 do
                for _, pattern in ipairs(expected[other]) do
                    assert.equal(other <= level, lines:find(pattern) ~= nil,
                        ("level %d: %s in %s"):format(level, pattern, lines))
                end
            end
        end
    end)

    it("tells failures and each attempt", function()
        local server <close> = raw.listen {
            raw.reply { status = 503, headers = { ["Retry-After"] = "0" } }, raw.reply { json = {} },
        }
        wire.start { level = 1 }
        probe.client(server.url, {}):ask { request = { method = "GET" } }
        assert.is_truthy(told():find("< 503.*retrying.*< 200"))
        probe.failure(function()
            local gone = probe.client("http://127.0.0.1:" .. raw.closed_port(), { max_retries = 0 })
            gone:ask { request = { method = "GET" } }
        end)
        assert.is_truthy(told():find("! network: can not connect"))
    end)

    it("neutralises what a server sends to a terminal", function()
        local server <close> = raw.listen { raw.reply {
            body = '"\27]0;x\7 \xC2\x9B31m"', reason = "O\27K", headers = { X = "a\27[2J" },
        } }
        wire.start { level = 3 }
        local client = probe.client(server.url, { max_retries = 0 })
        pcall(client.ask, client, { request = { method = "GET" } })
        assert.is_truthy(told():find("< 200"))
        assert.is_nil(told():find("[%z\1-\9\11-\31\127]"))
        assert.is_nil(told():find("\xC2\x9B", 1, true))
    end)

    it("keeps the last exchanges, bounded", function()
        local server <close> = raw.listen { raw.reply { json = { a = 1 } } }
        local client = probe.client(server.url, { max_retries = 0, token = "tok-1234567890" })
        client:ask { request = { method = "GET" } }
        assert.is_nil(wire.last())
        wire.record(true)
        for i = 1, 25 do
            client:ask { request = { method = "POST", json = { n = i }, policy = "predict" } }
        end
        assert.equal('{"n":25}', wire.last().body)
        assert.equal('{"n":24}', wire.last(1).body)
        assert.equal('{"n":6}', wire.last(19).body)
        assert.is_nil(wire.last(20))
        assert.equal(200, wire.last().answer.status)
        assert.equal('{"a":1}', wire.last().answer.body)
        client:ask { request = { method = "POST", body = ("x"):rep(300000), policy = "predict" } }
        assert.is_nil(wire.last().body)
        assert.equal(300000, wire.last().body_bytes)
        local command, comments = wire.curl_of(wire.last(1))
        assert.is_truthy(command:find("^curl %-X POST 'http://127"))
        assert.is_truthy(comments[1]:find("the option token", 1, true))
        wire.record(false)
        assert.is_nil(wire.last())
    end)

    it("shows no secret at any level, whatever it is", function()
        local server <close> = raw.listen { raw.reply { json = { ok = true } } }
        for _ = 1, 40 do
            local secret = random_secret()
            local as_json = secret:gsub('["\\]', "\\%0")
            wire.record(true)
            wire.start { level = 3 }
            local client = probe.client(server.url, { token = secret, max_retries = 0 })
            client:ask { request = {
                method = "POST", policy = "predict", json = { key = secret },
                query = { { "token", secret }, { "q", "x" .. secret } }, headers = { ["X-Other"] = "y " .. secret },
            } }
            local command, comments = wire.curl_of(wire.last())
            local all = table.concat({ told(), command, table.concat(comments), wire.describe(wire.last()) }, "\n")
            for _, form in ipairs { secret, as_json, (require("moonflow.url").encode(secret)) } do
                assert.is_nil(all:find(form, 1, true), secret .. "\n" .. all)
            end
            assert.is_truthy(all:find("X-Other: y <redacted>", 1, true), all)
        end
    end)

    it("stops a dry run before the network", function()
        skip.unless_env("MOONFLOW_BIN")
        local server <close> = raw.listen { raw.reply {} }
        local result = wired.run("dry", server.url, { inputs = CHAT }, { MLFLOW_TRACKING_TOKEN = "tok-1234567890" })
        assert.equal(0, result.code, result.stderr)
        assert.is_truthy(result.stdout:find("Authorization: Bearer <redacted, from MLFLOW_TRACKING_TOKEN>", 1, true))
        assert.is_truthy(result.stdout:find('\n{\n  "messages": [\n    {\n', 1, true), result.stdout)
        assert.is_nil(result.stdout:find("after the request"))
        assert.is_truthy(result.stderr:find("nothing was sent"))
        assert.same({}, server:connections())
    end)

    it("does not hide what is wrong before", function()
        skip.unless_env("MOONFLOW_BIN")
        assert.equal(2, wired.run("dry", "nowhere:x", { inputs = CHAT }).code)
        assert.equal(4, wired.run("dry", "openai:https://api.example", { inputs = CHAT }).code)
    end)
end)

describe("a secret that is compared", function()
    local auth = require "moonflow.auth"
    local cases = {
        { auth.bearer "tok-12345678", "Bearer", "tok-12345678" },
        { auth.basic("ann", "password"), "Basic", "YW5uOnBhc3N3b3Jk" },
        { auth.secret "key-12345678", nil, "key-12345678" },
        { auth.secret "Bearer ", nil, "Bearer " },
        { auth.secret "Bearer", nil, "Bearer" },
    }
    for _, case in ipairs(cases) do
        it("is " .. case[3], function()
            assert.equal(case[2], auth.scheme(case[1]))
            assert.is_true(auth.holds(case[1], case[3]))
            for _, other in ipairs { "", case[3] .. "x", case[3]:sub(1, -2), "Bearer " .. case[3] } do
                assert.is_false(auth.holds(case[1], other), other)
            end
        end)
    end

    it("must be one", function()
        assert.is_false((pcall(auth.scheme, "text")))
        assert.is_false((pcall(auth.holds, "text", "text")))
    end)
end)

describe("JSON for people", function()
    local cases = {
        { '{"a":1.50,"b":[],"c":{},"d":[1,"x,]}\\""]}',
            '{\n  "a": 1.50,\n  "b": [],\n  "c": {},\n  "d": [\n    1,\n    "x,]}\\""\n  ]\n}' },
        { '[[ ] , { "k" : null } ]', '[\n  [],\n  {\n    "k": null\n  }\n]' },
        { '"x"', '"x"' },
    }
    for _, case in ipairs(cases) do
        it("is " .. case[1], function()
            assert.equal(case[2], pretty.json(case[1]))
        end)
    end
end)
