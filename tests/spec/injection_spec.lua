--- Names, tokens, headers, redirects, proxies and files of the user that could send a request or a
-- credential elsewhere than it belongs. Compared are the bytes that arrive.
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local probe = require "support.probe"
local process = require "support.process"
local raw = require "support.raw"

local CANARY = "canary-0123456789abcdef"
local OK = { json = { ok = true } }

--- The request line of the first request, as it came.
local function first_line(server)
    return server:received()[1]:match("^[^\r\n]*")
end

local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
end

describe("a name", function()
    local names = {
        { "chat", "chat" },
        { "../x", "..%2Fx" },
        { "../../api/2.0/token/list", "..%2F..%2Fapi%2F2.0%2Ftoken%2Flist" },
        { "a/b", "a%2Fb" },
        { "a?x=1", "a%3Fx%3D1" },
        { "a#b", "a%23b" },
        { "a%b", "a%25b" },
        { "%2e%2e", "%252e%252e" },
        { "é", "%C3%A9" },
        { "a b", "a%20b" },
        { "a+b", "a%2Bb" },
        { "a:b@c", "a%3Ab%40c" },
        { "a\\b", "a%5Cb" },
        { "...", "..." },
        { "\xff\xfe", "%FF%FE" },
        { "a;b&c=d", "a%3Bb%26c%3Dd" },
    }
    for _, case in ipairs(names) do
        it(("is one segment of the path: %q"):format(case[1]), function()
            local server <close> = raw.listen { raw.reply(OK) }
            local client = deployments.get_deploy_client(server.url .. "/base")
            client:predict { endpoint = case[1] }
            assert.equal(("POST /base/endpoints/%s/invocations HTTP/1.1"):format(case[2]), first_line(server))
        end)
    end

    it("is encoded for get_endpoint too", function()
        local server <close> = raw.listen { raw.reply(OK) }
        deployments.get_deploy_client(server.url):get_endpoint("../x?y")
        assert.equal("GET /api/2.0/endpoints/..%2Fx%3Fy HTTP/1.1", first_line(server))
    end)

    for _, name in ipairs { "", ".", "..", "a\r\nX-Injected: y", "a\nb", "a\0b", "\127", "a\tb" } do
        it(("is refused before anything is sent: %q"):format(name), function()
            local server <close> = raw.listen { raw.reply(OK) }
            local client = deployments.get_deploy_client(server.url)
            for _, method in ipairs { "predict", "get_endpoint" } do
                assert.equal("usage", probe.failure(client[method], client, { endpoint = name }).kind)
            end
            assert.equal(0, #server:connections())
        end)
    end
end)

describe("a token", function()
    it("loses the line end that a file gave it", function()
        local server <close> = raw.listen { raw.reply(OK) }
        deployments.get_deploy_client(server.url, { token = " " .. CANARY .. "\r\n" }):predict { endpoint = "e" }
        assert.equal("Bearer " .. CANARY, server:requests()[1].header("Authorization"))
    end)

    for _, token in ipairs { CANARY .. "\r\nX-Injected: y", CANARY .. "\nb", CANARY .. "\0b", CANARY .. "\127" } do
        it(("with a control byte is refused and not shown: %q"):format(token), function()
            local server <close> = raw.listen { raw.reply(OK) }
            for _, options in ipairs { { token = token }, { username = "u", password = token } } do
                local err = probe.failure(function()
                    return deployments.get_deploy_client(server.url, options):predict { endpoint = "e" }
                end)
                assert.equal("auth", err.kind)
                assert.falsy(tostring(err):find("canary", 1, true))
            end
            assert.equal(0, #server:connections())
        end)
    end

    it("from the environment is treated alike", function()
        local server <close> = raw.listen { raw.reply(OK) }
        env.MLFLOW_TRACKING_TOKEN = CANARY .. "\nX-Injected: y"
        local client = deployments.get_deploy_client(server.url)
        local err = probe.failure(client.predict, client, { endpoint = "e" })
        env.MLFLOW_TRACKING_TOKEN = nil
        assert.equal("auth", err.kind)
        assert.falsy(tostring(err):find("canary", 1, true))
        assert.equal(0, #server:connections())
    end)
end)

describe("a header", function()
    local cases = {
        { ["X-A"] = "b\r\nX-Injected: c" }, { ["X-A"] = "b\n\nGET / HTTP/1.1" }, { ["X-A"] = "b\0c" },
        { ["X-A: b\r\nX-Injected"] = "c" }, { ["X A"] = "b" }, { [""] = "b" }, { ["X-A:"] = "b" }, { ["Ä"] = "b" },
        { Host = "evil.test" }, { ["Content-Length"] = "0" }, { ["transfer-encoding"] = "chunked" },
    }
    for i, headers in ipairs(cases) do
        it("that could change the request is refused: case " .. i, function()
            local server <close> = raw.listen { raw.reply(OK) }
            local of_call = deployments.get_deploy_client(server.url)
            local err = probe.failure(of_call.predict, of_call, { endpoint = "e", options = { headers = headers } })
            assert.equal("usage", err.kind)
            local of_client = probe.failure(function()
                return deployments.get_deploy_client(server.url, { headers = headers }):predict { endpoint = "e" }
            end)
            assert.equal("usage", of_client.kind)
            assert.equal(0, #server:requests())
        end)
    end

    it("arrives once, the call's before the client's", function()
        local server <close> = raw.listen { raw.reply(OK) }
        local headers = { ["X-A"] = "client", ["User-Agent"] = "x" }
        local client = deployments.get_deploy_client(server.url, { headers = headers })
        client:predict { endpoint = "e", options = { headers = { ["x-a"] = "call" } } }
        local bytes = server:received()[1]:lower()
        assert.equal(1, count(bytes, "\r\nx%-a: "))
        assert.truthy(bytes:find("\r\nx-a: call\r\n", 1, true))
        assert.equal(1, count(bytes, "\r\nuser%-agent: "))
        assert.equal(1, count(bytes, "\r\nhost: "))
    end)
end)

describe("a redirect", function()
    for _, status in ipairs { 300, 301, 302, 303, 307, 308 } do
        it(status .. " is followed nowhere, with neither credential nor body", function()
            local other <close> = raw.listen { raw.reply(OK) }
            local server <close> = raw.listen { raw.reply {} }
            local targets = {
                [server.url .. "/elsewhere?key=" .. CANARY] = "redirect",
                ["/elsewhere"] = "another path on the same server",
                ["//127.0.0.1:" .. other.port .. "/x"] = "127.0.0.1:" .. other.port,
                [other.url .. "/x"] = other.url,
                ["http://localhost:" .. other.port .. "/x"] = "http://localhost:" .. other.port,
                ["http://user:" .. CANARY .. "@127.0.0.1:" .. other.port] = "http://127.0.0.1:" .. other.port,
                ["file:///etc/hostname"] = "file://",
                ["ftp://127.0.0.1/"] = "ftp://127.0.0.1",
                ["javascript:alert(1)"] = "javascript:",
                [""] = "redirect",
            }
            local requests = 0
            for location, shown in pairs(targets) do
                server:script { raw.reply { status = status, headers = { Location = location }, body = "{}" } }
                for method, arguments in pairs { predict = { endpoint = "e", inputs = { secret = 1 } },
                    get_endpoint = { endpoint = "e" } } do
                    local client = deployments.get_deploy_client(server.url, { token = CANARY })
                    local err = probe.failure(client[method], client, arguments)
                    requests = requests + 1
                    assert.equal("http", err.kind)
                    assert.equal(status, err.http_status)
                    assert.equal(1, err.attempts)
                    assert.truthy(tostring(err):find(shown, 1, true), tostring(err))
                    assert.falsy(tostring(err):find("canary", 1, true), tostring(err))
                end
            end
            assert.equal(requests, #server:requests())
            assert.equal(0, #other:connections())
        end)
    end

    it("loop has one request", function()
        local server <close> = raw.listen { raw.reply { status = 302, headers = { Location = "/x" } } }
        local client = deployments.get_deploy_client(server.url)
        probe.failure(client.list_endpoints, client)
        assert.equal(1, #server:requests())
    end)
end)

describe("a credential", function()
    it("is refused over plain http to another machine, before its name is looked up", function()
        for _, options in ipairs { { token = CANARY }, { username = "u", password = CANARY },
            { headers = { Authorization = "Bearer " .. CANARY } }, { headers = { ["api-key"] = CANARY } } } do
            local client = deployments.get_deploy_client("http://moonflow.invalid", options)
            local err = probe.failure(client.predict, client, { endpoint = "e" })
            assert.equal("config", err.kind)
            assert.falsy(tostring(err):find("canary", 1, true))
            assert.falsy(err.request_sent)
        end
    end)

    it("is not refused for hosts of this machine only", function()
        for _, name in ipairs { "127.0.0.1", "localhost", "127.1" } do
            local host = name .. ".moonflow.invalid"
            local client = deployments.get_deploy_client("http://" .. host, { token = CANARY })
            assert.equal("config", probe.failure(client.predict, client, { endpoint = "e" }).kind, host)
        end
    end)

    it("in the target's URL is refused", function()
        for _, target in ipairs { "http://user:canary@127.0.0.1:1", "http://127.0.0.1:1@127.0.0.1:2/",
            "https://good.test@evil.invalid", "https://good.test\\@evil.invalid" } do
            local ok, err = pcall(function()
                return deployments.get_deploy_client(target, { max_retries = 0 }):predict { endpoint = "e" }
            end)
            assert.is_false(ok)
            assert.is_true(err.kind == "usage" or err.kind == "config", target .. ": " .. tostring(err))
            assert.falsy(tostring(err):find("canary", 1, true))
        end
    end)
end)

describe("the user's files and variables", function()
    --- Runs one query in a program of its own and returns what its server got.
    local function query(options)
        local server <close> = raw.listen { raw.reply(OK) }
        local result = process.run {
            args = { "-e", [[
                local client = require("moonflow.deployments").get_deploy_client(arg[1], { token = arg[2] })
                print(client:predict{ endpoint = "e" }.ok)]], server.url, options.token },
            env = options.env(server),
        }
        assert.equal("true\n", result.stdout, result.stderr)
        return server:requests()[1]
    end

    it("with a proxy do not concern this machine", function()
        local proxy <close> = raw.listen { raw.reply { json = { ok = "proxy" } } }
        local url = "http://user:" .. CANARY .. "@127.0.0.1:" .. proxy.port
        query {
            env = function()
                return { http_proxy = url, HTTP_PROXY = url, all_proxy = url, ALL_PROXY = url, https_proxy = url,
                    no_proxy = "", NO_PROXY = "" }
            end,
            token = CANARY,
        }
        assert.equal(0, #proxy:connections())
    end)

    it("with passwords for machines are not read", function()
        local home = os.tmpname()
        os.remove(home)
        assert(os.execute("mkdir -m 700 " .. home))
        local file = assert(io.open(home .. "/.netrc", "w"))
        file:write("machine 127.0.0.1 login netrc password ", CANARY, "\ndefault login netrc password ", CANARY, "\n")
        file:close()
        assert(os.execute("chmod 600 " .. home .. "/.netrc"))
        local function with_home()
            return { HOME = home, NETRC = home .. "/.netrc", MLFLOW_TRACKING_TOKEN = false }
        end
        local without = query { env = with_home }
        local with = query { env = with_home, token = "token-0123456789" }
        os.execute("rm -r " .. home)
        assert.is_nil(without.header("Authorization"))
        assert.equal("Bearer token-0123456789", with.header("Authorization"))
    end)

    it("with a SOCKS proxy or a curlrc change nothing either", function()
        query {
            env = function()
                return { ALL_PROXY = "socks5h://127.0.0.1:1", CURL_HOME = "/nonexistent", LD_BIND_NOW = "1" }
            end,
        }
    end)
end)
