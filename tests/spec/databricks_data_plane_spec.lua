--- Queries of route-optimised endpoints: at their own URL, with a token for them alone.
local databricks = require "support.databricks"
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local json = require "moonflow.json"
local raw = require "support.raw"

local failure = databricks.failure

local DETAILS = '[{"type":"workspace_permission","object_path":"/serving-endpoints/0a1b"}]'

local environment

before_each(function()
    environment = databricks.hide_environment()
end)

after_each(function()
    getmetatable(environment).__close(environment)
end)

local clients = 0

--- A client of a workspace that logs in as an application, another one each time: tokens are kept.
local function machine(workspace)
    clients = clients + 1
    return deployments.get_deploy_client("databricks", {
        host = workspace.url, client_id = "app-" .. clients, client_secret = "s3cret-of-the-app", max_retries = 0,
    })
end

local function token(text)
    return raw.reply { json = { access_token = text, expires_in = 3600, token_type = "Bearer" } }
end

local function described(plane, details)
    return raw.reply {
        json = {
            name = "e", id = "0a1b", route_optimized = true,
            data_plane_info = {
                query_info = { endpoint_url = plane.url .. "/1/serving-endpoints/e/invocations",
                    authorization_details = details },
            },
        },
    }
end

local ANSWER = raw.reply { json = { predictions = { 1 } } }
local QUERY = { endpoint = "e", inputs = { inputs = { 1 } }, route_optimized = true }

local function form_of(request)
    local form = {}
    for name, value in request.body:gmatch("([^&=]+)=([^&]*)") do
        form[name] = value:gsub("%+", " "):gsub("%%(%x%x)", function(hex)
            return string.char(tonumber(hex, 16))
        end)
    end
    return form
end

