--- Streams in time: servers that stall, break off or send too much, consumers that are slow or leave
-- early, and how often the request goes out.
local chat = require "moonflow.chat"
local env = require "moonflow.env"
local error_object = require "moonflow.error"
local json = require "moonflow.json"
local probe = require "support.probe"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"
local streams = require "support.streams"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local delta, event, script = streams.delta, streams.event, streams.script
local HEAD, DONE = streams.HEAD, streams.DONE
local STALL = { stall = true }
local SLACK = 0.5 -- seconds that something may be late

local lines

before_each(function()
    lines = probe.listen()
    env.OPENAI_API_KEY = "key-0123456789"
    env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = "0.01"
end)

after_each(function()
    lines:close()
    env.OPENAI_API_KEY = nil
    env.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = nil
end)

--- A server whose answer has these steps behind its head.
local function serve(...)
    return raw.listen { script(HEAD, ...) }
end

local function open_connections(server)
    local open = 0
    for _, connection in ipairs(server:connections()) do
        open = open + (connection.open and 1 or 0)
    end
    return open
end

--- The server sees all its connections end, within a second.
local function check_left(server)
    assert(#server:connections() > 0)
    local deadline = sys.monotonic() + 1
    while open_connections(server) > 0 and sys.monotonic() < deadline do
        task.sleep(0.01)
    end
    assert.equal(0, open_connections(server))
end

describe("the connection of a stream that has ended", function()
    local CHUNKED = raw.bytes { headers = { ["Content-Type"] = "text/event-stream",
        ["Transfer-Encoding"] = "chunked" }, framing = "none" }

    local function chunk(text)
        return ("%x\r\n%s\r\n"):format(#text, text)
    end

    --- A server whose connections answer twice, with these steps behind each [DONE].
    local function serve_twice(...)
        local steps = json.array {}
        for _ = 1, 2 do
            local answer = CHUNKED .. chunk(delta "a") .. chunk(DONE)
            for _, step in ipairs { { read = "request" }, { send = answer }, ... } do
                steps[#steps + 1] = step
            end
        end
        steps[#steps + 1] = STALL
        return raw.listen { connections = { steps } }
    end

    it("serves the next request, where the end of the body comes a little later", function()
        local server <close> = serve_twice({ sleep = 0.02 }, { send = "0\r\n\r\n" })
        local client = streams.client(server)
        for i = 1, 2 do
            local chunks, err, opened = streams.read(client)
            assert.is_nil(err)
            assert.equal("a", streams.text(chunks))
            assert.equal(i == 2, opened:response().reused)
            task.sleep(0.1)
        end
        assert.equal(1, #server:connections())
    end)

    it("serves it also where no task waited meanwhile", function()
        local server <close> = serve_twice({ sleep = 0.02 }, { send = "0\r\n\r\n" })
        local client = streams.client(server)
        streams.read(client)
        os.execute("sleep 0.3")
        local _, err, opened = streams.read(client)
        assert.is_nil(err)
        assert.is_true(opened:response().reused)
    end)

    it("is closed where the end does not come, or more than the end", function()
        for _, step in ipairs { STALL, { send = chunk(("x"):rep(100000)) } } do
            local server <close> = serve_twice(step, STALL)
            local chunks, err = streams.read(streams.client(server))
            assert.is_nil(err)
            assert.equal("a", streams.text(chunks))
            check_left(server)
        end
    end)
end)

describe("a stream that is left", function()
    it("ends at once by break", function()
        local server <close> = serve(delta "a", delta "b", STALL)
        local text = ""
        for chunk in streams.client(server):predict_stream { endpoint = "e", inputs = {} } do
            text = text .. chat.text(chunk)
            if text == "ab" then
                break
            end
        end
        check_left(server)
    end)

    it("ends at once by an error in the loop's body, which passes through", function()
        local server <close> = serve(delta "a", STALL)
        local client, mine = streams.client(server), {}
        local ok, err = pcall(function()
            for _ in client:predict_stream { endpoint = "e", inputs = {} } do
                error(mine)
            end
        end)
        assert.is_false(ok)
        assert.equal(mine, err)
        check_left(server)
    end)

    it("ends with a <close> variable that holds it", function()
        local server <close> = serve(delta "a", STALL)
        do
            local opened <close> = streams.open(streams.client(server))
            assert.equal("a", chat.text(opened()))
        end
        check_left(server)
    end)

    it("ends by close, any number of times, and is empty afterwards", function()
        for taken = 0, 1 do
            local server <close> = serve(delta "a", delta "b", STALL)
            local opened = streams.open(streams.client(server))
            for _ = 1, taken do
                assert.equal("a", chat.text(opened()))
            end
            opened:close()
            opened:close()
            assert.is_nil(opened())
            assert.is_nil(opened())
            opened:close()
            check_left(server)
        end
    end)

    it("ends when the collector finds it, in a coroutine too", function()
        local server <close> = serve(delta "a", STALL)
        local client = streams.client(server)
        streams.open(client)
        local co = coroutine.wrap(function()
            for chunk in streams.open(client) do
                coroutine.yield(chat.text(chunk))
            end
        end)
        assert.equal("a", co())
        assert.equal(2, #server:connections())
        co = nil -- luacheck: ignore
        collectgarbage()
        collectgarbage()
        check_left(server)
    end)

    it("ends when its task is cancelled", function()
        local server <close> = serve(delta "a", STALL)
        local reader = task.spawn(streams.read, streams.client(server))
        local opener_server <close> = raw.listen { { STALL } }
        local opener = task.spawn(streams.open, streams.client(opener_server))
        task.sleep(0.1)
        assert.equal(2, open_connections(server) + open_connections(opener_server))
        reader:cancel()
        opener:cancel()
        assert.equal("failed", reader:status())
        check_left(server)
        check_left(opener_server)
    end)

    it("ends at the deadline of task.timeout", function()
        local server <close> = serve(delta "a", STALL)
        local seconds, ok, err = probe.timed(pcall, task.timeout, 0.2, streams.read, streams.client(server))
        assert.is_false(ok)
        assert.equal("timeout", err.kind)
        assert.is_true(seconds < 0.2 + SLACK, seconds)
        check_left(server)
    end)

    it("ends with the Lua state, in whatever way that ends", function()
        local start = [[
            local task = require "moonflow.task"
            local client = require("moonflow.deployments").get_deploy_client(%q)
            local opened = client:predict_stream { endpoint = "e", inputs = {} }
            print(opened().choices[1].delta.content)
        ]]
        for rest, code in pairs {
            [""] = 0,
            ["kept = opened"] = 0,
            ["os.exit(0, true)"] = 0,
            ["os.exit(true)"] = 0,
            ["error('mine')"] = 1,
            ["task.spawn(function() opened() end) task.sleep(0.05) os.exit(0, true)"] = 0,
            ["setmetatable({}, { __gc = function() opened:close() print(opened()) end }) opened = nil"] = 0,
        } do
            local server <close> = serve(delta "a", STALL)
            local seconds, result = probe.timed(process.run, { args = { "-e", start:format(server.url) .. rest } })
            assert.equal(code, result.code, rest .. result.stderr)
            assert.matches("^a\n", result.stdout)
            if code == 0 then
                assert.equal("", result.stderr, rest)
            end
            assert.is_true(seconds < 5, seconds)
            check_left(server)
        end
    end)
end)

describe("a slow consumer", function()
    local function memory()
        local file <close> = assert(io.open("/proc/self/status"))
        return tonumber(file:read("a"):match("VmRSS:%s*(%d+) kB")) * 1024
    end

    it("holds up the server: the memory stays, no timer fires, and all arrives", function()
        local COUNT, SIZE, MORE = 1024, 64 * 1024, 8 << 20
        local piece = event { pad = ("x"):rep(SIZE) }
        local server <close> = raw.listen { json.array {
            { send = HEAD .. delta "a" }, { send = piece, times = COUNT }, { send = delta("b", "stop") .. DONE },
        } }
        local opened = streams.open(streams.client(server), { timeout = 0.3 })
        assert.equal("a", chat.text(opened()))
        collectgarbage()
        local before = memory()
        task.sleep(0.8)
        local while_paused = memory()
        local count, last, most = 0, nil, 0
        for chunk in opened do
            count, last = count + 1, chunk
            if count % 64 == 0 then
                collectgarbage()
                most = math.max(most, memory())
            end
        end
        assert.is_true(while_paused - before < MORE, while_paused - before)
        assert.equal(COUNT + 1, count)
        assert.equal("b", chat.text(last))
    end)

    it("misses nothing that was held back, though the server says nothing more", function()
        local WINDOW, KIB = 256, 1024
        local lengths = {}
        for more = -2, 18 do
            lengths[#lengths + 1] = WINDOW + more
        end
        task.map(lengths, function(kibibytes)
            local piece = event { pad = ("x"):rep(KIB - #event { pad = "" }) }
            local server <close> = raw.listen { json.array {
                { send = HEAD .. delta "a" }, { sleep = 0.05 }, { send = piece:rep(kibibytes) .. DONE }, STALL,
            } }
            local opened = streams.open(streams.client(server), { timeout = 3 })
            opened()
            task.sleep(0.3)
            local count = 0
            local seconds = probe.timed(function()
                for _ in opened do
                    count = count + 1
                end
            end)
            assert.equal(kibibytes, count)
            assert.is_true(seconds < 1, seconds)
        end, { limit = 8 })
    end)

    it("holds up a server behind TLS, and misses nothing either", function()
        local certs = skip.unless_env "MOONFLOW_TEST_CERTS"
        local piece, COUNT = event { pad = ("x"):rep(1000) }, 3000
        local server <close> = raw.listen {
            json.array { { send = HEAD .. delta "a" }, { send = piece, times = COUNT }, { send = DONE }, STALL },
            tls = { certfile = certs .. "/good.pem", keyfile = certs .. "/good.key" },
        }
        local opened = streams.open(streams.client(server, "openai", { ca_file = certs .. "/ca.pem", timeout = 3 }))
        assert.equal("a", chat.text(opened()))
        task.sleep(0.5)
        local count = 0
        for _ in opened do
            count = count + 1
        end
        assert.equal(COUNT, count)
        check_left(server)
    end)

    it("that does not let the loop run gets what has come meanwhile, not a timeout", function()
        local server <close> = serve(delta "a", 0.2, delta "b", 0.2, delta "c", 0.4, DONE)
        local opened = streams.open(streams.client(server), { timeout = 0.5 })
        assert.equal("a", chat.text(opened()))
        os.execute("sleep 0.7")
        local chunks = {}
        for chunk in opened do
            chunks[#chunks + 1] = chunk
        end
        assert.equal("bc", streams.text(chunks))
    end)

    it("gets what came before the connection broke", function()
        for _, ending in ipairs { "close", "reset" } do
            local server <close> = serve(delta "a", delta "b", delta "c", 0.1, { [ending] = true })
            local opened = streams.open(streams.client(server))
            opened()
            task.sleep(0.3)
            assert.equal("b", chat.text(opened()))
            assert.equal("c", chat.text(opened()))
            local err = probe.failure(opened)
            assert.equal("DATA_LOSS", err.error_code)
            assert.equal("abc", err.partial.choices[1].message.content)
        end
    end)
end)

describe("a timer", function()
    local function check(phase, limit, text, server, options)
        task.map({ "mlflow", "openai" }, function(backend)
            local seconds, chunks, err = probe.timed(streams.read, streams.client(server, backend), options)
            assert.equal("timeout", err.kind)
            assert.equal("DEADLINE_EXCEEDED", err.error_code)
            assert.equal(phase, err.phase)
            assert.matches("(" .. phase, err.message, 1, true)
            assert.equal(text, streams.text(chunks))
            assert.equal(text, err.partial and err.partial.choices[1].message.content or "")
            assert.is_true(seconds >= limit * 0.9 and seconds < limit + SLACK, seconds)
        end)
        check_left(server)
    end

    it("ends the wait for the first byte", function()
        local server <close> = raw.listen { json.array { STALL } }
        check("first byte", 0.2, "", server, { timeout = 0.2 })
    end)

    it("ends a silence before the first event, and between two", function()
        local server <close> = serve(STALL)
        check("idle", 0.2, "", server, { timeout = 0.2 })
        server:script { script(HEAD, delta "a", delta "b", STALL) }
        check("idle", 0.2, "ab", server, { timeout = 0.2 })
        server:script { script(HEAD, delta "a", "data: {\"choices\":", STALL) }
        check("idle", 0.2, "a", server, { timeout = 0.2 })
    end)

    it("ends a stream that never does, at the total time", function()
        local loop = { loop = { { send = ": comment\n\n" }, { sleep = 0.02 } } }
        local server <close> = serve(loop)
        check("total", 0.5, "", server, { total_timeout = 0.5 })
        server:script { script(HEAD, delta "a", loop) }
        check("total", 0.5, "a", server, { total_timeout = 0.5, timeout = 0.4 })
        server:script { script(HEAD, delta "a", { loop = { { send = event {} }, { sleep = 0.02 } } }) }
        check("total", 0.5, "a", server, { total_timeout = 0.5 })
    end)

    it("counts comments as signs of life", function()
        local steps = { HEAD, delta "a" }
        for _ = 1, 6 do
            table.move({ ": comment\n\n", 0.1 }, 1, 2, #steps + 1, steps)
        end
        steps[#steps + 1] = DONE
        local server <close> = raw.listen { script(table.unpack(steps)) }
        local chunks, err = streams.read(streams.client(server), { timeout = 0.3 })
        assert.is_nil(err)
        assert.equal("a", streams.text(chunks))
    end)

    it("is the variable's where no option is given", function()
        local server <close> = serve(delta "a", STALL)
        env.MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT, env.OPENAI_TIMEOUT = "1", "1"
        check("idle", 1, "a", server)
        env.MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT, env.OPENAI_TIMEOUT = nil, nil
        env.MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT = "1"
        check("total", 1, "a", server)
        env.MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT = nil
    end)
end)

describe("the request for a stream", function()
    local GOOD = raw.reply { headers = streams.HEADERS, body = delta("a") .. DONE }
    local PIECE = raw.bytes { headers = streams.HEADERS, body = delta("a") .. DONE }
    local AFTER_HEAD = PIECE:find("\r\n\r\n", 1, true) + 3
    local AFTER_EVENT = AFTER_HEAD + #delta("a")

    local function cut(options)
        options.headers, options.body = streams.HEADERS, delta("a") .. DONE
        return raw.reply(options)
    end
    local function fault(value, before)
        return raw.reply { headers = streams.HEADERS, body = (before or "") .. event { error = value } }
    end
    local REPEATED, ONCE = 2, 1

    --- What answers it first, how often it is sent, and what is raised where that is no success then:
    -- kind, error_code or http_status. OpenAI's own rules differ where a second number stands.
    local cases = {
        { "503", raw.reply { status = 503 }, REPEATED },
        { "429", raw.reply { status = 429, json = { error = { message = "slow down", code = "x" } } }, REPEATED },
        { "400", raw.reply { status = 400 }, ONCE, "http", 400 },
        { "504", raw.reply { status = 504 }, ONCE, "http", 504, openai = REPEATED },
        { "insufficient_quota", raw.reply { status = 429, json = { error = { code = "insufficient_quota" } } }, ONCE,
            "http", 429 },
        { "a reset", raw.reply { reset = 0 }, REPEATED },
        { "a reset among the headers", cut { reset = AFTER_HEAD - 10 }, REPEATED },
        { "a cut before the first event", cut { cut = AFTER_HEAD + 9 }, REPEATED },
        { "a reset before the first event", cut { reset = AFTER_HEAD + 9 }, REPEATED },
        { "a late cut before the first event", script(HEAD, 0.1, "data: {"), REPEATED },
        { "a cut in chunks before the first event", cut { cut = AFTER_HEAD + 40, framing = "chunked" }, REPEATED },
        { "the end of the body before the first event", script(HEAD, ": comment\n\n"), REPEATED },
        { "an empty body", raw.reply { headers = streams.HEADERS }, ONCE, "network", "DATA_LOSS" },
        { "a body of comments alone", raw.reply { headers = streams.HEADERS, body = ": x\n\n", framing = "chunked" },
            ONCE, "network", "DATA_LOSS" },
        { "insufficient_quota in a long body", raw.reply { status = 429, json = {
            error = { code = "insufficient_quota" }, padding = ("x"):rep(20000),
        } }, ONCE, "http", 429 },
        { "silence", raw.reply { stall = 0 }, ONCE, "timeout", "DEADLINE_EXCEEDED" },
        { "silence before the first event", cut { stall = AFTER_HEAD + 9 }, ONCE, "timeout", "DEADLINE_EXCEEDED" },
        { "a cut after the first event", cut { cut = AFTER_EVENT + 3 }, ONCE, "network", "DATA_LOSS", partial = true },
        { "a reset after the first event", cut { reset = AFTER_EVENT }, ONCE, "network", "DATA_LOSS", partial = true },
        { "a late cut after the first event", script(HEAD, delta "a", 0.1), ONCE, "network", "DATA_LOSS",
            partial = true },
        { "silence after the first event", cut { stall = AFTER_EVENT }, ONCE, "timeout", "DEADLINE_EXCEEDED",
            partial = true },
        { "an error 503 first", fault { code = 503, message = "m" }, REPEATED },
        { "an error 429 first", fault { code = "rate_limit_exceeded", message = "m" }, REPEATED },
        { "an error 503 in JSON", raw.reply { json = { error = { code = 503, message = "m" } } }, REPEATED },
        { "an error 503 of the JSON body's type", raw.reply {
            json = { type = "error", code = "server_is_overloaded", message = "m" },
        }, REPEATED },
        { "an error 400 first", fault { code = 400, message = "m" }, ONCE, "http", 400 },
        { "insufficient_quota first", fault { code = "insufficient_quota", message = "m" }, ONCE, "http", 429 },
        { "an error 503 later", fault({ code = 503, message = "m" }, delta "a"), ONCE, "http", 503, partial = true },
        { "no JSON first", raw.reply { headers = streams.HEADERS, body = event "hello" }, ONCE, "decode",
            "INTERNAL_ERROR" },
    }
    for backend in pairs(streams.TARGETS) do
        it(("of %s is repeated only before its first event"):format(backend), function()
            task.map(cases, function(case)
                local name = case[1]
                local server <close> = raw.listen { case[2], GOOD }
                local client = streams.client(server, backend, { max_retries = 1, timeout = 0.4 })
                local chunks, err, opened = streams.read(client)
                local requests = case[backend] or case[3]
                assert.equal(requests, #server:requests(), name)
                if requests == REPEATED then
                    assert(not err, ("%s: %s"):format(name, err))
                    assert.equal("a", streams.text(chunks), name)
                    assert.equal(2, opened:response().attempts)
                else
                    assert.equal(case[4], err.kind, name)
                    assert.equal(case[5], type(case[5]) == "string" and err.error_code or err.http_status, name)
                    assert.equal(1, err.attempts, name)
                    assert.is_boolean(err.retryable, name)
                    assert.equal(case.partial and "a", err.partial and err.partial.choices[1].message.content, name)
                end
            end, { limit = 8 })
        end)
    end

    it("is the same each time, and asks for a stream", function()
        local server <close> = raw.listen { raw.reply { status = 503 }, cut { cut = AFTER_HEAD + 9 }, GOOD }
        streams.read(streams.client(server, "mlflow", { max_retries = 5 }))
        local requests = server:requests()
        assert.equal(3, #requests)
        for _, request in ipairs(requests) do
            assert.equal(requests[1].body, request.body)
            assert.is_true(json.decode(request.body).stream)
        end
        assert.equal(2, #lines)
    end)
end)

describe("a stream and tasks", function()
    it("let one task wait at a time", function()
        local server <close> = serve(delta "a", 0.2, delta "b", DONE)
        local opened = streams.open(streams.client(server))
        opened()
        local reader = task.spawn(opened.__call, opened)
        task.sleep(0.05)
        local err = probe.failure(opened)
        assert.equal("usage", err.kind)
        assert.matches("another task is waiting for this already", err.message, 1, true)
        assert.equal("b", chat.text(reader:wait()))
        assert.is_nil(opened())
    end)

    it("let another task read than the one that opened it, which may be over", function()
        local server <close> = serve(delta "a", 0.1, delta "b", 0.1, DONE)
        local opened = task.spawn(streams.open, streams.client(server)):wait()
        local texts = task.map({ 1, 2, 3 }, function()
            local chunk = opened()
            return chunk and chat.text(chunk) or "end"
        end, { limit = 1 })
        assert.same({ "a", "b", "end" }, texts)
    end)

    it("wake the one that waits where another closes it", function()
        local server <close> = serve(delta "a", STALL)
        local opened = streams.open(streams.client(server))
        opened()
        local reader = task.spawn(pcall, opened)
        task.sleep(0.05)
        opened:close()
        local ok, err = reader:wait()
        assert.is_false(ok)
        assert.equal("cancelled", err.kind)
        assert.equal("a", err.partial.choices[1].message.content)
        check_left(server)
    end)

    it("raise an error again and again", function()
        local server <close> = serve(delta "a", delta "b", event { error = { message = "m", code = 503 } }, DONE)
        local opened = streams.open(streams.client(server))
        assert.matches("^stream from http://127.0.0.1:%d+ %(open, 1 chunk%)$", tostring(opened))
        opened()
        opened()
        local err = probe.failure(opened)
        assert.matches("(failed, 2 chunks)", tostring(opened), 1, true)
        assert.equal(err, probe.failure(opened))
        opened:close()
        assert.equal(err, probe.failure(opened))
        assert.equal(503, err.http_status)
        assert.is_true(error_object.is(err))
    end)

    it("say nil again and again behind the end", function()
        local server <close> = serve(delta "a", DONE)
        local opened = streams.open(streams.client(server))
        opened()
        for _ = 1, 3 do
            assert.is_nil(opened())
        end
        assert.matches("(ended, 1 chunk)", tostring(opened), 1, true)
    end)

    it("go on beside one another, two hundred at once, and leave no socket open", function()
        local COUNT = 200
        local function sockets() -- the pipe of popen itself comes and goes
            local list <close> = assert(io.popen("ls -l /proc/$PPID/fd | grep -c socket:"))
            return list:read("n")
        end
        local server <close> = serve(delta "a", 1, delta "b", DONE)
        local client = streams.client(server)
        local before = sockets()
        local list, running, most = {}, 0, 0
        for i = 1, COUNT do
            list[i] = i
        end
        local seconds = probe.timed(task.map, list, function(i)
            local text = ""
            for chunk in client:predict_stream { endpoint = "e", inputs = {} } do
                if text == "" then
                    running = running + 1
                    most = math.max(most, running)
                end
                text = text .. chat.text(chunk)
                if i % 4 == 0 then
                    break
                end
                task.sleep(0)
            end
            assert.equal(i % 4 == 0 and "a" or "ab", text)
        end, { limit = COUNT })
        assert.equal(COUNT, most)
        assert.is_true(seconds < 10, seconds)
        check_left(server)
        assert.is_true(sockets() <= before)
    end)

    it("wait in a place that can not yield as well", function()
        local server <close> = serve(delta "b", 0.05, delta "a", 0.05, delta("c", "stop"))
        local texts = {}
        local opened = streams.open(streams.client(server));
        ("xyz"):gsub(".", function()
            texts[#texts + 1] = chat.text(opened())
        end)
        assert.same({ "b", "a", "c" }, texts)
        assert.is_nil(opened())
    end)
end)
