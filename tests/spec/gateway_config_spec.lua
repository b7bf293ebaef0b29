--- The endpoints' table of `moonflow serve`, and the limits it sets.
local config = require "moonflow.gateway.config"
local limits = require "moonflow.gateway.limits"

local function handler() end

--- An endpoint that is right, with some fields changed; false takes one out.
local function endpoint(fields)
    local made = { name = "a", endpoint_type = "llm/v1/chat", handler = handler }
    for name, value in pairs(fields or {}) do
        made[name] = value or nil
    end
    return made
end

local function refused(given)
    local ok, err = pcall(config.check, given)
    assert.is_false(ok)
    assert.equal("config", err.kind)
    return err
end

describe("config.check", function()
    it("fills in the model and the limit, in tables of its own", function()
        local given = endpoint { limit = { calls = 3, renewal_period = "hour" } }
        local made = config.check { given }[1]
        assert.same({ name = "a", provider = "moonflow" }, made.model)
        assert.same({ calls = 3, renewal_period = "hour" }, made.limit)
        assert.same({}, made.faults)
        assert.equal(handler, made.produce)
        assert.not_equal(given.limit, made.limit)
        made.model.name = "changed"
        assert.is_nil(given.model)
    end)

    it("takes the target's endpoint as the model's name", function()
        local made = config.check { endpoint { handler = false, target = "openai", endpoint = "gpt-4o-mini" } }[1]
        assert.equal("gpt-4o-mini", made.model.name)
        assert.is_function(made.produce)
        local model = { name = "m", provider = "p" }
        made = config.check { endpoint { handler = false, target = "openai", model = model } }[1]
        assert.same(model, made.model)
        assert.equal("a", made.targets[1].endpoint)
    end)

    it("takes several targets", function()
        local made = config.check { endpoint { handler = false, targets = {
            { target = "openai", endpoint = "x", weight = 80 }, { target = "openai", weight = 0.5 },
            { target = "databricks", fallback = true },
        } } }[1]
        assert.equal("x", made.targets[1].endpoint)
        assert.equal("a", made.targets[3].endpoint)
        assert.is_true(made.targets[3].fallback)
    end)

    it("takes every name that MLflow takes, and the same periods", function()
        for _, name in ipairs { "a", "A.b-c_9", "...", ("x"):rep(256) } do
            assert.equal(name, config.check({ endpoint { name = name } })[1].name)
        end
        for _, period in ipairs { "second", "minutes", "5 hours", "Day", "month", "year", " 2minute " } do
            config.check { endpoint { limit = { calls = 1, renewal_period = period } } }
        end
    end)

    for message, fields in pairs {
        ["endpoint 1: the name must be made of letters, digits, \"_\", \"-\" and \".\", not nil"] = { name = false },
        ["not \"a/b\""] = { name = "a/b" },
        ["not 7"] = { name = 7 },
        ["endpoint a: endpoint_type can not be nil"] = { endpoint_type = false },
        ["endpoint a: \"handle\" is no field of this"] = { handle = handler },
        ["endpoint a: it needs one of handler, target and targets"] = { target = "openai" },
        ["endpoint a: handler must be a function, not string"] = { handler = "x" },
        ["endpoint a, model: \"nam\" is no field of this"] = { model = { nam = "x" } },
        ["endpoint a: model.name must be a string, not 7"] = { model = { name = 7 } },
        ["endpoint a: model.provider must be a string, not a table"] = { model = { provider = {} } },
        ["endpoint a, model: a table expected, not \"gpt\""] = { model = "gpt" },
        ["endpoint a, limit: a table expected, not 5"] = { limit = 5 },
        ["endpoint a: limit.calls must be an integer above 0, not 0"] = { limit = { calls = 0 } },
        ["endpoint a: limit.calls must be an integer above 0, not 1.5"] = { limit = { calls = 1.5 } },
        ["endpoint a: limit.renewal_period can not be nil"] = { limit = { calls = 1 } },
        ["endpoint a: limit.renewal_period can not be \"fortnight\""] = {
            limit = { calls = 1, renewal_period = "fortnight" },
        },
        ["endpoint a: limit.key must be a string, not 1"] = {
            limit = { calls = 1, renewal_period = "minute", key = 1 },
        },
        ["endpoint a: target must be a target's URI, not 5"] = { handler = false, target = 5 },
        ["endpoint a: options must be a table, not \"x\""] = { handler = false, target = "openai", options = "x" },
        ["endpoint a: endpoint must be a string, not 5"] = { handler = false, target = "openai", endpoint = 5 },
        ["endpoint a: targets must be a list"] = { handler = false, targets = {} },
        ["endpoint a, targets[2]: a table expected, not \"x\""] = {
            handler = false, targets = { { target = "openai" }, "x" },
        },
        ["endpoint a, targets[1]: \"wait\" is no field of this"] = {
            handler = false, targets = { { target = "openai", wait = 5 } },
        },
        ["endpoint a, targets[1]: weight must be a number from 0, not -1"] = {
            handler = false, targets = { { target = "openai", weight = -1 } },
        },
        ["endpoint a, targets[1]: fallback must be a boolean, not \"yes\""] = {
            handler = false, targets = { { target = "openai", fallback = "yes" } },
        },
        ["endpoint a: one of the targets must be no fallback"] = {
            handler = false, targets = { { target = "openai", fallback = true } },
        },
        ["endpoint a: status can not be 200"] = { fault = { status = 200 } },
    } do
        it("refuses: " .. message, function()
            local err = refused { endpoint(fields) }
            assert.is_truthy(err.message:find(message, 1, true), err.message)
        end)
    end

    it("names the nearest word", function()
        assert.equal('did you mean "llm/v1/chat"?', refused({ endpoint { endpoint_type = "llm/v1/chats" } }).hint)
        assert.equal('did you mean "handler"?', refused({ endpoint { handle = handler } }).hint)
        local limit = { calls = 1, renewal_period = "minuet" }
        assert.equal('did you mean "minute"?', refused({ endpoint { limit = limit } }).hint)
    end)

    it("wants a list, with different names", function()
        for _, given in ipairs { {}, { chat = endpoint() }, "x", 5 } do
            assert.matches("a list of endpoints expected", refused(given).message)
        end
        assert.matches('without the field "chat"', refused({ endpoint(), chat = endpoint() }).message)
        assert.matches("there are two of this name", refused({ endpoint(), endpoint() }).message)
    end)
end)

