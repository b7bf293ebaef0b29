--- moonflow.tokens: when a token is fetched, how often, and for whom.
local auth = require "moonflow.auth"
local error_object = require "moonflow.error"
local fake = require "support.fake"
local task = require "moonflow.task"

describe("moonflow.tokens", function()
    local tokens, world, fetches

    before_each(function()
        world = fake.world {}
        tokens = world.tokens
        fetches = 0
    end)

    after_each(function()
        world:close()
    end)

    --- A fetch that takes so long on the real clock, and gives a new token each time.
    local function fetching(expires_in, seconds)
        return function()
            fetches = fetches + 1
            local number = fetches
            if seconds then
                task.sleep(seconds)
            end
            return { secret = auth.secret("token-number-" .. number), expires_in = expires_in, number = number }
        end
    end

    local function failing(seconds, fields)
        return function()
            fetches = fetches + 1
            task.sleep(seconds or 0)
            error(error_object.new(fields or { kind = "auth", message = "refused" }))
        end
    end

    local function number(key, fetch)
        return tokens.get(key, fetch).number
    end

    local function failure(...)
        local ok, err = pcall(tokens.get, ...)
        assert.is_false(ok)
        return err
    end

    it("keeps a token until five minutes before its end", function()
        local fetch = fetching(3600)
        assert.equal(1, number("k", fetch))
        world.now = world.now + 3299
        assert.equal(1, number("k", fetch))
        world.now = world.now + 1
        assert.equal(2, number("k", fetch))
        assert.equal(2, fetches)
    end)

    it("keeps a short one for three quarters of its life", function()
        local fetch = fetching(40)
        assert.equal(1, number("k", fetch))
        world.now = world.now + 29.9
        assert.equal(1, number("k", fetch))
        world.now = world.now + 0.1
        assert.equal(2, number("k", fetch))
    end)

    it("counts the time from the start of the fetch", function()
        local function slow()
            fetches = fetches + 1
            world.now = world.now + 30
            return { secret = auth.secret "slow-token", expires_in = 40, number = fetches }
        end
        assert.equal(1, number("k", slow))
        assert.equal(2, number("k", slow))
    end)

    it("keeps each key's own, and what else the fetch returned", function()
        assert.equal(1, number("a", fetching(100)))
        assert.equal(2, number("b", fetching(100)))
        assert.equal(1, number("a", fetching(100)))
        assert.is_true(auth.is_secret(tokens.get("a").secret))
    end)

    it("fetches once for all who ask at the same time", function()
        local fetch = fetching(100, 0.05)
        local askers = {}
        for i = 1, 20 do
            askers[i] = function()
                return tokens.get("k", fetch)
            end
        end
        local results = task.all(askers)
        assert.equal(1, fetches)
        for i = 1, 20 do
            assert.equal(results[1], results[i])
        end
    end)

    it("goes on when one of those who wait is cancelled, even the first", function()
        local fetch = fetching(100, 0.1)
        local first = task.spawn(tokens.get, "k", fetch)
        local second = task.spawn(tokens.get, "k", fetch)
        task.sleep(0.02)
        first:cancel()
        assert.equal(1, second:wait().number)
        assert.equal(1, fetches)
    end)

    it("ends a fetch that nobody waits for any more", function()
        local closed = false
        local function fetch()
            fetches = fetches + 1
            local _ <close> = setmetatable({}, { __close = function() closed = true end })
            task.sleep(30)
        end
        local first, second = task.spawn(tokens.get, "k", fetch), task.spawn(tokens.get, "k", fetch)
        task.sleep(0.01)
        first:cancel()
        assert.is_false(closed)
        second:cancel()
        assert.is_true(closed)
        assert.equal(2, number("k", fetching(100)))
    end)

    it("gives a failure to all who wait, to each a copy, and keeps none", function()
        local caught = {}
        local fetch = failing(0.02, { kind = "auth", message = "refused", hint = "h", cause = { 1 } })
        local askers = {}
        for i = 1, 5 do
            askers[i] = function()
                local err = failure("k", fetch)
                caught[i] = err
                err["own" .. i] = true
            end
        end
        task.all(askers)
        assert.equal(1, fetches)
        for i = 1, 5 do
            assert.is_true(error_object.is(caught[i]))
            assert.equal("auth", caught[i].kind)
            assert.equal("UNAUTHENTICATED", caught[i].error_code)
            assert.equal("refused", caught[i].message)
            assert.equal("h", caught[i].hint)
            for j = 1, 5 do
                assert.equal(i == j or nil, caught[i]["own" .. j])
            end
        end
        assert.equal(2, number("k", fetching(100)))
    end)

    it("raises what is no error object as it is", function()
        local value = {}
        assert.equal(value, failure("k", function()
            error(value)
        end))
    end)

    it("uses a token that could not be renewed until its end, and not after it", function()
        assert.equal(1, number("k", fetching(3600)))
        world.now = world.now + 3599
        assert.equal(1, number("k", failing()))
        assert.equal(2, fetches)
        world.now = world.now + 1
        assert.equal("refused", failure("k", failing()).message)
    end)

    it("forgets a token that is still the one", function()
        local fetch = fetching(3600)
        local first = tokens.get("k", fetch).secret
        tokens.forget("k", auth.secret "token-number-1")
        assert.equal(1, number("k", fetch))
        tokens.forget("other", first)
        assert.equal(1, number("k", fetch))
        tokens.forget("k", first)
        assert.equal(2, number("k", fetch))
        tokens.forget("k", first)
        assert.equal(2, number("k", fetch))
    end)

    it("does not use a forgotten token when the next fetch fails", function()
        local first = tokens.get("k", fetching(3600)).secret
        tokens.forget("k", first)
        assert.equal("refused", failure("k", failing()).message)
    end)

    describe("with a limit of time", function()
        it("raises a timeout that names what did not come, and ends the fetch", function()
            local closed = false
            local function fetch()
                local _ <close> = setmetatable({}, { __close = function() closed = true end })
                task.sleep(30)
            end
            for _, seconds in ipairs { 0.05, 0, -1 } do
                local err = failure("k", fetch, seconds, "the token for tests")
                assert.equal("timeout", err.kind)
                assert.equal(("the token for tests did not come within %s s"):format(seconds == 0.05 and "0.05" or "0"),
                    err.message)
            end
            assert.is_true(closed)
            assert.equal(1, number("k", fetching(100)))
        end)

        it("leaves the fetch to the others who wait", function()
            local fetch = fetching(100, 0.2)
            local other = task.spawn(tokens.get, "k", fetch, 10)
            task.sleep(0.01)
            assert.equal("timeout", failure("k", fetch, 0.02).kind)
            assert.equal("waiting", other:status())
            assert.equal(1, other:wait().number)
            assert.equal(1, fetches)
        end)

        it("gives a kept token at once, and one that is still good after the time", function()
            local fetch = fetching(3600)
            assert.equal(1, tokens.get("k", fetch, 10).number)
            assert.equal(1, tokens.get("k", fetch, 0).number)
            world.now = world.now + 3599
            assert.equal(1, tokens.get("k", fetching(3600, 30), 0.02).number)
            world.now = world.now + 1
            assert.equal("timeout", failure("k", fetching(3600, 30), 0.02).kind)
        end)
    end)

    it("refuses a fetch that returns no token", function()
        local secret = auth.secret "some-token"
        for _, result in ipairs {
            "token", {}, { secret = "plain", expires_in = 1 }, { secret = secret }, { secret = secret, expires_in = 0 },
            { secret = secret, expires_in = "60" }, { secret = secret, expires_in = 0 / 0 },
            { secret = secret, expires_in = -1 },
        } do
            local err = failure("k", function()
                return result
            end)
            assert.equal("usage", err.kind)
        end
    end)

    it("waits in places that can not yield", function()
        local got = {}
        table.sort({ 1, 2 }, function(a, b)
            got[#got + 1] = number("k", fetching(100, 0.01))
            return a < b
        end)
        assert.equal(1, got[1])
    end)
end)
