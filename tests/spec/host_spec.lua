--- The program as its user meets it: command line, scripts, output, exit codes, and the prompt.
local json = require "moonflow.json"
local process = require "support.process"
local raw = require "support.raw"

local dir -- a directory of the running test's own

local function write(name, text)
    local path = dir .. "/" .. name
    assert(os.execute(("mkdir -p '%s'"):format(path:match("^(.*)/"))))
    local file <close> = assert(io.open(path, "wb"))
    file:write(text)
    return path
end

--- Runs moonflow with arguments in the test's directory.
local function run(args, options)
    options = options or {}
    options.args = args
    options.dir = options.dir or dir
    return process.run(options)
end

--- Runs a shell's command line in which $M is the program, for redirections.
local function shell(command)
    return process.run { "sh", "-c", command, dir = dir, env = { M = process.moonflow() } }
end

before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir -m 700 " .. dir))
end)

after_each(function()
    os.execute("rm -rf " .. dir)
end)

local SHOW = [[
local low = 0
while arg[low - 1] do low = low - 1 end
for i = low, #arg do io.write(i, "=", arg[i]:match("[^/]*$"), " ") end
print("|", ...)
]]

describe("a script", function()
    local cases = {
        { "by its path", { "./s.lua", "a", "b c" }, "-1=moonflow 0=s.lua 1=a 2=b c |\ta\tb c\n" },
        { "by the end of its name", { "s.lua" }, "-1=moonflow 0=s.lua |\n" },
        { "with run", { "run", "plain", "--x" }, "-2=moonflow -1=run 0=plain 1=--x |\t--x\n" },
        { "with run and -", { "run", "-", "x" }, "-2=moonflow -1=run 0=- 1=x |\tx\n" },
        { "as -", { "-", "-e", "x" }, "-1=moonflow 0=- 1=-e 2=x |\t-e\tx\n" },
        {
            "behind an option", { "--plugin-dir", "/", "s.lua", "" },
            "-3=moonflow -2=--plugin-dir -1= 0=s.lua 1= |\t\n",
        },
        { "as -e", { "-e", SHOW, "x" }, nil },
    }
    for _, case in ipairs(cases) do
        it("runs " .. case[1] .. ", with arg as in Lua", function()
            write("s.lua", SHOW)
            write("plain", SHOW)
            local result = run(case[2], { stdin = SHOW })
            assert.equal("", result.stderr)
            assert.equal(0, result.code)
            if case[3] then
                assert.equal(case[3], result.stdout)
            else
                assert.matches("1=x |\tx\n$", result.stdout)
            end
        end)
    end

    it("comes from standard input where there is no word and no terminal", function()
        local result = run({}, { stdin = 'print("piped", arg[1])' })
        assert.equal("piped\tnil\n", result.stdout)
        assert.equal(0, result.code)
        assert.equal(0, run({}).code)
    end)

    it("may begin with #!, and line numbers stay", function()
        local path = write("bang.lua", "#!" .. process.moonflow() .. "\nprint(...)\nerror('here')\n")
        assert(os.execute("chmod +x " .. path))
        local result = process.run { path, "x" }
        assert.equal("x\n", result.stdout)
        assert.equal(1, result.code)
        assert.matches("bang.lua:3: here", result.stderr)
    end)

    it("may have a byte order mark and CRLF", function()
        write("s.lua", "\xEF\xBB\xBF#!/usr/bin/env moonflow\r\nprint(1)\r\nprint(2)\r\n")
        assert.equal("1\n2\n", run({ "s.lua" }).stdout)
    end)

    it("waits for its tasks", function()
        local result = run { "-e", [[
            local task = require "moonflow.task"
            task.spawn(function() task.sleep(0.1) print("task") end)
            print("main")]] }
        assert.equal("main\ntask\n", result.stdout)
        assert.equal(0, result.code)
    end)

    it("ends with an error where a task failed that nobody waits for", function()
        local result = run { "-e", 'require("moonflow.task").spawn(function() error("alone") end)' }
        assert.equal(1, result.code)
        assert.matches("alone", result.stderr)
    end)

    it("gives its own exit code with os.exit, and closes the state when asked to", function()
        assert.equal(7, run({ "-e", "os.exit(7)" }).code)
        assert.equal(1, run({ "-e", "os.exit(false)" }).code)
        local result = run { "-e", 'setmetatable({}, {__gc = function() print("closed") end}) os.exit(0, true)' }
        assert.equal("closed\n", result.stdout)
        assert.equal(0, result.code)
    end)
end)

