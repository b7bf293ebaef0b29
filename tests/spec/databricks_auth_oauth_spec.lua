--- OAuth of Databricks: how many requests a login costs, when a token is renewed, where a discovery
-- document may lead, and what is said when it fails.
local deployments = require "moonflow.deployments"
local home = require "support.databricks_home"
local probe = require "support.probe"
local raw = require "support.raw"
local task = require "moonflow.task"

local SECRET = "the-secret-of-cid"
local LIST = raw.reply { json = { endpoints = {} } }

local number = 0

local function token(fields)
    local answer = { access_token = "token-number-1", token_type = "Bearer", expires_in = 3600 }
    for name, value in pairs(fields or {}) do
        answer[name] = value
    end
    return raw.reply { json = answer }
end

local function targets(server)
    local list = {}
    for i, request in ipairs(server:requests()) do
        list[i] = request.method .. " " .. request.target
    end
    return list
end

local TOKEN, CALL = "POST /oidc/v1/token", "GET /api/2.0/serving-endpoints/"
local DISCOVERY = "GET /oidc/.well-known/oauth-authorization-server"

describe("OAuth of Databricks", function()
    local own

    before_each(function()
        own = home.new()
        number = number + 1
    end)

    after_each(function()
        own:close()
    end)

    --- Each test's client is another one's, so that no token of another test is there.
    local function client_of(server, options)
        local all = { host = server.url, client_id = "cid-" .. number, client_secret = SECRET, max_retries = 0 }
        for name, value in pairs(options or {}) do
            all[name] = value
        end
        return deployments.get_deploy_client("databricks", all)
    end

    local function failure(client)
        return probe.failure(client.list_endpoints, client)
    end

    it("costs no request with a personal token", function()
        local server <close> = raw.listen { LIST }
        local client = deployments.get_deploy_client("databricks", { host = server.url, token = "dapi-of-tests" })
        client:list_endpoints()
        client:list_endpoints()
        assert.same({ CALL, CALL }, targets(server))
    end)

    it("costs one request, and none while the token lives, for other clients too", function()
        local server <close> = raw.listen { token(), LIST }
        local client = client_of(server)
        assert.same({}, server:requests())
        client:list_endpoints()
        client:list_endpoints()
        client_of(server):list_endpoints()
        assert.same({ TOKEN, CALL, CALL, CALL }, targets(server))
        assert.equal("Bearer token-number-1", server:requests()[4].header "Authorization")
    end)

    it("costs one request however many calls begin at once", function()
        local server <close> = raw.listen {
            raw.reply { wait = 0.2, json = { access_token = "token-number-1", expires_in = "3600" } }, LIST,
        }
        local client, calls = client_of(server), {}
        for i = 1, 10 do
            calls[i] = function()
                return client:list_endpoints()
            end
        end
        task.all(calls)
        local list = targets(server)
        assert.equal(11, #list)
        assert.equal(TOKEN, list[1])
        for i = 2, 11 do
            assert.equal(CALL, list[i])
        end
    end)

    it("renews a token before its end", function()
        local server <close> = raw.listen {
            token { expires_in = 1 }, LIST, token { access_token = "token-number-2" }, LIST,
        }
        local client = client_of(server)
        client:list_endpoints()
        task.sleep(0.8)
        client:list_endpoints()
        assert.same({ TOKEN, CALL, TOKEN, CALL }, targets(server))
        assert.equal("Bearer token-number-2", server:requests()[4].header "Authorization")
    end)

    it("renews a token that is refused, once", function()
        local refused = raw.reply { status = 401, json = { error_code = "UNAUTHENTICATED", message = "revoked" } }
        local server <close> = raw.listen { token(), refused, token { access_token = "token-number-2" }, LIST }
        client_of(server):list_endpoints()
        assert.same({ TOKEN, CALL, TOKEN, CALL }, targets(server))
        server:script { refused, token(), refused }
        local err = failure(client_of(server))
        assert.equal(401, err.http_status)
        assert.same({ CALL, TOKEN, CALL }, { table.unpack(targets(server), 5) })
    end)

    it("reads the discovery document where nothing is at the usual place, once", function()
        local server <close> = raw.listen { raw.reply { status = 404 } }
        server:script {
            raw.reply { status = 404 }, raw.reply { json = { token_endpoint = server.url .. "/other/token" } }, token(),
            LIST, raw.reply { status = 401, json = {} }, token(), LIST,
        }
        local client = client_of(server)
        client:list_endpoints()
        client:list_endpoints()
        assert.same({ TOKEN, DISCOVERY, "POST /other/token", CALL, CALL, "POST /other/token", CALL }, targets(server))
    end)

    it("reads the discovery document that is configured, first", function()
        local server <close> = raw.listen { LIST }
        server:script { raw.reply { json = { token_endpoint = server.url .. "/t" } }, token(), LIST }
        client_of(server, { discovery_url = server.url .. "/my/document" }):list_endpoints()
        assert.same({ "GET /my/document", "POST /t", CALL }, targets(server))
    end)

    it("tells no secret to an endpoint elsewhere", function()
        for _, endpoint in ipairs {
            "https://evil.test/token", "http://127.0.0.1.evil.test/token", "http://192.0.2.1/token", "token", "", 7,
        } do
            local server <close> = raw.listen {
                raw.reply { status = 404 }, raw.reply { json = { token_endpoint = endpoint } },
            }
            local err = failure(client_of(server))
            assert.equal("auth", err.kind)
            assert.matches("token endpoint", err.message)
            assert.same({ TOKEN, DISCOVERY }, targets(server))
        end
    end)

    it("knows which hosts may be told a secret", function()
        local hosts = require "moonflow.databricks.hosts"
        local workspace = "https://dbc-1.cloud.databricks.com"
        for endpoint, good in pairs {
            ["https://dbc-1.cloud.databricks.com/t"] = true, ["https://accounts.cloud.databricks.com/t"] = true,
            ["https://dbc-1.cloud.databricks.com:8443/t"] = true, ["http://dbc-1.cloud.databricks.com/t"] = false,
            ["https://cloud.databricks.com.evil.test/t"] = false, ["https://adb-1.azuredatabricks.net/t"] = false,
            ["https://evilcloud.databricks.com/t"] = false, ["http://127.0.0.1/t"] = false,
        } do
            assert.equal(good, (hosts.may_know(endpoint, { origin = workspace, values = {} })), endpoint)
        end
        assert.is_false((hosts.may_know("https://b.example.com/t", { origin = "https://a.example.com", values = {} })))
    end)

    it("says what is wrong with a discovery document", function()
        local html = raw.reply { headers = { ["Content-Type"] = "text/html" }, body = "<html>Sign in</html>" }
        local cases = {
            ["databricks OAuth is not supported for this host"] = raw.reply { status = 404 },
            ["answered 200 with text/html, not with a discovery document in JSON"] = html,
            ["names no token endpoint"] = raw.reply { json = {} },
            ["answered 500"] = raw.reply { status = 500 },
        }
        for words, reply in pairs(cases) do
            local server <close> = raw.listen { html, reply }
            local err = failure(client_of(server))
            assert.equal("auth", err.kind)
            assert.matches(words, err.message, 1, true)
            assert.matches("for the workspace " .. server.url, err.message, 1, true)
            assert.is_nil(err.http_status)
        end
    end)

    it("waits for no answer longer than the call may take", function()
        for _, replies in ipairs {
            { raw.reply { stall = 0 } }, { raw.reply { status = 404 }, raw.reply { stall = 0 } },
        } do
            local server <close> = raw.listen(replies)
            local seconds, err = probe.timed(failure, client_of(server, { total_timeout = 0.5 }))
            assert.equal("timeout", err.kind)
            assert.is_true(seconds < 2)
        end
    end)

    it("says what the token endpoint said, without the secret", function()
        local server <close> = raw.listen { raw.reply {
            status = 401, json = { error = "invalid_client", error_description = "no client " .. SECRET .. " here" },
        } }
        local err = failure(client_of(server))
        assert.equal("auth", err.kind)
        assert.matches("oauth-m2m: " .. server.url .. " answered 401: invalid_client: no client <redacted> here",
            err.message, 1, true)
        assert.equal(1, #server:requests())
    end)

    it("repeats what passes: 429, 502, 503, 504 and nothing else", function()
        for status, count in pairs { [429] = 2, [502] = 2, [503] = 2, [504] = 2, [400] = 1, [403] = 1, [500] = 1 } do
            number = number + 1
            local server <close> = raw.listen {
                raw.reply { status = status, headers = { ["Retry-After"] = "0" } }, token(), LIST,
            }
            local client = client_of(server)
            if count == 2 then
                client:list_endpoints()
                assert.same({ TOKEN, TOKEN, CALL }, targets(server))
            else
                failure(client)
                assert.same({ TOKEN }, targets(server))
            end
        end
    end)

    it("sends an ID token as it is at the time", function()
        local server <close> = raw.listen { token { expires_in = 1 }, LIST, token(), LIST }
        own:write("id", "id-token-one\n")
        own:set {
            DATABRICKS_HOST = server.url, DATABRICKS_OIDC_TOKEN_FILEPATH = own.dir .. "/id",
        }
        local client = deployments.get_deploy_client "databricks"
        client:list_endpoints()
        own:write("id", "id-token-two")
        task.sleep(0.8)
        client:list_endpoints()
        local requests = server:requests()
        assert.matches("subject_token=id%-token%-one$", requests[1].body)
        assert.matches("subject_token=id%-token%-two$", requests[3].body)
        assert.is_nil(requests[1].header "Authorization")
    end)

    it("does not give one's token to another", function()
        local server <close> = raw.listen { token(), LIST, token { access_token = "token-number-2" }, LIST }
        own:set { DATABRICKS_HOST = server.url, DATABRICKS_OIDC_TOKEN = "id-token-of-one" }
        local client = deployments.get_deploy_client "databricks"
        client:list_endpoints()
        own:set { DATABRICKS_OIDC_TOKEN = "id-token-of-two" }
        client:list_endpoints()
        local requests = server:requests()
        assert.matches("subject_token=id%-token%-of%-two$", requests[3].body)
        assert.equal("Bearer token-number-2", requests[4].header "Authorization")
    end)
end)
