--- Ctrl-C in a session at the terminal: it stops what runs within a moment, whatever that is, and keeps
-- everything else.
local raw = require "support.raw"
local serving = require "support.serving"
local terminal = require "support.terminal"

local AT_MOST = serving.is_slow() and 10 or 0.2 -- seconds until the prompt is there again

local PROMPT = terminal.PROMPT
local STALL = { connections = { { { read = "request" }, { stall = true } } } }

local function piece(text)
    return ("data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": %q}}]}\n\n"):format(text)
end

-- Each: what it is, the line (URL is the server's), the server's script, and what is shown before the Ctrl-C.
local SITUATIONS = {
    { "a transfer", "client:predict{ endpoint = 'e', inputs = {} }", server = STALL },
    {
        "a stream", "client:predict_stream{ endpoint = 'e', inputs = {} }", shown = "The largest",
        server = raw.reply {
            headers = { ["Content-Type"] = "text/event-stream" }, body = piece "The largest" .. piece " moon",
            cut = 1, stall = true,
        },
    },
    { "a sleep", "task.sleep(60)" },
    { "a loop", "while true do end" },
    { "a loop round pcall", "while true do pcall(function() while true do end end) end" },
    { "a coroutine", "coroutine.wrap(function() while true do end end)()" },
    { "many short pattern matches", "while true do ('x'):rep(100):find('(x-)(x-)y') end" },
    {
        "the wait before a repetition", "client:predict{ endpoint = 'e', inputs = {} }",
        server = raw.reply { status = 503, headers = { ["Retry-After"] = "60" } }, shown = "moonflow:",
    },
    { "the loading of a plugin", "deployments.get_deploy_client('slow')" },
}

local function stream_server()
    return raw.listen {
        connections = {
            {
                { read = "request" },
                { send = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" .. piece "The largest" },
                { stall = true },
            },
        },
    }
end

local function listen(case)
    if case[1] == "a stream" then
        return stream_server()
    end
    return case.server and raw.listen(case.server.connections and case.server or { case.server })
end

describe("Ctrl-C in a session", function()
    for _, case in ipairs(SITUATIONS) do
        it("ends " .. case[1], function()
            local home <close> = terminal.home()
            os.execute(("mkdir -p '%s/p'"):format(home.path))
            local file = assert(io.open(home.path .. "/p/slow.lua", "w"))
            file:write("while true do pcall(function() while true do end end) end")
            file:close()
            local server <close> = listen(case)
            local result = terminal.play({
                { expect = PROMPT },
                server and (",target " .. server.url .. "\r") or "kept0 = 1\r", { expect = PROMPT },
                "local kept = 42\r", { expect = PROMPT },
                "io.write('be', 'gun\\n') " .. (case[2]:find("^client") and "return " or "") .. case[2] .. "\r",
                { expect = "begun" }, { expect = case.shown or "\n" }, { sleep = 0.15 },
                "\3", { expect = "interrupted" }, { expect = PROMPT },
                "kept\r", { expect = "42" }, { expect = PROMPT },
                "\4",
            }, { args = { "--plugin-dir", home.path .. "/p" }, home = home.path })
            assert.equal(0, result.code, result.shown)
            assert.is_true(result.times[7] <= AT_MOST, result.times[7])
        end)
    end

    it("at the prompt takes the line away", function()
        local result = terminal.play {
            { expect = PROMPT }, "error('must not run')", { expect = "run')" }, "\3", { expect = PROMPT }, "6 * 7\r",
            { expect = "42" }, { expect = PROMPT }, "\4",
        }
        assert.equal(0, result.code)
        assert.is_true(result.times[3] <= AT_MOST, result.times[3])
        assert.falsy(result.shown:find("error:", 1, true), result.shown)
    end)

    it("keeps what had come of a stream", function()
        local server <close> = stream_server()
        local result = terminal.play({
            { expect = PROMPT }, "client:predict_stream{ endpoint = 'e', inputs = {} }\r", { expect = "The largest" },
            { sleep = 0.1 }, "\3", { expect = "interrupted" }, { expect = PROMPT },
            "_.choices[1].message.content\r", { expect = "\"The largest\"" }, { expect = PROMPT }, "\4",
        }, { env = { MLFLOW_DEPLOYMENTS_TARGET = server.url } })
        assert.equal(0, result.code)
        assert.is_false(server:connections()[1].open)
    end)

    it("leaves tasks of other lines alone", function()
        local result = terminal.play {
            { expect = PROMPT }, "t = task.spawn(function() task.sleep(1.2) print('still', 'here') end)\r",
            { expect = PROMPT }, "task.sleep(60)\r", { sleep = 0.3 }, "\3", { expect = "interrupted" },
            { expect = "still\there" }, "\4",
        }
        assert.equal(0, result.code)
    end)

    -- C code of Lua's own, such as one pattern that is matched for minutes, looks at nothing, and in a
    -- finalizer Lua calls no hook: the bound is that the third Ctrl-C ends the program.
    for name, line in pairs {
        ["one pattern match"] = "local s, p = ('a'):rep(40), ('a*'):rep(40) io.write('be', 'gun\\n') s:find(p .. 'b')",
        ["a finalizer that loops"] =
            "setmetatable({}, { __gc = function() io.write('be', 'gun\\n') while true do end end }) collectgarbage()",
    } do
        it("a third time ends " .. name, function()
            local result = terminal.play {
                { expect = PROMPT }, line .. "\r", { expect = "begun" }, { sleep = 0.2 },
                "\3", { sleep = 0.1 }, "\3", { sleep = 0.1 }, "\3",
            }
            assert.equal(130, result.code)
        end)
    end
end)