describe("a module", function()
    it("beside the script is found from anywhere", function()
        write("a/beside.lua", 'return "beside"')
        write("a/deep/init.lua", 'return "deep"')
        local script = write("a/s.lua", 'print((require "beside"), (require "deep"))')
        for _, from in ipairs { "/", dir, dir .. "/a" } do
            assert.equal("beside\tdeep\n", run({ script }, { dir = from }).stdout)
        end
        assert.equal("beside\tdeep\n", run({ "a/s.lua" }).stdout)
        assert.equal("beside\tdeep\n", run({ "s.lua" }, { dir = dir .. "/a" }).stdout)
        assert(os.execute(("ln -s ../a/s.lua '%s/link.lua'"):format(dir .. "/a")))
        assert.equal("beside\tdeep\n", run({ "a/link.lua" }).stdout)
    end)

    it("in the working directory is not found, whatever the variables say", function()
        write("here.lua", 'print("loaded from the working directory")')
        write("moonflow/here.lua", 'print("loaded from the working directory")')
        write("a/s.lua", 'print((pcall(require, "here")), (pcall(require, "moonflow.here")))')
        for _, env in ipairs { {}, { LUA_PATH = "./?.lua;?.lua;;" }, { LUA_PATH_5_4 = "?.lua" } } do
            assert.equal("false\tfalse\n", run({ "a/s.lua" }, { env = env }).stdout)
            local code = 'print((pcall(require, "here")), (package.path .. ";" .. package.cpath):find(";%.?/?%?"))'
            assert.equal("false\tnil\n", run({ "-e", code }, { env = env }).stdout)
        end
    end)

    it("of moonflow's comes from MOONFLOW_LUA_DIR first, and has its file's name in errors", function()
        write("lua/moonflow/env.lua", 'return "mine"')
        write("lua/moonflow/broken.lua", "\nreturn +")
        local env = { MOONFLOW_LUA_DIR = dir .. "/lua" }
        assert.equal("mine\n", run({ "-e", 'print((require "moonflow.env"))' }, { env = env }).stdout)
        assert.equal("table\n", run({ "-e", 'print(type(require "moonflow.task"))' }, { env = env }).stdout)
        local result = run({ "-e", 'require "moonflow.broken"' }, { env = env })
        assert.equal(1, result.code)
        assert.matches("broken.lua:2:", result.stderr)
    end)

    it("that is missing is told with its name", function()
        local result = run { "-e", 'require "moonflow.nothing"' }
        assert.equal(1, result.code)
        assert.matches("module 'moonflow.nothing' not found", result.stderr)
    end)

    it("of every name of the program's can be loaded", function()
        local result = run { "-e", [[
            for _, name in ipairs { "moonflow", "moonflow.auth", "moonflow.check", "moonflow.client", "moonflow.config",
                "moonflow.deployments", "moonflow.env", "moonflow.error", "moonflow.http", "moonflow.json",
                "moonflow.pipeline", "moonflow.plugins", "moonflow.repl", "moonflow.retry", "moonflow.sys",
                "moonflow.target", "moonflow.task", "moonflow.url", "cjson", "cjson.safe" } do
                assert(type(require(name)) == "table", name)
            end
            print(require("moonflow.sys").version == require("moonflow.host").version)]] }
        assert.equal("true\n", result.stdout, result.stderr)
    end)
end)