describe("a route-optimised endpoint", function()
    it("is asked at its own URL, with a token for it that the second query uses again", function()
        local plane <close> = raw.listen { ANSWER }
        local workspace <close> = raw.listen { token "of-the-workspace", described(plane, DETAILS), token "of-e" }
        local client = machine(workspace)
        for _ = 1, 2 do
            assert.same({ predictions = { 1 } }, client:predict(QUERY))
        end
        local control, data = workspace:requests(), plane:requests()
        assert.equal(3, #control)
        assert.equal("Bearer of-the-workspace", control[2].header "Authorization")
        assert.equal("/api/2.0/serving-endpoints/e", control[2].target)
        assert.equal(DETAILS, form_of(control[3]).authorization_details)
        assert.equal("client_credentials", form_of(control[3]).grant_type)
        assert.equal(2, #data)
        for _, request in ipairs(data) do
            assert.equal("POST", request.method)
            assert.equal("/1/serving-endpoints/e/invocations", request.target)
            assert.equal("Bearer of-e", request.header "Authorization")
            assert.equal('{"inputs":[1]}', request.body)
        end
    end)

    it("takes a token in exchange for that of another way to log in", function()
        local plane <close> = raw.listen { ANSWER }
        local workspace <close> = raw.listen { token "of-the-workspace", described(plane, DETAILS), token "of-e" }
        local ways = {
            ["env-oidc"] = { DATABRICKS_OIDC_TOKEN = "id-token-of-env" },
            ["file-oidc"] = { DATABRICKS_OIDC_TOKEN_FILEPATH = os.tmpname() },
        }
        local path = ways["file-oidc"].DATABRICKS_OIDC_TOKEN_FILEPATH
        local file = assert(io.open(path, "w"))
        file:write "id-token-of-file"
        file:close()
        for way, variables in pairs(ways) do
            variables.DATABRICKS_HOST, variables.DATABRICKS_AUTH_TYPE = workspace.url, way
            for name, value in pairs(variables) do
                env[name] = value
            end
            workspace:script { token "of-the-workspace", described(plane, DETAILS), token("of-e-" .. way) }
            local client = deployments.get_deploy_client "databricks"
            for _ = 1, 2 do
                client:predict(QUERY)
            end
            local control, data = workspace:requests(), plane:requests()
            local form = form_of(control[#control])
            assert.equal("urn:ietf:params:oauth:grant-type:jwt-bearer", form.grant_type)
            assert.equal("of-the-workspace", form.assertion)
            assert.equal(DETAILS, form.authorization_details)
            assert.is_nil(control[#control].header "Authorization")
            assert.equal("Bearer of-e-" .. way, data[#data].header "Authorization")
            assert.equal(0, #control % 3)
        end
        os.remove(path)
    end)

    it("streams", function()
        local event = 'data: {"choices":[{"index":0,"delta":{"content":"He"}}]}\n\ndata: [DONE]\n\n'
        local plane <close> = raw.listen {
            raw.reply { headers = { ["Content-Type"] = "text/event-stream" }, body = event },
        }
        local workspace <close> = raw.listen { token "of-the-workspace", described(plane, DETAILS), token "of-e" }
        local count = 0
        for chunk in machine(workspace):predict_stream {
            endpoint = "e", inputs = { messages = {}, stream = false }, route_optimized = true,
        } do
            assert.equal("He", chunk.choices[1].delta.content)
            count = count + 1
        end
        assert.equal(1, count)
        assert.same({ messages = {}, stream = true }, json.decode(plane:requests()[1].body))
    end)

    it("gets another token after a 401, once", function()
        local plane <close> = raw.listen { raw.reply { status = 401, json = { message = "expired" } }, ANSWER }
        local workspace <close> = raw.listen {
            token "of-the-workspace", described(plane, DETAILS), token "of-e", token "of-e-anew",
        }
        machine(workspace):predict(QUERY)
        assert.equal("Bearer of-e-anew", plane:requests()[2].header "Authorization")
        assert.equal(4, #workspace:requests())
    end)

    it("is looked for again after a 404", function()
        local plane <close> = raw.listen { raw.reply { status = 404, json = { message = "gone" } }, ANSWER }
        local workspace <close> = raw.listen {
            token "of-the-workspace", described(plane, DETAILS), token "of-e", described(plane, DETAILS),
        }
        local client = machine(workspace)
        assert.equal(404, failure(client.predict, client, QUERY).http_status)
        client:predict(QUERY)
        assert.equal("GET", workspace:requests()[4].method)
    end)

    it("that does not say what its token is for has that in its host", function()
        local plane <close> = raw.listen { ANSWER }
        local workspace <close> = raw.listen { token "of-the-workspace", described(plane), token "of-e" }
        machine(workspace):predict(QUERY)
        local details = json.decode(form_of(workspace:requests()[3]).authorization_details)
        assert.equal("/serving-endpoints/127", details[1].object_path)
        assert.same({ "query_inference_endpoint" }, details[1].actions)
    end)

    it("takes no personal access token", function()
        local plane <close> = raw.listen { ANSWER }
        local workspace <close> = raw.listen { described(plane, DETAILS) }
        local client = databricks.client_of(workspace)
        local err = failure(client.predict, client, QUERY)
        assert.equal("auth", err.kind)
        assert.matches("the login pat gives none", err.message, 1, true)
        assert.same({}, plane:requests())
    end)

    it("elsewhere gets no token", function()
        local workspace <close> = raw.listen {
            token "of-the-workspace", described({ url = "https://evil.example" }, DETAILS), token "of-e",
        }
        local client = machine(workspace)
        local err = failure(client.predict, client, QUERY)
        assert.equal("config", err.kind)
        assert.matches("gets no token", err.message, 1, true)
        assert.equal(2, #workspace:requests())
    end)

    it("is not one without a URL of its own", function()
        local workspace <close> = raw.listen { token "of-the-workspace", raw.reply { json = { name = "e" } } }
        local client = machine(workspace)
        assert.equal("unsupported", failure(client.predict, client, QUERY).kind)
        local args = { endpoint = "e", inputs = {}, route_optimized = true, served_model = "m" }
        assert.equal("usage", failure(client.predict, client, args).kind)
    end)
end)
