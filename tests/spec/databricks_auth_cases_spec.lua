--- How a Databricks client logs in, in every case of tests/conformance/databricks_auth_cases.json, and
-- whether Databricks' own SDK does so too. A case that `differs` says why it does not; one that `repeats`,
-- why the SDK sends the same request more than once.
local conformance = require "support.conformance"
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local error_object = require "moonflow.error"
local home = require "support.databricks_home"
local json = require "moonflow.json"
local raw = require "support.raw"
local settings = require "moonflow.settings"
local sys = require "moonflow.sys"

local RECORD = "MOONFLOW_TEST_CONFORMANCE_DATABRICKS"
local HOST_METADATA = "/.well-known/databricks-config"
local DISCOVERY = "/.well-known/oauth-authorization-server"

local function replaced(value, old, new)
    local text = assert(json.encode(value))
    return assert(json.decode((text:gsub(old, (new:gsub("%%", "%%%%"))))))
end

--- What the server answers to each request that is expected before the first call.
local function answers(case, url)
    local replies = {}
    for i, request in ipairs(case.expect.token_requests or {}) do
        local answer = { access_token = "server-token-1", token_type = "Bearer" }
        if request.path == "/metadata" then
            answer.expires_on = math.floor(sys.time()) + 3600
        elseif request.path == "/github" then
            answer = { value = "id-token-of-env" }
        elseif request.path:find "/oidctoken$" then
            answer = { oidcToken = "id-token-of-env" }
        elseif request.path == HOST_METADATA then
            answer = case.metadata or { oidc_endpoint = url .. "/oidc" }
        elseif request.path:find(DISCOVERY, 1, true) then
            answer = { token_endpoint = url .. request.path:sub(1, -#DISCOVERY - 1) .. "/v1/token" }
        else
            answer.expires_in = 3600
        end
        replies[i] = raw.reply { json = answer }
    end
    replies[#replies + 1] = raw.reply { json = { endpoints = {} } }
    return replies
end

local function unescape(text)
    return (text:gsub("%+", " "):gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end))
end

local function shown_request(request)
    local path, query = request.target:match "^([^?]*)%??(.*)$"
    local shown = { path = path, authorization = request.header "Authorization" }
    shown.query = query ~= "" and unescape(query) or nil
    if request.body ~= "" then
        shown.form = {}
        for name, value in request.body:gmatch "([^&=]+)=([^&]*)" do
            shown.form[unescape(name)] = unescape(value)
        end
    end
    return shown
end

--- Logs in and lists the endpoints; where the host is only a name, all but that.
local function log_in(case, server)
    for _, name in ipairs { "oauth", "oidc", "well_known" } do
        package.loaded["moonflow.databricks." .. name] = nil -- which keep what they found
    end
    local options = case.options or {}
    local client = deployments.get_deploy_client(
        case.profile and "databricks://" .. case.profile or "databricks", options)
    local place = settings.place(client)
    local candidates = require("moonflow.databricks.chain").candidates(place.config)
    local outcome = { auth_type = candidates[1].name, host = place.base }
    if place.base ~= server.url then
        if case.expect.error or case.expect.auth_type ~= outcome.auth_type then
            local login = require("moonflow.databricks.chain").login(place.config)
            outcome.auth_type = login.way
        end
        return outcome
    end
    client:list_endpoints()
    outcome.auth_type = place.config.chosen.name
    local requests = server:requests()
    local last = table.remove(requests)
    assert.equal("/api/2.0/serving-endpoints/", last.target)
    outcome.authorization = last.header "Authorization"
    outcome.workspace = last.header "X-Databricks-Workspace-Id"
    outcome.resource = last.header "X-Databricks-Azure-Workspace-Resource-Id"
    outcome.management = last.header "X-Databricks-Azure-SP-Management-Token"
    for i, request in ipairs(requests) do
        outcome.token_requests = outcome.token_requests or {}
        outcome.token_requests[i] = shown_request(request)
    end
    return outcome
end

local function run(case)
    local server <close> = raw.listen {}
    local own <close> = home.new()
    case = replaced(replaced(case, "SERVER_URL", server.url), "DIR/", own.dir .. "/")
    server:script(answers(case, server.url))
    for name, text in pairs(case.files or {}) do
        own:write(name, (text:gsub("PADDING", home.PADDING)))
    end
    own:set(case.env or {})
    local ok, outcome = pcall(log_in, case, server)
    if not ok then
        assert(error_object.is(outcome), outcome)
        outcome = { error = outcome.kind, message = tostring(outcome) }
        assert.is_nil(outcome.message:find("secret-of", 1, true))
        assert.is_nil(outcome.message:find("pass-of", 1, true))
    end
    return outcome, case.expect, server.url
end

local function check(expected, outcome)
    if expected.error then
        assert.equal(expected.error, outcome.error, outcome.message)
        for _, words in ipairs(expected.says) do
            assert.matches(words, outcome.message, 1, true)
        end
        return
    end
    assert.is_nil(outcome.error, outcome.message)
    for name, value in pairs(expected) do
        assert.same(value, outcome[name], name)
    end
end

--- The requests that are not for a document which says where something is: those the SDK has read before.
-- One that `repeats` counts once.
local function relevant(requests, repeats)
    local list, last = {}, nil
    for _, request in ipairs(requests or {}) do
        local text = conformance.canonical(request)
        if not request.path:find("/.well-known/", 1, true) and not (repeats and text == last) then
            list[#list + 1] = request
            last = text
        end
    end
    return list
end

--- Whether the SDK's record says the same of all that we know.
local function agrees(record, outcome, url, repeats)
    if record.error or outcome.error then
        return not record.error == not outcome.error
    end
    local theirs, ours = {}, {}
    for name, value in pairs(outcome) do
        theirs[name], ours[name] = record[name], value
    end
    ours = replaced(ours, url:gsub("%p", "%%%0"), "http://SERVER")
    theirs.host = theirs.host and theirs.host:gsub("^https://[^/?]+", string.lower)
    ours.token_requests = relevant(ours.token_requests, false)
    theirs.token_requests = relevant(record.token_requests, repeats)
    return conformance.canonical(theirs) == conformance.canonical(ours)
end

describe("logging in to Databricks:", function()
    local cases = conformance.read "tests/conformance/databricks_auth_cases.json"
    for _, case in ipairs(cases) do
        it(case.name, function()
            local outcome, expected = run(case)
            check(expected, outcome)
        end)
    end

    for _, case in ipairs(cases) do
        it(("%s, %s Databricks' SDK"):format(case.name, case.differs and "unlike" or "as"), function()
            local record = conformance.record(RECORD, case.name)
            local outcome, _, url = run(case)
            local same = agrees(record, outcome, url, case.repeats)
            if case.differs then
                assert.is_false(same, "it does not differ any more: " .. case.differs)
            else
                assert.is_true(same, json.encode { sdk = record, moonflow = outcome })
            end
        end)
    end

    it("leaves the environment as it was", function()
        local before = env.HOME
        run { name = "none", expect = {} }
        assert.equal(before, env.HOME)
    end)
end)
