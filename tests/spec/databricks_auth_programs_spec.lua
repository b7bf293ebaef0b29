--- Logging in to Databricks with what others hold: the cache and the program of the Databricks CLI, the
-- Azure CLI, the identity of a machine, Azure's authority. And what is said where nothing fits.
local cli = require "moonflow.databricks.cli"
local deployments = require "moonflow.deployments"
local fake = require "support.fake"
local home = require "support.databricks_home"
local json = require "moonflow.json"
local probe = require "support.probe"
local raw = require "support.raw"
local sys = require "moonflow.sys"

local LIST = raw.reply { json = { endpoints = {} } }

local function later(seconds)
    return os.date("!%Y-%m-%dT%H:%M:%S.123456Z", math.floor(sys.time()) + seconds)
end

describe("a login to Databricks", function()
    local own, server

    before_each(function()
        own = home.new()
    end)

    after_each(function()
        if server then
            server:close()
        end
        own:close()
        server = nil
    end)

    local function open(...)
        server = raw.listen { ... }
        own:set { DATABRICKS_HOST = server.url }
        return deployments.get_deploy_client "databricks"
    end

    local function failure(client)
        return probe.failure(client.list_endpoints, client)
    end

    local function used()
        local requests = server:requests()
        return requests[#requests].header "Authorization"
    end

    local function write_cache(tokens, version)
        own:write(".databricks/token-cache.json", assert(json.encode { version = version or 1, tokens = tokens }))
    end

    --- A program that keeps its arguments and prints a token.
    local function write_cli(name)
        own:write("bin/databricks", ("#!/bin/sh\necho \"$*\" >>%s/args\necho '%s'\nexit 0\n%s"):format(own.dir,
            json.encode { access_token = name, token_type = "Bearer", expiry = later(3600) }, home.PADDING))
    end

    describe("by the Databricks CLI", function()
        it("takes a token of its cache and runs nothing", function()
            local client = open(LIST)
            write_cli "token-of-program"
            write_cache { [server.url] = { access_token = "token-of-cache", expiry = later(3600) } }
            client:list_endpoints()
            assert.equal("Bearer token-of-cache", used())
            assert.is_nil(sys.stat(own.dir .. "/args"))
        end)

        it("runs it where the token in the cache is about to end, has ended, or is another's", function()
            for _, tokens in ipairs {
                { HOST = { access_token = "token-of-cache", expiry = later(200) } },
                { HOST = { access_token = "token-of-cache", expiry = later(-200) } },
                { HOST = { access_token = "token-of-cache" } }, { HOST = 1 },
                { ["https://other.test"] = { access_token = "token-of-cache", expiry = later(3600) } },
            } do
                local client = open(LIST)
                write_cli "token-of-program"
                tokens[server.url], tokens.HOST = tokens.HOST, nil
                write_cache(tokens)
                client:list_endpoints()
                assert.equal("Bearer token-of-program", used())
                assert.equal(("auth token --host %s\n"):format(server.url), sys.read_file(own.dir .. "/args"))
                os.remove(own.dir .. "/args")
                server:close()
            end
            server = nil
        end)

        it("leaves the cache as it is", function()
            local client = open(LIST)
            write_cli "token-of-program"
            write_cache { [server.url] = { access_token = "token-of-cache", expiry = later(1) } }
            local before = sys.read_file(own.dir .. "/.databricks/token-cache.json")
            client:list_endpoints()
            assert.equal(before, sys.read_file(own.dir .. "/.databricks/token-cache.json"))
        end)

        it("names the profile", function()
            open(LIST)
            write_cli "token-of-program"
            own:write(".databrickscfg", ("[work]\nhost = %s\nauth_type = databricks-cli\n"):format(server.url))
            deployments.get_deploy_client("databricks://work"):list_endpoints()
            assert.equal("auth token --profile work\n", sys.read_file(own.dir .. "/args"))
            assert.equal("Bearer token-of-program", used())
        end)

        it("uses the host where an older one knows no profile", function()
            open(LIST)
            own:write("bin/databricks", ([[#!/bin/sh
                case "$*" in *--profile*) echo "Error: unknown flag: --profile" >&2; exit 1;; esac
                echo '%s'
                exit 0
                %s]]):format(json.encode { access_token = "token-of-old", expiry = later(3600) }, home.PADDING))
            own:write(".databrickscfg", ("[work]\nhost = %s\n"):format(server.url))
            deployments.get_deploy_client("databricks://work"):list_endpoints()
            assert.equal("Bearer token-of-old", used())
        end)

        it("has it renew a token that the workspace refused", function()
            local refused = raw.reply { status = 401, json = { error_code = "UNAUTHENTICATED", message = "revoked" } }
            for flag, expected in pairs {
                [""] = "auth token --host HOST --force-refresh\n",
                ["Error: unknown flag: --force-refresh"] = "auth token --host HOST --force-refresh\nauth token --host "
                    .. "HOST\n",
            } do
                local client = open(refused, LIST)
                own:write("bin/databricks", ([[#!/bin/sh
                    echo "$*" >>%s/args
                    case "%s$*" in Error*--force-refresh) echo "%s" >&2; exit 1;; esac
                    echo '%s'
                    exit 0
                    %s]]):format(own.dir, flag, flag,
                    json.encode { access_token = "token-of-program", expiry = later(3600) }, home.PADDING))
                write_cache { [server.url] = { access_token = "token-of-cache", expiry = later(3600) } }
                client:list_endpoints()
                assert.equal("Bearer token-of-cache", server:requests()[1].header "Authorization")
                assert.equal("Bearer token-of-program", used())
                assert.equal(expected:gsub("HOST", server.url), (sys.read_file(own.dir .. "/args")))
                os.remove(own.dir .. "/args")
                server:close()
            end
            server = nil
        end)

        it("says why it gives nothing", function()
            local cases = {
                ["echo hello; exit 0"] = "gave something else than a token in JSON",
                ["echo '{}'; exit 0"] = "gave no token that can be used",
                ["exit 3"] = "cannot get access token: it printed no reason",
                ["echo 'Error: log in again' >&2; exit 1"] = "cannot get access token: Error: log in again",
            }
            for script, words in pairs(cases) do
                local client = open(LIST)
                own:write("bin/databricks", "#!/bin/sh\n" .. script .. "\n" .. home.PADDING)
                local err = failure(client)
                assert.equal("auth", err.kind)
                assert.matches("databricks%-cli: [^\n]*" .. words:gsub("%p", "%%%0"), err.message)
                server:close()
            end
            server = nil
        end)

        it("says what is wrong with a cache", function()
            local client = open(LIST)
            for text, words in pairs {
                ["nonsense"] = "is no token cache", ["[]"] = "is no token cache",
                ['{"version":2,"tokens":{}}'] = "needs version 1, got version 2",
                ['{"version":1,"tokens":{}}'] = "has no token for it",
            } do
                own:write(".databricks/token-cache.json", text)
                assert.matches(words, failure(client).message, 1, true)
            end
        end)

        it("reads times with their zones", function()
            local cases = {
                ["2023-12-05T15:59:01.40081+11:00"] = 1701752341, ["2023-12-05T04:59:01Z"] = 1701752341,
                ["2023-12-05 04:59:01.5"] = 1701752341, ["2023-12-04T23:59:01-05:00"] = 1701752341,
                ["2024-02-29T00:00:00Z"] = 1709164800, ["1970-01-01T00:00:00Z"] = 0,
            }
            for text, expected in pairs(cases) do
                assert.equal(expected, cli.to_time(text), text)
            end
            for _, text in ipairs { "", "tomorrow", "2023-12-05", "2023-12-05T15:59:01 CET" } do
                assert.is_nil(cli.to_time(text), text)
            end
        end)
    end)

    describe("by the machine's identity", function()
        it("asks for the workspace's token and the one that manages it", function()
            local function grant(name)
                return raw.reply { json = { access_token = name, expires_in = "3600" } }
            end
            local client = open(grant "token-of-machine", grant "token-that-manages", LIST)
            own:set {
                DATABRICKS_AZURE_RESOURCE_ID = "/subscriptions/s/ws", ARM_USE_MSI = "true", ARM_CLIENT_ID = "c1",
                AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url,
            }
            client:list_endpoints()
            local requests = server:requests()
            assert.equal("/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
                .. "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d&client_id=c1", requests[1].target)
            assert.matches("resource=https%%3A%%2F%%2Fmanagement.core.windows.net%%2F&client_id=c1$",
                requests[2].target)
            assert.equal("Bearer token-of-machine", used())
            assert.equal("token-that-manages", requests[3].header "X-Databricks-Azure-SP-Management-Token")
            assert.equal("/subscriptions/s/ws", requests[3].header "X-Databricks-Azure-Workspace-Resource-Id")
        end)
    end)

    it("by the machine's identity says what is wrong", function()
        local cases = {
            ["answered 404"] = { status = 404 },
            ["did not say when it expires"] = { json = { access_token = "token-of-machine", expires_on = "never" } },
            ["gave no token that can be used"] = { json = { expires_on = "1" } },
            ["this machine has no identity with the ARM_CLIENT_ID that is set"] = {
                status = 400, json = { error = "invalid_request", error_description = "Identity not found" },
            },
        }
        for words, reply in pairs(cases) do
            local client = open(raw.reply(reply))
            own:set {
                DATABRICKS_AZURE_RESOURCE_ID = "/subscriptions/s/ws", ARM_USE_MSI = "true", ARM_CLIENT_ID = "c1",
                AZURE_POD_IDENTITY_AUTHORITY_HOST = server.url,
            }
            local err = failure(client)
            assert.equal("auth", err.kind)
            assert.matches(words, err.message, 1, true)
            server:close()
        end
        server = nil
    end)

    describe("at Azure's authority", function()
        local world

        after_each(function()
            world:close()
        end)

        --- Answers without a network: each as a token endpoint gives it.
        local function login(environ, answers)
            environ.PATH = "/nonexistent"
            world = fake.world({ environ = environ, answers = answers }):speak_http()
            local config = require "moonflow.databricks.config"
            return require("moonflow.databricks.chain").login(config.read({}, nil))
        end

        local GRANTED = { json = { access_token = "token-of-azure", expires_in = 3600 } }

        it("asks for two tokens with the application's secret, in each cloud", function()
            local clouds = {
                { "https://adb-1.2.azuredatabricks.net", "login.microsoftonline.com", "core.windows.net" },
                { "https://adb-1.2.databricks.azure.us", "login.microsoftonline.us", "core.usgovcloudapi.net" },
                { "https://adb-1.2.databricks.azure.cn", "login.chinacloudapi.cn", "core.chinacloudapi.cn" },
            }
            for _, cloud in ipairs(clouds) do
                login({
                    DATABRICKS_HOST = cloud[1], ARM_CLIENT_ID = "c1", ARM_CLIENT_SECRET = "the-azure-secret",
                    ARM_TENANT_ID = "t1",
                }, { GRANTED })
                assert.equal(2, #world.requests)
                for _, request in ipairs(world.requests) do
                    assert.equal(("https://%s/t1/oauth2/token"):format(cloud[2]), request.url)
                end
                assert.equal("grant_type=client_credentials&client_id=c1&client_secret=the-azure-secret"
                    .. "&resource=2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", world.requests[1].body)
                assert.matches(cloud[3], world.requests[2].body, 1, true)
                world:close()
            end
        end)

        it("takes the cloud that is named, in each spelling", function()
            for given, host in pairs {
                public = "com", PUBLIC = "com", AzurePublicCloud = "com", usgovernment = "us", AzureUSGovernment = "us",
            } do
                login({
                    DATABRICKS_HOST = "https://adb-1.2.azuredatabricks.net", ARM_CLIENT_ID = "c1",
                    ARM_CLIENT_SECRET = "the-azure-secret", ARM_TENANT_ID = "t1", ARM_ENVIRONMENT = given,
                }, { GRANTED })
                assert.equal(("https://login.microsoftonline.%s/t1/oauth2/token"):format(host), world.requests[1].url)
                world:close()
            end
        end)

        it("finds the tenant in the workspace's own redirect", function()
            login({
                DATABRICKS_HOST = "https://adb-1.2.azuredatabricks.net", ARM_CLIENT_ID = "c1",
                ARM_CLIENT_SECRET = "the-azure-secret",
            }, {
                { status = 302, headers = { location = "https://login.microsoftonline.com/tenant-9/oauth2/x?y=z" } },
                GRANTED,
            })
            assert.equal("https://adb-1.2.azuredatabricks.net/aad/auth", world.requests[1].url)
            assert.equal("https://login.microsoftonline.com/tenant-9/oauth2/token", world.requests[2].url)
        end)

        --- The host that Azure names for a workspace's id.
        local function find(workspace_url, more)
            local environ = {
                DATABRICKS_AZURE_RESOURCE_ID = "/subscriptions/s/rg/ws" .. tostring(more or ""), ARM_CLIENT_ID = "c1",
                ARM_CLIENT_SECRET = "the-azure-secret", ARM_TENANT_ID = "t1", PATH = "/nonexistent",
            }
            world = fake.world({ environ = environ, answers = {
                GRANTED, { json = { properties = { workspaceUrl = workspace_url } } },
            } }):speak_http()
            return require("moonflow.settings").place(world.deployments.get_deploy_client "databricks")
        end

        it("asks Azure for the host where only the workspace's id is known", function()
            assert.equal("https://adb-1.2.azuredatabricks.net", find("adb-1.2.azuredatabricks.net").base)
            assert.equal("https://login.microsoftonline.com/t1/oauth2/token", world.requests[1].url)
            assert.matches("resource=https%%3A%%2F%%2Fmanagement.azure.com%%2F$", world.requests[1].body)
            assert.equal("https://management.azure.com/subscriptions/s/rg/ws?api-version=2018-04-01",
                world.requests[2].url)
            assert.equal(2, #world.requests)
        end)

        it("believes Azure no host that is none of its workspaces", function()
            for _, host in ipairs { "evil.test", "azuredatabricks.net.evil.test", "x/adb-1.azuredatabricks.net", 7 } do
                local err = probe.failure(find, host)
                assert.equal("auth", err.kind)
                assert.matches("azure_workspace_resource_id does not lead to it: https://management.azure.com/ names "
                    .. "no host of a workspace", err.message, 1, true)
                world:close()
            end
            assert.matches("is no resource's id", probe.failure(find, "x", "/../y").message, 1, true)
            assert.equal(0, #world.requests)
        end)

        it("says that it found no tenant", function()
            local err = probe.failure(login, {
                DATABRICKS_HOST = "https://adb-1.2.azuredatabricks.net", ARM_CLIENT_ID = "c1",
                ARM_CLIENT_SECRET = "the-azure-secret",
            }, { { status = 404 } })
            assert.matches("azure_tenant_id is not set", err.message, 1, true)
            assert.equal(1, #world.requests)
        end)
    end)

    it("that fails tells of every way, what it lacks, and where each value came from", function()
        server = raw.listen { LIST }
        own:write(".databrickscfg", ("[work]\nhost = %s\nclient_id = c\n"):format(server.url))
        own:set { DATABRICKS_CONFIG_PROFILE = "work" }
        local err = failure(deployments.get_deploy_client "databricks")
        assert.equal("auth", err.kind)
        local path = own.dir .. "/.databrickscfg"
        assert.equal(table.concat({
            ("no Databricks token found in profile work of %s"):format(path),
            "cannot configure default credentials; tried:",
            "  pat: token is not set",
            "  basic: username and password are not set",
            "  metadata-service: metadata_service_url is not set",
            "  oauth-m2m: client_secret is not set",
            "  env-oidc: DATABRICKS_OIDC_TOKEN is not set",
            "  file-oidc: oidc_token_filepath is not set",
            "  github-oidc: actions_id_token_request_url and actions_id_token_request_token are not set",
            "  azure-client-secret: azure_client_id and azure_client_secret are not set",
            "  azure-msi: azure_use_msi is not set",
            "  azure-cli: the host is no workspace of Azure's",
            "  azure-devops-oidc: SYSTEM_ACCESSTOKEN is not set",
            "  model-serving: this is no model that Databricks serves",
            ("  databricks-cli: the Databricks CLI is not installed; there is no %s/.databricks/token-cache.json")
                :format(own.dir),
            "configured:",
            ("  host = %s, from %s:2"):format(server.url, path),
            ("  client_id = c, from %s:3"):format(path),
        }, "\n"), err.message)
        assert.equal(13, #err.ways)
        assert.same({}, server:requests())
    end)

    it("finds the nearest profile, key and auth_type", function()
        own:write(".databrickscfg", "[work]\nhost = https://x\ntokne = y\n")
        assert.equal("did you mean work?", failure(deployments.get_deploy_client "databricks://wrok").hint)
        local lines = probe.listen()
        failure(deployments.get_deploy_client "databricks://work")
        lines:close()
        assert.matches(":3: \"tokne\" is no attribute; did you mean token?", lines[1], 1, true)
        local client = deployments.get_deploy_client("databricks", { host = "https://x", auth_type = "patt" })
        assert.matches("pat", failure(client).hint)
    end)

    it("names a file that can not be read", function()
        local path = own:write("cfg/x", "[a]\n")
        own:set { DATABRICKS_CONFIG_FILE = own.dir .. "/cfg" }
        assert.matches(own.dir .. "/cfg", failure(deployments.get_deploy_client "databricks").message, 1, true)
        own:set { DATABRICKS_CONFIG_FILE = path }
        assert.matches("the section [a] is empty", failure(deployments.get_deploy_client "databricks://a").message, 1,
            true)
    end)

    it("knows no scopes of secrets, and says so in MLflow's words", function()
        local cases = {
            ["databricks://scope:prefix"] = "The hostname and credentials configured by databricks://scope:prefix is "
                .. "invalid. Please create valid hostname secret by command 'databricks secrets put-secret scope "
                .. "prefix-host' and create valid token secret by command 'databricks secrets put-secret scope "
                .. "prefix-token'.",
            ["databricks://a:b:c"] = "Unsupported Databricks profile key prefix: b:c. Key prefixes cannot contain ':'.",
            ["databricks://a:b/c"] = "Unsupported Databricks profile key prefix: b/c. Key prefixes cannot contain '/'.",
            ["databricks://a b"] = "Unsupported Databricks profile name: a b. Profile names cannot contain ' '.",
            ["databricks://a/b:c"] = "Unsupported Databricks profile name: a/b. Profile names cannot contain '/'.",
            ["databricks://scope:"] = "Unsupported Databricks profile key prefix: ''. Key prefixes cannot be empty.",
            ["databricks:/x"] = "URI is formatted incorrectly: no netloc in URI 'databricks:/x'. This may be the case "
                .. "if there is only one slash in the URI.",
        }
        for uri, message in pairs(cases) do
            local err = probe.failure(deployments.get_deploy_client, uri)
            assert.equal("config", err.kind)
            assert.equal(message, err.message)
        end
    end)
end)
