--- What Tab offers, without a terminal.
local client = require "moonflow.client"
local complete = require "moonflow.repl.complete"
local endpoints = require "moonflow.repl.endpoints"
local session = require "moonflow.repl.session"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local calls

local Client = client.BaseDeploymentClient:extend {
    name = "NamesClient",
    list_endpoints = function(self)
        calls = calls + 1
        if self.target_uri == "names:slow" then
            task.sleep(5)
        elseif self.target_uri == "names:broken" then
            error("broken")
        end
        return { { name = "chat" }, { name = "chat-large" }, { name = "embeddings" }, { name = 5 }, "none" }
    end,
}

local function new_session()
    endpoints.forget()
    calls = 0
    local current = session.new()
    local env = current.env
    rawset(env, "client", Client("names:quick"))
    rawset(env, "slow", Client("names:slow"))
    rawset(env, "broken", Client("names:broken"))
    rawset(env, "data", { first = 1, ["second_one"] = 2, ["not a name"] = 3, method = function() end })
    rawset(env, "trap", setmetatable({}, { __index = function() error("called") end, __pairs = error }))
    return current
end

local function offered(text, current)
    local candidates, word = complete.candidates(current or new_session(), text)
    return table.concat(complete.matching(candidates, word), " ")
end

-- Each: what stands before the cursor, what is offered.
local CASES = {
    { "deploym", "deployments" },
    { "x = deploym", "deployments" },
    { "whil", "while" },
    { "print(tostr", "tostring" },
    { "data.", "first method second_one" },
    { "data.f", "first" },
    { "data:", "method" },
    { "_G.data.s", "second_one" },
    { "trap.", "" },
    { "trap.a.b.", "" },
    { "nothing.", "" },
    { "client:pre", "predict predict_stream" },
    { "client.target_u", "target_uri" },
    { "task.sl", "sleep" },
    { "('x'):re", "" },
    { "1.", "" },
    { "client:predict{ end", "endpoint = " },
    { "client:predict { inputs = x, en", "endpoint = " },
    { "client:predict { inputs = x, endpoint = da", "data" },
    { "client:get_endpoint { ", "endpoint =  options = " },
    { 'client:predict{ endpoint = "', "chat chat-large embeddings" },
    { "client:predict{ endpoint = 'chat-", "chat-large" },
    { 'client:predict { inputs = { prompt = "x" }, endpoint = "e', "embeddings" },
    { 'client:get_endpoint("cha', "chat chat-large" },
    { 'client:get_endpoint{ endpoint = "cha', "chat chat-large" },
    { 'print("cha', "" },
    { 'deployments.get_deploy_client("databr', "databricks" },
    { 'deployments.get_deploy_client "http', "http://localhost:5000" },
    { 'require "moonflow.ba', "moonflow.base64" },
    { "-- data.", "" },
    { "x = [[data.", "" },
    { "x = 'it\\'s' data.f", "first" },
    { 'x = "a" -- "\ndata.f', "first" },
    { ",he", "help" },
    { ",doc client.pred", "predict predict_stream" },
    { ",target open", "openai" },
    { ",set dep", "depth=" },
}

describe("completion", function()
    for _, case in ipairs(CASES) do
        it(("of %q"):format(case[1]), function()
            assert.equal(case[2], offered(case[1]))
        end)
    end

    it("asks a target once for a while", function()
        local current = new_session()
        for _ = 1, 3 do
            offered('client:predict{ endpoint = "', current)
        end
        assert.equal(1, calls)
    end)

    it("does not wait for a slow target", function()
        local current = new_session()
        local started = sys.monotonic()
        assert.equal("", offered('slow:predict{ endpoint = "', current))
        assert.is_true(sys.monotonic() - started < 2)
        assert.equal(1, calls)
    end)

    it("offers nothing where a target fails", function()
        assert.equal("", offered('broken:predict{ endpoint = "'))
    end)

    it("puts in what is common, and closes a string", function()
        local current = new_session()
        local function at(text)
            local delete, insert = complete.at(current, text, #text)
            return delete and ("%d %s"):format(delete, insert)
        end
        assert.equal("7 deployments", at "deploym")
        assert.equal("2 chat", at 'client:get_endpoint("ch')
        assert.equal("1 embeddings\"", at 'client:get_endpoint("e')
        assert.equal("0     ", at "if x then\n")
        assert.is_nil(at "nothing_like_that")
    end)

    it("puts nothing into the line that a terminal obeys", function()
        local current = new_session()
        rawset(current.env, "client", Client:extend {
            list_endpoints = function() return { { name = "evil\27[2J\nname" } } end,
        }("names:evil"))
        assert.is_nil((complete.at(current, 'client:get_endpoint("ev', 23)))
    end)
end)