describe("the command line", function()
    it("tells version and usage on standard output", function()
        local version = run { "--version" }
        assert.matches("^moonflow %d+%.%d+%S* %(Lua 5%.4%S*%)\n$", version.stdout)
        assert.equal(0, version.code)
        for _, option in ipairs { "--help", "-h" } do
            local help = run { option }
            assert.equal(0, help.code)
            assert.equal("", help.stderr)
            for _, word in ipairs { "SCRIPT", "-e", "--plugin-dir", "--version", "run" } do
                assert.truthy(help.stdout:find(word, 1, true), word)
            end
        end
    end)

    local mistakes = {
        { { "--frob" }, 'unknown option "--frob"' },
        { { "-x" }, 'unknown option "-x"' },
        { { "frob" }, '"frob" is no command' },
        { { "" }, '"" is no command' },
        { { "-e" }, 'option "-e" needs a value' },
        { { "--plugin-dir" }, 'option "--plugin-dir" needs a value' },
        { { "run" }, '"run" needs a script' },
    }
    for _, case in ipairs(mistakes) do
        it("with a mistake ends with 2: " .. table.concat(case[1], " "), function()
            local result = run(case[1], { stdin = 'print("must not run")' })
            assert.equal(2, result.code)
            assert.equal("", result.stdout)
            assert.truthy(result.stderr:find("error: " .. case[2], 1, true), result.stderr)
            assert.matches("\n  try: moonflow %-%-help\n$", result.stderr)
        end)
    end

    it("takes plugin directories, in both forms", function()
        write("p/mine.lua", [[
            return { api = 1, name = "mine", client = require("moonflow.client").BaseDeploymentClient:extend {
                predict = function(_, args) return "mine: " .. args.inputs end } }]])
        local code = 'print(require("moonflow.deployments").get_deploy_client("mine"):predict{ inputs = "x" })'
        for _, option in ipairs { { "--plugin-dir", dir .. "/p" }, { "--plugin-dir=" .. dir .. "/p" } } do
            table.move({ "-e", code }, 1, 2, #option + 1, option)
            local result = run(option)
            assert.equal("mine: x\n", result.stdout, result.stderr)
        end
        assert.equal(2, run({ "-e", code }).code)
    end)
end)

describe("a failed script", function()
    it("names what is missing", function()
        local result = run { "./none.lua" }
        assert.equal(1, result.code)
        assert.matches("^error: .*none.lua: No such file", result.stderr)
        assert.equal(1, run({ "./" }).code)
    end)

    it("names file and line of a syntax error", function()
        write("s.lua", "\n\nlocal x = = 1\n")
        local result = run { "s.lua" }
        assert.equal(1, result.code)
        assert.equal("error: s.lua:3: unexpected symbol near '='\n", result.stderr)
    end)

    it("names file and line of an error, and how it came there", function()
        write("s.lua", 'local function inner()\n    error("boom")\nend\nprint("before")\ninner()\n')
        local result = run { "s.lua" }
        assert.equal(1, result.code)
        assert.equal("before\n", result.stdout)
        assert.matches("^error: s.lua:2: boom\n", result.stderr)
        assert.matches("s.lua:5: in main chunk", result.stderr)
        assert.falsy(result.stderr:find("[C]", 1, true))
        assert.falsy(result.stderr:find("moonflow/", 1, true))
    end)

    it("refuses bytecode", function()
        write("s.lua", string.dump(function()
            print("ran")
        end))
        local result = run { "s.lua" }
        assert.equal(1, result.code)
        assert.equal("", result.stdout)
        assert.matches("binary chunk", result.stderr)
    end)

    for _, value in ipairs {
        "nil", "42", "{}", "print", '"text"', 'setmetatable({}, {__name = "thing"})',
        'setmetatable({}, {__tostring = function() return "own" end})',
        'setmetatable({}, {__tostring = function() error "again" end})',
        "setmetatable({}, {__tostring = function() return {} end})",
    } do
        it("tells any value: error(" .. value .. ")", function()
            local result = run { "-e", "error(" .. value .. ", 0)" }
            assert.equal(1, result.code)
            assert.matches("^error: %S", result.stderr)
        end)
    end

    local codes = {
        { 1, 'error("plain")' },
        { 2, 'raise { kind = "usage", message = "m" }' },
        { 2, 'raise { kind = "config", message = "m" }' },
        { 3, 'raise { kind = "http", http_status = 404, message = "m" }' },
        { 4, 'raise { kind = "auth", message = "m" }' },
        { 4, 'raise { kind = "http", http_status = 401, message = "m" }' },
        { 4, 'raise { kind = "http", http_status = 403, message = "m" }' },
        { 5, 'raise { kind = "http", http_status = 400, message = "m" }' },
        { 5, 'raise { kind = "http", http_status = 422, message = "m" }' },
        { 5, 'raise { kind = "unsupported", message = "m" }' },
        { 6, 'raise { kind = "http", http_status = 500, message = "m" }' },
        { 6, 'raise { kind = "http", http_status = 503, message = "m" }' },
        { 6, 'raise { kind = "decode", message = "m" }' },
        { 7, 'raise { kind = "http", http_status = 429, message = "m" }' },
        { 8, 'raise { kind = "network", message = "m" }' },
        { 9, 'raise { kind = "timeout", message = "m" }' },
        { 10, 'raise { kind = "plugin", message = "m" }' },
        { 130, 'raise { kind = "cancelled", message = "m" }' },
    }
    for _, case in ipairs(codes) do
        it(("has the exit code %d of %s"):format(case[1], case[2]), function()
            local result = run { "-e", 'local raise = require("moonflow.error").raise\n' .. case[2] }
            assert.equal(case[1], result.code)
            assert.matches("^error: %(command line%):2: ", result.stderr)
        end)
    end

    it("has an exit code even where somebody spoilt the error object", function()
        for _, change in ipairs {
            "kind = nil", "kind = 5", 'http_status = "x"', "message = nil", "hint = {}", "where = {}",
        } do
            local result = run { "-e", [[
                local err = require("moonflow.error").new { kind = "http", http_status = 404, message = "m" }
                err.]] .. change .. " error(err)" }
            assert.is_true(result.code >= 1 and result.code <= 10, change .. ": " .. result.code)
            assert.equal(1, select(2, result.stderr:gsub("error: ", "")), result.stderr)
        end
    end)

    it("has the form of an error for people", function()
        local server <close> = raw.listen {
            raw.reply { status = 404, json = { error_code = "ENDPOINT_NOT_FOUND", message = "no endpoint chatt" } },
        }
        write("s.lua", "local client = require('moonflow.deployments').get_deploy_client(arg[1])\n"
            .. "client:predict{ endpoint = 'chatt' }\n")
        local result = run { "s.lua", server.url }
        assert.equal(3, result.code)
        assert.equal(("error: s.lua:2: %s answered 404 Scripted: no endpoint chatt\n"
            .. "  why: POST /endpoints/chatt/invocations\n"):format(server.url), result.stderr)
    end)
end)

describe("output", function()
    it("that is lost is a failure", function()
        for _, code in ipairs {
            "print(1)", 'io.write(("x"):rep(1e6))', "print(1) os.exit(0)", "print(1) os.exit(0, true)",
            "print(1) os.exit()",
        } do
            local result = shell(([["$M" -e '%s' >/dev/full]]):format(code))
            assert.equal(1, result.code, code)
            assert.matches("cannot write to standard output: No space left on device", result.stderr)
        end
        assert.equal(1, shell('"$M" --version >/dev/full').code)
        assert.equal(3, shell([["$M" -e 'print(1) require("moonflow.error").raise { kind = "http", http_status = 404,
            message = "m" }' >/dev/full]]).code)
    end)

    it("that nobody reads any more ends quietly", function()
        local result = shell([[{ "$M" -e 'for i = 1, 1e6 do io.write(i, "\n") end'; echo $? >&2; } | head -n 1]])
        assert.equal("1\n", result.stdout)
        assert.equal("1\n", result.stderr)
    end)

    it("stays apart from files and connections where it is closed from the start", function()
        local server <close> = raw.listen { raw.reply { body = "x" } }
        local file = write("file", "")
        write("s.lua", [[
            local file = assert(io.open(arg[1], "w"))
            local http = require "moonflow.http"
            assert(http.request { url = arg[2] })
            print("to standard output")
            io.stderr:write("to standard error\n")
            file:write("in the file")
            file:close()
            assert(http.request { url = arg[2] })
            os.exit(io.read() == nil and 0 or 9)]])
        assert.equal(0, shell(([["$M" s.lua '%s' %s <&- >&- 2>&-]]):format(file, server.url)).code)
        local handle <close> = assert(io.open(file))
        assert.equal("in the file", handle:read("a"))
        for _, bytes in ipairs(server:received()) do
            assert.falsy(bytes:find("to standard", 1, true))
        end
    end)

    it("goes out before an error's text", function()
        local result = shell([["$M" -e 'io.write("first ") error("second", 0)' 2>&1]])
        assert.matches("^first error: second\n", result.stdout)
    end)
end)

describe("the prompt", function()
    --- Types these steps at the prompt and returns what the terminal showed, and the exit code.
    local function type_in(steps)
        steps[#steps + 1] = "\4"
        table.insert(steps, 1, { expect = "> " })
        local result = process.run {
            "python3", "tests/support/terminal.py", process.moonflow(), stdin = assert(json.encode(json.array(steps))),
        }
        assert.equal("", result.stderr, result.stdout)
        return (result.stdout:gsub("\r\n", "\n")), result.code
    end

    --- Types an expression whose value is told by no other text, and waits for it.
    local function still_works(steps)
        steps[#steps + 1] = '("al"):rep(2) .. "ive"\n'
        steps[#steps + 1] = { expect = "alalive" }
        return type_in(steps)
    end

    it("says what it is, and ends with Ctrl-D", function()
        local shown, code = type_in {}
        assert.matches("^moonflow %d+%.%d+.*Ctrl%-D", shown)
        assert.equal(0, code)
    end)

    it("shows the values of expressions, runs statements and keeps globals", function()
        local shown, code = type_in {
            "2^70, nil, 'x'\n", { expect = '"x"' }, "y = 6\n", "y * 7\n", { expect = "42" }, "return y + 94\n",
            { expect = "100" },
        }
        assert.falsy(shown:find("error", 1, true))
        assert.equal(0, code)
    end)

    it("takes several lines", function()
        still_works { "for i = 1, 2 do\n", { expect = ">> " }, "io.write('line', i, ';')\n", "end\n",
            { expect = "line1;line2;" } }
    end)

    it("goes on after errors of all kinds", function()
        local _, code = still_works {
            "x x\n", { expect = "error: " }, "error('boom')\n", { expect = "boom" }, "error()\n",
            { expect = "error: nil" }, "nothing.at.all\n", { expect = "error: " }, "error({})\n",
            { expect = "error: table" },
            "deployments.get_deploy_client('nowhere')\n", { expect = "nowhere" },
        }
        assert.equal(0, code)
    end)

    it("goes on after a value that can not be shown", function()
        local value = "setmetatable({}, {__tostring = function() error('in' .. 'side') end})"
        still_works { value .. "\n", { expect = "inside" } }
        still_works { "error(" .. value .. ")\n", { expect = "inside" } }
    end)

    it("forgets the line at Ctrl-C", function()
        local _, code = still_works { "error('typed", { sleep = 0.2 }, "\3", { expect = "> " }, "for i = 1, 2 do\n",
            { expect = ">> " }, "\3", { expect = "> " } }
        assert.equal(0, code)
    end)

    for name, code in pairs {
        ["a loop"] = "while true do end\n",
        ["a loop in a coroutine"] = "f = function() while true do end end coroutine.wrap(function() "
            .. "while true do pcall(f) end end)()\n",
        ["a wait"] = "task.sleep(100)\n",
    } do
        it("stops " .. name .. " at Ctrl-C and goes on", function()
            local _, exit_code = still_works { code, { sleep = 0.4 }, "\3", { expect = "interrupted" } }
            assert.equal(0, exit_code)
        end)
    end

    it("stops a request at Ctrl-C, closes it and goes on", function()
        local server <close> = raw.listen { connections = { { { read = "request" }, { stall = true } } } }
        still_works {
            ("deployments.get_deploy_client('%s'):predict{ endpoint = 'e' }\n"):format(server.url), { sleep = 0.5 },
            "\3", { expect = "interrupted" },
        }
        local connections = server:connections()
        assert.equal(1, #connections)
        assert.is_false(connections[1].open)
    end)

    it("sends requests", function()
        local server <close> = raw.listen { raw.reply { json = { text = "from the server" } } }
        still_works {
            ("deployments.get_deploy_client('%s'):predict{ endpoint = 'e' }.text\n"):format(server.url),
            { expect = "from the server" },
        }
    end)

    it("ends with the exit code of os.exit", function()
        assert.equal(5, select(2, type_in { "os.exit(5)\n", { sleep = 0.2 } }))
    end)
end)
