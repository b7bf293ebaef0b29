--- Faults on demand: their texts and tables, when they happen, and what they do to an answer.
local answers = require "support.answers"
local faults = require "moonflow.gateway.faults"
local server = require "moonflow.server"
local task = require "moonflow.task"

describe("gateway.faults", function()
    local calls

    before_each(function()
        calls = 0
    end)

    local function good(text)
        calls = calls + 1
        return 200, { ["Content-Type"] = "text/plain" }, text or "hello"
    end

    local function wrap(words, face, ...)
        return faults.wrap({ (faults.parse(words)) }, face or "mlflow", good, ...)
    end

    --- An iterator over three pieces that notes how far it came and whether it was closed.
    local function stream()
        local state = { sent = 0 }
        return state, setmetatable({}, {
            __call = function()
                task.sleep(0)
                if state.sent < 3 then
                    state.sent = state.sent + 1
                    return "piece " .. state.sent
                end
            end,
            __close = function()
                state.closed = true
            end,
        })
    end

    local function wrap_stream(words)
        local state, body = stream()
        return state, faults.wrap({ (faults.parse(words)) }, "mlflow", function()
            return 200, {}, body
        end)
    end

    --- The pieces of a body, and what it raised at its end.
    local function read(body)
        local pieces = {}
        local _ <close> = body
        local ok, failure = pcall(function()
            for piece in body do
                pieces[#pieces + 1] = piece
            end
        end)
        return pieces, not ok and failure or nil
    end

    describe("parse", function()
        it("reads an endpoint and words", function()
            local fault, endpoint = faults.parse "a-b.c_1:429,retry-after=2,every=3"
            assert.equal("a-b.c_1", endpoint)
            assert.same({ 429, 2, 3 }, { fault.status, fault.retry_after, fault.every })
            fault, endpoint = faults.parse "latency=0.25,rate=0.5,times=4"
            assert.is_nil(endpoint)
            assert.same({ 0.25, 0.5, 4 }, { fault.latency, fault.rate, fault.times })
            assert.is_true(faults.parse("lose,times=1").lose)
            assert.equal(0, faults.parse("cut=0").cut)
        end)

        it("names the word that is wrong, and the nearest one", function()
            for words, expected in pairs {
                ["latencyy=1"] = { 'fault "latencyy=1": "latencyy" is not a field', 'did you mean "latency"?' },
                ["loose"] = { '"loose" is no word', 'did you mean "lose"?' },
                ["429,evry=2"] = { '"evry" is not a field', 'did you mean "every"?' },
                ["42"] = { '"42" is no word' },
                ["299"] = { "status can not be 299" },
                ["600"] = { "status can not be 600" },
                ["500,rate=2"] = { "rate can not be 2" },
                ["500,every=0"] = { "every can not be 0" },
                ["500,every=1.5"] = { "every can not be 1.5" },
                ["500,times=x"] = { 'times can not be "x"' },
                ["latency=-1"] = { "latency can not be -1" },
                ["latency=nan"] = { 'latency can not be "nan"' },
                ["cut=-1"] = { "cut can not be -1" },
                [""] = { "nothing would happen" },
                ["chat:"] = { "nothing would happen" },
                ["every=2"] = { "nothing would happen" },
                ["lose,retry-after=2"] = { "retry_after needs a status" },
            } do
                local ok, failure = pcall(faults.parse, words)
                assert.is_false(ok, words)
                assert.equal("config", failure.kind)
                assert.matches(expected[1], failure.message, 1, true)
                if expected[2] then
                    assert.equal(expected[2], failure.hint)
                end
            end
        end)
    end)

    describe("check", function()
        it("takes what a file says, and leaves its table alone", function()
            local given = { status = 503.0, times = 1 }
            local fault = faults.check(given, "endpoint chat")
            assert.equal(503, fault.status)
            assert.same({ status = 503.0, times = 1 }, given)
        end)

        it("names the endpoint", function()
            for _, given in ipairs { { latenci = 1 }, { status = "x" }, "429", {} } do
                local ok, failure = pcall(faults.check, given, "endpoint chat")
                assert.is_false(ok)
                assert.matches("^endpoint chat: ", failure.message)
            end
        end)
    end)

    describe("happen", function()
        local function pattern(words, count)
            local list = { (faults.parse(words)) }
            local seen = {}
            for i = 1, count do
                seen[i] = faults.wrap(list, "mlflow", good) == 500 and "x" or "-"
            end
            return table.concat(seen)
        end

        it("each time, every n-th time, and the first times", function()
            assert.equal("xxxx", pattern("500", 4))
            assert.equal("--x--x-", pattern("500,every=3", 7))
            assert.equal("xx---", pattern("500,times=2", 5))
            assert.equal("-x-x--", pattern("500,every=2,times=2", 6))
        end)

        it("at a rate", function()
            assert.equal(("-"):rep(20), pattern("500,rate=0", 20))
            assert.equal(("x"):rep(20), pattern("500,rate=1", 20))
            math.randomseed(1)
            local _, count = pattern("500,rate=0.25", 1000):gsub("x", "")
            assert.is_true(count > 180 and count < 320, count)
        end)
    end)

    it("that are none change nothing", function()
        local status, headers, body = faults.wrap({}, "mlflow", good, "x")
        assert.same({ 200, "text/plain", "x" }, { status, headers["Content-Type"], body })
    end)

    it("answer with a status, and do no work", function()
        local status, headers, body = wrap "429,retry-after=2"
        assert.same({ 429, "2", 0 }, { status, headers["Retry-After"], calls })
        answers.assert_json('{"detail":"a fault on demand"}', answers.decode(body))
        status, headers, body = wrap("503", "openai")
        assert.same({ 503, nil }, { status, headers["Retry-After"] })
        assert.equal("server_error", answers.decode(body).error.type)
    end)

    it("wait before the work", function()
        local waited = task.spawn(wrap, "latency=0.05")
        task.sleep(0.01)
        assert.equal(0, calls)
        assert.equal(200, (waited:wait()))
        assert.equal(1, calls)
    end)

    it("cut a stream behind some pieces", function()
        for cut = 0, 2 do
            local state, status, _, body = wrap_stream("cut=" .. cut)
            assert.equal(200, status)
            local pieces, failure = read(body)
            assert.equal(cut, #pieces)
            assert.equal(server.CUT, failure)
            assert.equal(cut, state.sent)
            assert.is_true(state.closed)
        end
    end)

    it("do not cut a stream that is shorter", function()
        local _, _, _, body = wrap_stream "cut=9"
        local pieces, failure = read(body)
        assert.equal(3, #pieces)
        assert.is_nil(failure)
    end)

    it("cut a text behind some bytes", function()
        local _, _, body = wrap "cut=3"
        assert.same({ { "hel" }, server.CUT }, { read(body) })
        _, _, body = wrap "cut=0"
        assert.same({ {}, server.CUT }, { read(body) })
    end)

    it("lose an answer after the work was done", function()
        assert.is_false((wrap "lose"))
        assert.equal(1, calls)
        local state, status = wrap_stream "lose"
        assert.is_false(status)
        assert.equal(3, state.sent)
        assert.is_true(state.closed)
    end)

    it("come together", function()
        local list = { (faults.parse "cut=1"), (faults.parse "latency=0.01"), (faults.parse "429,every=2") }
        local status, _, body = faults.wrap(list, "mlflow", good)
        assert.equal(200, status)
        assert.same({ "h" }, (read(body)))
        assert.equal(429, (faults.wrap(list, "mlflow", good)))
        assert.equal(1, calls)
    end)
end)
