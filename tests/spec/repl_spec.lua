--- The session at the terminal, key by key.
local raw = require "support.raw"
local serving = require "support.serving"
local sys = require "moonflow.sys"
local terminal = require "support.terminal"

local PROMPT = terminal.PROMPT
local DOWN, LEFT, UP = "\27[B", "\27[D", "\27[A"

--- Plays keys with a prompt awaited before each that follows an Enter, and leaves by Ctrl-D.
local function play(keys, options)
    local steps = {}
    for _, key in ipairs(keys) do
        local last = steps[#steps]
        if not last or type(last) == "string" and last:find("[\r\3]$") then
            steps[#steps + 1] = { expect = PROMPT }
        end
        steps[#steps + 1] = key
    end
    steps[#steps + 1] = { expect = PROMPT }
    steps[#steps + 1] = "\4"
    local result = terminal.play(steps, options)
    assert.equal(0, result.code, result.shown)
    return terminal.plain(result.shown)
end

-- Each: what it is, the keys, what is shown by and by.
local CASES = {
    { "shows the value of an expression", { "6 * 7\r" }, { "42\n" } },
    { "shows nothing of a statement", { "x = 'not shown'\r" }, { "x = 'not shown'\n> " } },
    { "shows nothing behind a semicolon", { "111 * 6;\r" }, { "111 * 6;\n> " } },
    { "shows nil of a name and nothing of a call", { "unknown\r", "print()\r" }, { "nil\n> print()\n\n> " } },
    { "shows tables and nulls", { "json.decode '{\"a\":[],\"b\":null}'\r" }, { "{ a = [], b = null }" } },
    { "shows several values", { "1, 'two'\r" }, { '1\n"two"\n' } },
    { "keeps locals", { "local y = 3\r", "y + 1\r" }, { "4\n" } },
    { "keeps the last values", { "10\r", "20\r", "_ + _2\r", "_ * 2\r" }, { "30\n", "60\n" } },
    { "keeps the last error", { "error('boom')\r", "_err\r" }, { "error: stdin:1: boom\n", '"stdin:1: boom"\n' } },
    { "goes on in new lines", { "for i = 1, 2 do", "\n", "print(i * 11)", "\n", "end\r" }, { "11\n22\n" } },
    { "tells a mistake", { "1 = 2\r", "'next'\r" }, { "error: stdin:1: unexpected symbol", '"next"' } },
    { "knows what is wide", { "'h\u{E9}llo \u{65E5}\u{672C}'\r" }, { '"h\u{E9}llo \u{65E5}\u{672C}"' } },
    { "moves and deletes", { "1x0" .. LEFT .. "\8" .. "5\r" }, { "\n150\n" } },
    { "finds earlier lines", { "'first'\r", "'second'\r", UP .. UP .. "\r" }, { '"first"', '"second"', '"first"' } },
    { "goes back down", { "'first'\r", "'second'\r", UP .. UP .. DOWN .. "\r" }, { '"second"\n', '"second"\n' } },
    { "searches the history", { "'needle'\r", "'hay'\r", "\18needle\27", "\r" }, { '"needle"', '"needle"' } },
    {
        "recalls a block whole, and moves in it",
        { "for i = 1, 2 do", "\n", "print(i * 11)", "\n", "end\r", UP, UP, "\5" .. ("\8"):rep(3) .. "3)", "\r" },
        { "11\n22\n", "3\n6\n" },
    },
    {
        "takes a paste as one edit",
        { "\27[200~local a = 5\rlocal b = a * 2\n\tprint(a + b)\27[201~", "\r", "a\r" }, { "15\n", "5\n" },
    },
    {
        "does not run a paste by itself",
        { "\27[200~print('was run')\n\27[201~", { expect = "run')" }, "\3", "'done'\r" }, { '"done"' },
    },
    {
        "leaves control characters out of a paste",
        { "\27[200~'a\27[31m\7b'\27[201~", "\r" }, { '"a[31mb"' },
    },
    { "begins a line in any case", { "x = 1", "\27\n", "x = x + 1", "\r", "x\r" }, { "\n2\n" } },
    { "completes", { "tostri\t" .. "(12)\r" }, { '"12"' } },
    { "completes by a list", { "task.s\t\t", "leep(0)\r" }, { "sleep  spawn" } },
    { "helps", { ",help\r" }, { ",endpoints", ",save FILE", "Ctrl-R" } },
    { "tells of a method", { "help(deployments.BaseDeploymentClient.predict)\r" }, { "client:predict {", "example:" } },
    { "tells of a function", { ",doc task.map\r", "task.sleep?\r" }, { "task.map(list", "task.sleep(seconds)" } },
    { "says what a value has", { "t = { aa = 1 }\r", ",ls t\r" }, { "  aa ", "number" } },
    { "times", { ",time 1 + 1\r" }, { "2\n", "0.00" } },
    { "runs again what failed", { "n = (n or 0) + 1; assert(n > 1)\r", ",retry\r", "n\r" }, { "error:", "\n2\n" } },
    { "tells why", { "local function f() error('deep') end f()\r", ",why\r" }, { "deep", "stack traceback" } },
    { "knows no such command", { ",hepl\r" }, { "error: no command ,hepl\n  try: ,help" } },
    { "sets how values are shown", { ",set items=1\r", "{ 1, 2 }\r" }, { "{ 1, ... 1 more }" } },
    { "survives a value that can not be shown", {
        "setmetatable({}, { __tostring = function() error('no') end })\r", "'alive'\r",
    }, { "<table that can not be shown: ", '"alive"' } },
    { "leaves by a command", { "print('before')\r" }, { "before\n" } },
}

describe("a session", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local shown, at = play(case[2]), 1
            for _, expected in ipairs(case[3]) do
                local _, last = shown:find(expected, at, true)
                assert(last, ("%q is not in %s"):format(expected, shown))
                at = last
            end
            assert.falsy(shown:find("was run\n", 1, true))
        end)
    end

    it("speaks with the target, prints streams and writes a script that runs", function()
        local server <close> = raw.listen {
            raw.reply { json = { endpoints = { { name = "chat", endpoint_type = "llm/v1/chat" } } } },
            raw.reply { json = { choices = { { message = { content = "Hi" } } } } },
        }
        local home <close> = terminal.home()
        local file = home.path .. "/saved.lua"
        local shown = play({
            ",target " .. server.url .. "\r", "client:list_endpoints()[1].name\r", ",curl\r",
            "error('left out')\r", "_ .. '!'\r", ",save " .. file .. "\r",
        }, { home = home.path })
        assert.truthy(shown:find('"chat"\n', 1, true), shown)
        assert.truthy(shown:find("curl '" .. server.url, 1, true), shown)
        local text = assert(sys.read_file(file))
        assert.falsy(text:find("left out", 1, true))
        assert.truthy(text:find("list_endpoints", 1, true))
        local again <close> = raw.listen {
            raw.reply { json = { endpoints = { { name = "other", endpoint_type = "llm/v1/chat" } } } },
        }
        local out = assert(io.open(file, "w"))
        out:write((text:gsub(server.url:gsub("%p", "%%%0"), again.url)))
        out:close()
        local result = require("support.process").run { args = { "run", file } }
        assert.equal(0, result.code, result.stderr)
        assert.equal('"other"\n"other!"\n', result.stdout)
    end)

    it("runs files and reads plugins again", function()
        local home <close> = terminal.home()
        local function write(name, text)
            local out = assert(io.open(home.path .. "/" .. name, "w"))
            out:write(text)
            out:close()
        end
        local plugin = [[
            local client = require "moonflow.client"
            return { api = 1, name = "acme", client = client.BaseDeploymentClient:extend {
                predict = function() return "version %d" end } }]]
        write("acme.lua", plugin:format(1))
        write("new.lua", plugin:format(2))
        write("file.lua", "loaded = 'from a file'")
        local shown = play({
            ",load " .. home.path .. "/file.lua\r", "loaded\r", ",target acme:\r", "client:predict{}\r",
            "assert(os.rename('" .. home.path .. "/new.lua', '" .. home.path .. "/acme.lua'));\r",
            ",reload acme\r", "client:predict{}\r", ",reload openai\r", ",load /nonexistent\r",
        }, { home = home.path, args = { "--plugin-dir", home.path } })
        assert.matches('"from a file".*"version 1".*acme is read again.*"version 2".*error: no plugin.*error: ', shown)
    end)

    it("is a command with a target, or a script where there is no terminal", function()
        local shown = play({ "client.target_uri\r" }, { args = { "repl", "-t", "http://localhost:1" } })
        assert.truthy(shown:find('target http://localhost:1 ', 1, true), shown)
        assert.truthy(shown:find('"http://localhost:1"\n', 1, true), shown)
        local run = require("support.process").run
        local piped = run { args = { "repl" }, stdin = "print('first')\nerror('second')\nprint('third')" }
        assert.equal(1, piped.code)
        assert.equal("first\n", piped.stdout)
        assert.matches("^error: stdin:2: second", piped.stderr)
    end)

    it("gives the terminal back where a task ends the program", function()
        local result = terminal.play {
            { expect = PROMPT }, "task.spawn(function() task.sleep(0.3) io.write('last') os.exit(7) end);\r",
            { expect = PROMPT }, "typed", { expect = "last" },
        }
        assert.equal(7, result.code)
        assert.matches("\27%[%?2004llast", result.shown)
    end)

    it("keeps its history, without secrets and what begins with a space", function()
        local home <close> = terminal.home()
        play({ "'kept ' .. 1\r", " 'hidden'\r", "env.X_TOKEN = 'abcdef'\r" }, { home = home.path })
        local path = home.path .. "/.local/state/moonflow/history"
        assert.equal("'kept ' .. 1\nenv.X_TOKEN = '<redacted>'\n", sys.read_file(path))
        assert.equal(384, sys.stat(path).mode)
        local shown = play({ UP .. UP .. "\r" }, { home = home.path })
        assert.truthy(shown:find('"kept 1"', 1, true), shown)
        play({ "'not kept'\r" }, { home = home.path, args = { "repl", "--no-history" } })
        assert.falsy(sys.read_file(path):find("not kept", 1, true))
    end)

    it("runs its start-up file", function()
        local home <close> = terminal.home()
        os.execute("mkdir -p " .. home.path .. "/.config/moonflow")
        local out = assert(io.open(home.path .. "/.config/moonflow/repl.lua", "w"))
        out:write("greeting = 'from the ' .. 'file'")
        out:close()
        assert.truthy(play({ "greeting\r" }, { home = home.path }):find('"from the file"', 1, true))
        local without = play({ "greeting\r" }, { home = home.path, args = { "repl", "--no-rc" } })
        assert.truthy(without:find("\nnil\n", 1, true), without)
    end)

    it("shows what tasks print above the line that is typed", function()
        local result = terminal.play {
            { expect = PROMPT }, "task.spawn(function() task.sleep(0.5) print('from', 'behind') error('no') end);\r",
            { expect = PROMPT }, "1 + ", { expect = "from\tbehind" }, { expect = "> 1 +" }, " 2\r",
            { expect = "3\r\n" },
            { expect = "error: stdin:1: no" }, { expect = PROMPT }, "\4",
        }
        assert.equal(0, result.code)
    end)

    it("comes back from Ctrl-Z and a change of the size", function()
        local result = terminal.play {
            { expect = PROMPT }, "'typed", { resize = { 30, 40 } }, { sleep = 0.2 }, " on'\r",
            { expect = '"typed on"' },
            { expect = PROMPT }, "\4",
        }
        assert.equal(0, result.code)
    end)

    for _, term in ipairs { "dumb", "" } do
        it(("works on a terminal of type %q"):format(term), function()
            local result = terminal.play({
                { expect = "> " }, "for i = 1, 2 do\n", { expect = ">> " }, "print(i * 11)\n", { expect = ">> " },
                "end\n", { expect = "22" }, { expect = "> " }, "while true do end\n", { sleep = 0.3 }, "\3",
                { expect = "interrupted" }, { expect = "> " }, "oops", { sleep = 0.1 }, "\3", { expect = "> " },
                "'alive'\n", { expect = '"alive"' }, { expect = "> " }, "\4",
            }, { env = { TERM = term } })
            assert.equal(0, result.code)
            assert.falsy(result.shown:find("\27", 1, true), result.shown)
        end)
    end

    it("is coloured where that is wanted", function()
        assert.truthy(terminal.play({ { expect = ">" }, "1\r", { expect = "\27[36m1" }, { expect = ">" }, "\4" },
            { env = { NO_COLOR = false } }).shown:find("\27[1;34m>", 1, true))
    end)

    it("writes numbers on the wire as JSON has them, whatever the locale", function()
        local shown = play({ "json.encode(1.5)\r" }, { env = { LC_ALL = "de_DE.utf8", LOCPATH = os.getenv "LOCPATH" } })
        assert.truthy(shown:find('"1.5"', 1, true), shown)
    end)

    it("begins within a moment", function()
        local result = terminal.play { "1\r", { expect = PROMPT }, { expect = "1\r\n" }, { expect = PROMPT }, "\4" }
        assert.is_true(result.times[1] < (serving.is_slow() and 20 or 1), result.times[1])
    end)
end)