describe("a limit", function()
    local now
    local function clock()
        return now
    end
    before_each(function()
        now = 100
    end)

    it("is so many calls in a window that the first one opens", function()
        local counter = limits.new({ calls = 2, renewal_period = "minute" }, clock)
        assert.same({ 1, 60 }, { limits.take(counter, "p") })
        now = 130
        assert.same({ 0, 30 }, { limits.take(counter, "p") })
        now = 159.5
        local remaining, seconds = limits.take(counter, "p")
        assert.is_nil(remaining)
        assert.equal(0.5, seconds)
        now = 160
        assert.same({ 1, 60 }, { limits.take(counter, "p") })
    end)

    it("is each client's own", function()
        local counter = limits.new({ calls = 1, renewal_period = "second" }, clock)
        assert.equal(0, (limits.take(counter, "p")))
        assert.equal(0, (limits.take(counter, "q")))
        assert.is_nil((limits.take(counter, "p")))
    end)

    it("is of a period of several units", function()
        local counter = limits.new({ calls = 5, renewal_period = "3 Minutes" }, clock)
        assert.equal("5 per 3 minute", counter.text)
        assert.same({ 4, 180 }, { limits.take(counter, "p") })
        assert.equal("1 per 1 day", limits.new({ calls = 1, renewal_period = "day" }).text)
    end)

    it("reads no other periods", function()
        for _, given in ipairs { "", "x", "-1 minute", "0 minutes", "1.5 hours", "minute/2", ("9"):rep(31), "s", 5 } do
            assert.is_nil(limits.read_period(given))
        end
        assert.is_nil(limits.read_period(nil))
        assert.is_nil(limits.read_period((" "):rep(100000) .. "minute"))
    end)

    it("keeps 10,000 clients and one window for all others", function()
        local counter = limits.new({ calls = 2, renewal_period = "minute" }, clock)
        for i = 1, 10000 do
            assert.equal(1, (limits.take(counter, "p" .. i)))
        end
        assert.equal(1, (limits.take(counter, "other")))
        assert.equal(0, (limits.take(counter, "another")))
        assert.is_nil((limits.take(counter, "a third")))
        assert.equal(0, (limits.take(counter, "p1")))
        assert.is_true(counter.count <= 10001)
        now = now + 60
        assert.equal(1, (limits.take(counter, "a third")))
        assert.equal(1, counter.count)
    end)
end)
