--- moonflow.entra: what each way sends and takes, which one is used, and how failure is told. Nothing
--- here leaves this machine: each test names a loopback address for Azure's own.
local auth = require "moonflow.auth"
local env = require "moonflow.env"
local error_object = require "moonflow.error"
local fake = require "support.fake"
local http = require "moonflow.http"
local json = require "moonflow.json"
local raw = require "support.raw"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local RESOURCE = "https://cognitiveservices.azure.com"
local ENCODED = "https%3A%2F%2Fcognitiveservices.azure.com"
local TOKEN = "eyJhbGciOi.some-access-token.sig_-"
local NOWHERE = "http://127.0.0.1:1"
local VARIABLES = {
    "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_AUTHORITY_HOST", "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "AZURE_POD_IDENTITY_AUTHORITY_HOST", "AZURE_CONFIG_DIR", "PATH",
    "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
}

local function granting(fields)
    local answer = { token_type = "Bearer", expires_in = 3599, access_token = TOKEN }
    for name, value in pairs(fields or {}) do
        answer[name] = value
    end
    return raw.reply { json = answer }
end

local function caught(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(error_object.is(err), tostring(err))
    return err
end

--- What a server gets as credential when the token is used.
local function text_of(secret)
    local server <close> = raw.listen { raw.reply {} }
    local header = auth.bearer(secret, server.url)
    assert(http.request { url = server.url, headers = { Authorization = header } })
    return server:requests()[1].header "Authorization"
end

describe("entra.token", function()
    local dir, saved, entra, tokens

    setup(function()
        dir = os.tmpname()
        os.remove(dir)
        assert(os.execute("mkdir " .. dir))
    end)

    teardown(function()
        os.execute("rm -r " .. dir)
    end)

    before_each(function()
        saved = {}
        for _, name in ipairs(VARIABLES) do
            saved[name] = env[name]
            env[name] = nil
        end
        env.AZURE_POD_IDENTITY_AUTHORITY_HOST = NOWHERE
        env.AZURE_AUTHORITY_HOST = NOWHERE
        env.PATH = dir
        package.loaded["moonflow.entra"], package.loaded["moonflow.tokens"] = nil, nil
        entra, tokens = require "moonflow.entra", require "moonflow.tokens"
    end)

    after_each(function()
        for _, name in ipairs(VARIABLES) do
            env[name] = saved[name]
        end
        os.execute("rm -f " .. dir .. "/*")
    end)

    local function write_file(name, text)
        local file = assert(io.open(dir .. "/" .. name, "w"))
        file:write(text)
        file:close()
        return dir .. "/" .. name
    end

    --- Puts a program into PATH in place of the Azure CLI. It has no other to call.
    local function write_az(script)
        assert(os.execute("chmod 755 " .. write_file("az", "#!/bin/sh\n" .. script)))
    end

    local function set_client(server)
        env.AZURE_AUTHORITY_HOST = server and server.url or NOWHERE
        env.AZURE_TENANT_ID, env.AZURE_CLIENT_ID = "tenant-1", "client-1"
    end

    local function set_secret(server)
        set_client(server)
        env.AZURE_CLIENT_SECRET = "the+client/secret~1"
    end

    local function set_app_service(server)
        env.IDENTITY_ENDPOINT, env.IDENTITY_HEADER = server.url .. "/msi/token", "identity-header-value"
    end

    local function failure()
        return caught(entra.token, RESOURCE)
    end

    describe("by a client secret", function()
        it("sends the form and takes the token", function()
            local server <close> = raw.listen { granting() }
            set_secret(server)
            local secret, source, key = entra.token(RESOURCE)
            assert.equal("Bearer " .. TOKEN, text_of(secret))
            assert.equal("Entra ID, with AZURE_CLIENT_SECRET", source)
            assert.is_nil(key:find("secret~1", 1, true))
            local requests = server:requests()
            assert.equal(1, #requests)
            assert.equal("POST", requests[1].method)
            assert.equal("/tenant-1/oauth2/v2.0/token", requests[1].target)
            assert.equal("application/x-www-form-urlencoded", requests[1].header "Content-Type")
            assert.equal("grant_type=client_credentials&client_id=client-1&scope=" .. ENCODED
                .. "%2F.default&client_secret=the%2Bclient%2Fsecret~1", requests[1].body)
        end)

        it("says what the authority said, on one line and without secrets, and tries no other way", function()
            local server <close> = raw.listen {
                raw.reply { status = 401, json = {
                    error = "invalid_client",
                    error_description = "AADSTS7000215: Invalid client secret the+client/secret~1.\r\nTrace ID: 1",
                } },
            }
            set_secret(server)
            write_az("echo run >" .. dir .. "/ran")
            local err = failure()
            assert.equal("auth", err.kind)
            local first, second, rest = err.message:match("^([^\n]*)\n([^\n]*)(.*)$")
            assert.equal(("no Entra ID token with the client secret: http://127.0.0.1:%d answered 401: invalid_client: "
                .. "AADSTS7000215: Invalid client secret <redacted>. Trace ID: 1"):format(server.port), first)
            assert.equal("this way is used because AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET are set",
                second)
            assert.equal("", rest)
            assert.is_nil(sys.stat(dir .. "/ran"))
            assert.equal(1, #server:requests())
        end)

        it("keeps the kind of a failure to reach the authority, and none of its details", function()
            set_secret()
            local err = failure()
            assert.equal("network", err.kind)
            assert.equal("TEMPORARILY_UNAVAILABLE", err.error_code)
            assert.matches("no Entra ID token with the client secret: can not connect to", err.message, 1, true)
            assert.is_nil(err.phase)
            assert.equal("connect", err.cause.phase)
        end)

        it("refuses answers that hold no token", function()
            local answers = {
                [{ status = 200, body = "<html>login</html>", headers = { ["Content-Type"] = "text/html" } }] =
                    "answered 200 with text/html, not with a token in JSON",
                [{ status = 502, body = "<html>bad</html>" }] = "answered 502$",
                [{ status = 302, headers = { Location = "https://elsewhere.test/" } }] = "answered 302$",
                [{ status = 200, body = "" }] = "not with a token in JSON",
                [{ status = 200, body = "[]" }] = "gave no token that can be used",
                [{ status = 200, body = "null" }] = "not with a token in JSON",
                [{ status = 400, body = "{\"error\":{\"code\":1}}" }] = "answered 400$",
                [{ json = { access_token = "", expires_in = 1 } }] = "gave no token that can be used",
                [{ json = { access_token = 5, expires_in = 1 } }] = "gave no token that can be used",
                [{ json = { access_token = "a\nb", expires_in = 1 } }] = "gave no token that can be used",
                [{ json = { access_token = "abc" } }] = "did not say when it expires",
                [{ json = { access_token = "abc", expires_in = "soon" } }] = "did not say when it expires",
                [{ json = { access_token = "abc", expires_in = 0 } }] = "expires in 0 s, which is not believed",
                [{ json = { access_token = "abc", expires_in = -5 } }] = "expires in %-5 s",
                [{ json = { access_token = "abc", expires_in = 1e300 } }] = "expires in 1e%+300 s",
                [{ json = { access_token = "abc", expires_on = 1000 } }] = "expires in %-%d",
            }
            for reply, expected in pairs(answers) do
                local server <close> = raw.listen { raw.reply(reply) }
                set_secret(server)
                local err = failure()
                assert.equal("auth", err.kind)
                assert.matches(expected, err.message:match("^[^\n]*"))
            end
        end)

        it("does not use variables that no request can be made of", function()
            set_secret()
            for _, host in ipairs {
                "http://login.microsoftonline.com", "ftp://127.0.0.1", "https://user:pw@host", "ho st", "https://h?q=1",
            } do
                env.AZURE_AUTHORITY_HOST = host
                local err = failure()
                assert.equal("config", err.kind)
                assert.matches("AZURE_AUTHORITY_HOST", err.message)
            end
            env.AZURE_AUTHORITY_HOST = NOWHERE
            for _, tenant in ipairs { "a/b", "..", "?x", "" } do
                env.AZURE_TENANT_ID = tenant
                assert.equal(tenant == "" and "auth" or "config", failure().kind)
            end
        end)

        it("goes before all others", function()
            local server <close> = raw.listen { granting() }
            set_app_service(server)
            set_secret(server)
            env.AZURE_FEDERATED_TOKEN_FILE = "/nonesuch"
            local _, source = entra.token(RESOURCE)
            assert.matches("AZURE_CLIENT_SECRET", source)
        end)
    end)

    describe("by a federated token", function()
        it("sends the file's content without the space round it, as it is at each fetch", function()
            local server <close> = raw.listen { granting() }
            set_client(server)
            env.AZURE_FEDERATED_TOKEN_FILE = write_file("federated", "\n assertion.one \n")
            local secret, source, key = entra.token(RESOURCE)
            assert.equal("Entra ID, with AZURE_FEDERATED_TOKEN_FILE", source)
            write_file("federated", "assertion.two")
            entra.token(RESOURCE)
            tokens.forget(key, secret)
            entra.token(RESOURCE)
            local form = "grant_type=client_credentials&client_id=client-1&scope=" .. ENCODED .. "%2F.default"
                .. "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
                .. "&client_assertion="
            local requests = server:requests()
            assert.equal(2, #requests)
            assert.equal("/tenant-1/oauth2/v2.0/token", requests[1].target)
            assert.equal(form .. "assertion.one", requests[1].body)
            assert.equal(form .. "assertion.two", requests[2].body)
        end)

        it("does not show the file's content", function()
            local server <close> = raw.listen {
                raw.reply {
                    status = 400, json = { error = "invalid_grant", error_description = "not: assertion.one" },
                },
            }
            set_client(server)
            env.AZURE_FEDERATED_TOKEN_FILE = write_file("federated", "assertion.one")
            assert.matches("answered 400: invalid_grant: not: <redacted>", failure().message, 1, true)
        end)

        it("tells of a file that is not there, or empty", function()
            set_client()
            for _, path in ipairs { dir .. "/nonesuch", write_file("federated", " \n") } do
                env.AZURE_FEDERATED_TOKEN_FILE = path
                local err = failure()
                assert.equal("config", err.kind)
                assert.matches(path, err.message, 1, true)
            end
        end)
    end)

    describe("by the managed identity of App Service", function()
        it("sends the header and takes a time in text", function()
            local at = tostring(math.floor(sys.time()) + 3600)
            local server <close> = raw.listen {
                raw.reply { json = { access_token = TOKEN, expires_on = at, token_type = "Bearer" } },
            }
            set_app_service(server)
            local secret, source = entra.token(RESOURCE)
            assert.equal("Bearer " .. TOKEN, text_of(secret))
            assert.equal("the managed identity at IDENTITY_ENDPOINT", source)
            local request = server:requests()[1]
            assert.equal("GET", request.method)
            assert.equal("/msi/token?api-version=2019-08-01&resource=" .. ENCODED, request.target)
            assert.equal("identity-header-value", request.header "X-IDENTITY-HEADER")
            assert.equal("", request.body)
        end)

        it("asks for the identity that AZURE_CLIENT_ID names, and keeps the endpoint's query", function()
            local server <close> = raw.listen { granting() }
            set_app_service(server)
            env.IDENTITY_ENDPOINT = server.url .. "/msi/token?a=b"
            env.AZURE_CLIENT_ID = "client 2"
            entra.token(RESOURCE)
            assert.equal("/msi/token?a=b&api-version=2019-08-01&resource=" .. ENCODED .. "&client_id=client+2",
                server:requests()[1].target)
        end)

        it("stops where the endpoint refuses", function()
            local server <close> = raw.listen {
                raw.reply { status = 400, json = { statusCode = 400, message = "No identity-header-value here" } },
            }
            set_app_service(server)
            local err = failure()
            assert.equal("auth", err.kind)
            assert.matches("answered 400: No <redacted> here\nthis way is used because IDENTITY_ENDPOINT and "
                .. "IDENTITY_HEADER are set", err.message, 1, true)
        end)

        it("sends the header nowhere over an open network", function()
            env.IDENTITY_HEADER = "identity-header-value"
            local endpoints = { "http://10.1.2.3/msi", "http://169.254.169.254.test/", "msi", "ftp://127.0.0.1/" }
            for _, endpoint in ipairs(endpoints) do
                env.IDENTITY_ENDPOINT = endpoint
                local err = failure()
                assert.equal("config", err.kind)
                assert.matches("IDENTITY_ENDPOINT must be an https:// URL", err.message)
            end
        end)
    end)

    describe("by the managed identity of a machine", function()
        it("asks the metadata service", function()
            local server <close> = raw.listen { granting { expires_in = "86399", expires_on = "1700000000" } }
            env.AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url .. "/"
            local secret, source = entra.token(RESOURCE)
            assert.equal("Bearer " .. TOKEN, text_of(secret))
            assert.equal("the managed identity of this machine", source)
            local request = server:requests()[1]
            assert.equal("GET", request.method)
            assert.equal("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" .. ENCODED, request.target)
            assert.equal("true", request.header "Metadata")
        end)

        it("asks again where it is not ready", function()
            local server <close> = raw.listen { raw.reply { status = 404 }, granting() }
            env.AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url
            env.AZURE_CLIENT_ID = "client-2"
            entra.token(RESOURCE)
            local requests = server:requests()
            assert.equal(2, #requests)
            assert.matches("&client_id=client%-2$", requests[2].target)
        end)

        it("knows a machine without an identity", function()
            local server <close> = raw.listen {
                raw.reply {
                    status = 400, json = { error = "invalid_request", error_description = "Identity not found" },
                },
            }
            env.AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url
            assert.matches("virtual machine: this machine has no identity\n", failure().message, 1, true)
            env.AZURE_CLIENT_ID = "client-2"
            assert.matches("no identity with the AZURE_CLIENT_ID that is set\n", failure().message, 1, true)
            assert.equal(2, #server:requests())
        end)

        it("goes on to the Azure CLI where it is refused", function()
            local server <close> = raw.listen { raw.reply { status = 403, json = { error = "no", message = "never" } } }
            env.AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url
            assert.matches("virtual machine: http://127.0.0.1:%d+ answered 403: no: never\n"
                .. "Azure CLI: az is not installed", failure().message)
        end)
    end)

    describe("by the Azure CLI", function()
        local function printing(fields)
            local answer = { accessToken = TOKEN, tokenType = "Bearer" }
            for name, value in pairs(fields) do
                answer[name] = value
            end
            local text = assert(json.encode(answer))
            return ("printf '%%s\\n' \"$@\" >'%s/args'; cat <<'END'\n%s\nEND\n"):format(dir, text)
        end

        before_each(function()
            env.PATH = dir .. ":/usr/bin:/bin"
        end)

        it("runs it and takes the token", function()
            write_az(printing { expires_on = math.floor(sys.time()) + 3600 })
            local secret, source = entra.token(RESOURCE)
            assert.equal("Bearer " .. TOKEN, text_of(secret))
            assert.equal("az account get-access-token", source)
            assert.equal("account\nget-access-token\n--output\njson\n--resource\n" .. RESOURCE .. "\n",
                sys.read_file(dir .. "/args"))
        end)

        it("passes the tenant on, and moonflow's environment", function()
            write_az("echo \"$AZURE_CONFIG_DIR\" >" .. dir .. "/env\n" .. printing { expires_in = 600 })
            env.AZURE_TENANT_ID = "tenant-1"
            env.AZURE_CONFIG_DIR = "/some/where"
            entra.token(RESOURCE)
            assert.matches("\n%-%-tenant\ntenant%-1\n$", sys.read_file(dir .. "/args"))
            assert.equal("/some/where\n", sys.read_file(dir .. "/env"))
        end)

        it("reads the time in each of its forms, the absolute one first", function()
            local cases = {
                [{ expires_on = math.floor(sys.time()) + 1000, expires_in = 5 }] = 1000,
                [{ expires_in = 2000 }] = 2000,
                [{ expiresOn = os.date("%Y-%m-%d %H:%M:%S.000000", os.time() + 3000) }] = 3000,
            }
            for fields, expected in pairs(cases) do
                write_az(printing(fields))
                local _, _, key = entra.token(RESOURCE)
                local token = tokens.get(key)
                assert.near(expected, token.expires_in, 5)
                tokens.forget(key, token.secret)
            end
        end)

        it("gives its failure as a reason", function()
            local cases = {
                ["echo 'ERROR: Please run \"az login\" to setup account.' >&2; exit 1"] =
                    "az is not logged in (az login)",
                ["echo 'WARNING: old' >&2; echo 'ERROR: AADSTS50076: no MFA' >&2; exit 2"] =
                    "az ended with code 2: AADSTS50076: no MFA",
                ["echo; echo ' some words ' >&2; exit 1"] = "az ended with code 1: some words",
                ["exit 1"] = "az ended with code 1: it printed no reason",
                ["kill -9 $$"] = "az was ended by signal 9: it printed no reason",
                ["echo hello"] = "az printed something else than a token in JSON",
                ["echo '{}'"] = "az gave no token that can be used",
                ["echo '{\"accessToken\":\"abc\"}'"] = "az gave a token and did not say when it expires",
                ["echo '{\"accessToken\":\"abc\",\"expires_on\":5}'"] = "which is not believed",
            }
            for script, expected in pairs(cases) do
                write_az(script)
                local err = failure()
                assert.equal("auth", err.kind)
                assert.matches("\nAzure CLI: [^\n]*" .. expected:gsub("%p", "%%%0"), err.message)
            end
            assert(os.execute("chmod 644 " .. dir .. "/az"))
            assert.matches("az is not installed", failure().message)
        end)
    end)

    it("tells of every way that does not fit and what each lacks", function()
        env.AZURE_TENANT_ID = "tenant-1"
        env.IDENTITY_ENDPOINT = NOWHERE
        local err = failure()
        assert.equal("auth", err.kind)
        local lines = {}
        for line in err.message:gmatch("[^\n]+") do
            lines[#lines + 1] = line
        end
        assert.same({
            "no Entra ID token for https://cognitiveservices.azure.com",
            "client secret: AZURE_CLIENT_ID and AZURE_CLIENT_SECRET are not set",
            "federated token: AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE are not set",
            "managed identity of App Service: IDENTITY_HEADER is not set",
            "managed identity of a virtual machine: can not connect to http://127.0.0.1:1: Connection refused",
            "Azure CLI: az is not installed",
        }, lines)
        assert.matches("az login", err.hint)
    end)

    it("asks once for 20 tasks, and once more for another tenant", function()
        local server <close> = raw.listen { raw.reply {
            wait = 0.1, json = { access_token = TOKEN, expires_in = 3600 },
        } }
        set_secret(server)
        local numbers = {}
        for i = 1, 20 do
            numbers[i] = i
        end
        local secrets = task.map(numbers, function()
            return (entra.token(RESOURCE))
        end, { limit = 20 })
        for i = 1, 20 do
            assert.equal(secrets[1], secrets[i])
        end
        assert.equal(1, #server:requests())
        env.AZURE_TENANT_ID = "tenant-2"
        entra.token(RESOURCE)
        assert.equal("/tenant-2/oauth2/v2.0/token", server:requests()[2].target)
        entra.token "https://ai.azure.com"
        assert.equal(3, #server:requests())
    end)

    it("goes on for the others when the first task is cancelled", function()
        local server <close> = raw.listen { raw.reply {
            wait = 0.2, json = { access_token = TOKEN, expires_in = 3600 },
        } }
        set_secret(server)
        local first = task.spawn(entra.token, RESOURCE)
        local second = task.spawn(entra.token, RESOURCE)
        task.sleep(0.05)
        first:cancel()
        assert.is_true(auth.is_secret((second:wait())))
        assert.equal(1, #server:requests())
    end)

    describe("without a network", function()
        local world

        after_each(function()
            world:close()
        end)

        local function open(environ, answers)
            environ.PATH = dir
            world = fake.world({ environ = environ, answers = answers }):speak_http()
        end

        local GRANTED = { json = { access_token = TOKEN, expires_in = 3600 } }

        it("asks the authority of the cloud, through the proxy", function()
            local hosts = {
                [""] = "https://login.microsoftonline.com",
                ["login.chinacloudapi.cn"] = "https://login.chinacloudapi.cn",
                ["https://login.microsoftonline.us/"] = "https://login.microsoftonline.us",
                ["http://localhost:5/a/"] = "http://localhost:5/a",
            }
            for host, expected in pairs(hosts) do
                open({
                    AZURE_AUTHORITY_HOST = host, AZURE_TENANT_ID = "contoso.onmicrosoft.com", AZURE_CLIENT_ID = "c",
                    AZURE_CLIENT_SECRET = "the-client-secret", HTTPS_PROXY = "http://proxy.test:3128",
                }, { GRANTED })
                world.entra.token(RESOURCE)
                local request = world.requests[1]
                assert.equal(expected .. "/contoso.onmicrosoft.com/oauth2/v2.0/token", request.url)
                assert.equal(expected:find("^https") and "http://proxy.test:3128" or nil, request.proxy)
                assert.equal(30, request.total_timeout)
                world:close()
            end
        end)

        it("asks the metadata service of the machine directly, without waiting long for it", function()
            open({ HTTP_PROXY = "http://proxy.test:3128", all_proxy = "http://proxy.test:3128" }, { GRANTED })
            world.entra.token(RESOURCE)
            local request = world.requests[1]
            assert.equal("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
                .. ENCODED, request.url)
            assert.equal("", request.proxy)
            assert.equal(1, request.connect_timeout)
            assert.equal(10, request.total_timeout)
        end)

        it("asks App Service on its link-local address, directly", function()
            open({
                IDENTITY_ENDPOINT = "http://169.254.129.2:8081/msi/token", IDENTITY_HEADER = "identity-header-value",
                HTTP_PROXY = "http://proxy.test:3128",
            }, { GRANTED })
            world.entra.token(RESOURCE)
            assert.equal("", world.requests[1].proxy)
            assert.is_true(world.requests[1].allow_insecure_http)
            assert.is_true(auth.is_secret(world.requests[1].headers["X-IDENTITY-HEADER"]))
        end)

        it("repeats only what passes, a few times", function()
            for _, status in ipairs { 404, 410, 429, 500, 503 } do
                open({}, { { status = status } })
                assert.matches("answered " .. status, caught(world.entra.token, RESOURCE).message)
                assert.equal(4, #world.requests)
                assert.same({ 0.2, 0.4, 0.8 }, world.sleeps)
                world:close()
            end
            for _, answer in ipairs { { status = 403 }, { kind = "timeout", phase = "connect" } } do
                open({}, { answer })
                caught(world.entra.token, RESOURCE)
                assert.equal(1, #world.requests)
                world:close()
            end
            open({}, { { status = 503, takes = 6 } })
            caught(world.entra.token, RESOURCE)
            assert.equal(2, #world.requests)
            assert.near(3.8, world.requests[2].total_timeout, 1e-6)
        end)

        it("gives a CLI that hangs as a reason", function()
            open({}, { { kind = "network" } })
            package.loaded["moonflow._process"] = {
                run = function(argv, options)
                    assert.equal("az", argv[1])
                    assert.equal(30, options.timeout)
                    return nil, error_object.new { kind = "timeout", message = "az was not done within 30 s" }
                end,
            }
            local err = caught(world.entra.token, RESOURCE)
            assert.equal("auth", err.kind)
            assert.matches("\nAzure CLI: az was not done within 30 s$", err.message)
        end)

        it("fetches a new token five minutes before the end of the old one", function()
            open({}, { GRANTED })
            world.entra.token(RESOURCE)
            world.now = world.now + 3299
            world.entra.token(RESOURCE)
            assert.equal(1, #world.requests)
            world.now = world.now + 2
            world.entra.token(RESOURCE)
            assert.equal(2, #world.requests)
        end)
    end)
end)
