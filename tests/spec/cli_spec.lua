--- The commands as their user meets them: output, messages and exit codes. The command lines are data,
-- tests/support/cli_cases.lua.
local cases = require "support.cli_cases"
local json = require "moonflow.json"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"

local dir -- a directory of the running test's own

local function write(name, text)
    local path = dir .. "/" .. name
    local file <close> = assert(io.open(path, "wb"))
    file:write(text)
    return path
end

local function read(path)
    local file <close> = assert(io.open(path, "rb"))
    return file:read("a")
end

local function run(args, options)
    options = options or {}
    options.args, options.dir = args, dir
    return process.run(options)
end

--- Runs moonflow on a terminal, and types the steps; what it shows, and its exit code.
local function on_terminal(args, steps, env)
    local words = { "env" }
    for name, value in pairs(env or {}) do
        words[#words + 1] = name .. "=" .. value
    end
    table.move({ "python3", "tests/support/terminal.py", process.moonflow() }, 1, 3, #words + 1, words)
    table.move(args, 1, #args, #words + 1, words)
    words.stdin = assert(json.encode(json.array(steps or {})))
    local result = process.run(words)
    assert.equal("", result.stderr, result.stdout)
    return (result.stdout:gsub("\r\n", "\n")), result.code
end

before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir -m 700 " .. dir))
end)

after_each(function()
    os.execute("rm -rf " .. dir)
end)

local function check(case)
    local result = run(case.args, { stdin = case.stdin, env = case.env })
    local about = result.stdout .. result.stderr
    assert.equal(case.code or 0, result.code, about)
    assert.equal(case.out or result.stdout, result.stdout, about)
    assert.equal(case.err or result.stderr, result.stderr, about)
    assert.truthy(result.stdout:find(case.out_has or "", 1, true), about)
    assert.truthy(result.stderr:find(case.err_has or "", 1, true), about)
    if case.code then
        assert.equal("", result.stdout)
        assert.truthy(result.stderr ~= "", "an error says something")
    end
end

describe("the command line", function()
    for _, case in ipairs(cases.echo) do
        it("moonflow " .. table.concat(case.args, " "):gsub("%c", "?"), function()
            check(case)
        end)
    end

    it("makes a config of the words behind -C", function()
        local file = write("base.json", '{"a": {"b": 1, "c": [1]}, "d": "x"}')
        local list = write("list.json", "[1]")
        for _, case in ipairs(cases.config) do
            local args = { "-t", "echo", "endpoints", "create", "e", "--quiet", "-q", "r.config" }
            for _, word in ipairs(case[1]) do
                word = word:gsub("@FILE", "@" .. file):gsub("@LIST", "@" .. list)
                table.move({ "-C", word }, 1, 2, #args + 1, args)
            end
            local result = run(args)
            local about = table.concat(case[1], " ") .. "\n" .. result.stdout .. result.stderr
            assert.equal(case[2] and case[2] .. "\n" or "", result.stdout, about)
            assert.equal(case[2] and 0 or 2, result.code, about)
            assert.truthy(result.stderr:find(case[3] or "", 1, true), about)
        end
    end)

    it("knows help everywhere, whatever is missing", function()
        for _, args in ipairs {
            { "-h" }, { "--help" }, { "endpoints", "-h" }, { "endpoints", "get", "--help" }, { "-v", "--help" },
            { "deployments", "create", "--help" }, { "serve", "--help" },
        } do
            local result = run(args)
            assert.equal(0, result.code, result.stderr)
            assert.equal("", result.stderr)
            assert.matches("usage: moonflow", result.stdout)
        end
    end)

    it("describes each option once for a command, and no short name twice", function()
        local commands = require "moonflow.cli.commands"
        local function visit(command)
            local names = {}
            for _, list in ipairs { commands.globals, command.options or {} } do
                for _, option in ipairs(list) do
                    for _, name in ipairs(option.names) do
                        assert.is_nil(names[name], command.full_name .. " " .. name)
                        names[name] = true
                    end
                end
            end
            assert.truthy(command.summary and (command.run or command.commands or command.host), command.full_name)
            for _, below in ipairs(command.commands or {}) do
                visit(below)
            end
        end
        visit(commands.root)
    end)
end)

describe("an exit code", function()
    for _, case in ipairs(cases.codes) do
        it(("of status %d is %d, as text and as JSON"):format(case[1], case[2]), function()
            local server <close> = raw.listen {
                raw.reply { status = case[1], json = { error_code = "X", message = "said" } },
            }
            local args = { "-t", server.url, "endpoints", "get", "x", "--retries", "0" }
            local result = run(args)
            assert.equal(case[2], result.code, result.stderr)
            assert.matches("^error: ", result.stderr)
            table.move({ "-o", "json" }, 1, 2, #args + 1, args)
            result = run(args)
            local told = assert(json.decode(result.stderr)).error
            assert.equal(case[2], result.code)
            assert.equal(case[2], told.exit)
            assert.equal(case[1], told.http_status)
            assert.equal("", result.stdout)
        end)
    end

    it("of what is no answer", function()
        local html <close> = raw.listen { raw.reply { body = "<html>" } }
        local silent <close> = raw.listen { connections = { { { read = "request" }, { stall = true } } } }
        write("broken.lua", "return 5")
        for _, case in ipairs {
            { 6, { "-t", html.url, "endpoints", "list" } },
            { 8, { "-t", "http://127.0.0.1:" .. raw.closed_port(), "endpoints", "list", "--retries", "0" } },
            { 9, { "-t", silent.url, "predict", "-e", "x", "-I", "-", "--timeout", "300ms" } },
            { 9, { "-t", silent.url, "endpoints", "list", "--timeout", "0.3" } },
            { 10, { "--plugin-dir", dir, "-t", "broken", "endpoints", "list" } },
            { 5, { "-t", html.url, "deployments", "list" } },
            { 4, { "-t", "openai", "endpoints", "list" } },
        } do
            local result = run(case[2], { stdin = "{}", env = { OPENAI_API_KEY = false, HOME = dir } })
            assert.equal(case[1], result.code, table.concat(case[2], " ") .. result.stderr)
            assert.equal("", result.stdout)
        end
    end)

    it("of an interrupt is 130", function()
        local silent <close> = raw.listen { connections = { { { read = "request" }, { stall = true } } } }
        local result = run({ "-t", silent.url, "endpoints", "list" }, { interrupt = 1 })
        assert.equal(130, result.code, result.stderr)
    end)
end)

describe("what is sent", function()
    it("is nothing where a deletion is not confirmed", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        local args = { "-t", server.url, "endpoints", "delete", "x" }
        assert.equal(2, run(args).code)
        local shown, code = on_terminal(args, { { expect = "[y/N] " }, "\n" })
        assert.equal(1, code)
        assert.equal(("delete endpoint \"x\" on %s? [y/N] \nnothing was deleted\n"):format(server.url), shown)
        assert.equal(130, select(2, on_terminal(args, { { expect = "[y/N] " }, "\3" })))
        assert.equal(0, #server:requests())
    end)

    it("is repeated as often as --retries says", function()
        local server <close> = raw.listen { raw.reply { status = 503, headers = { ["Retry-After"] = "0" } } }
        assert.equal(6, run { "-t", server.url, "endpoints", "list", "--retries", "2" }.code)
        assert.equal(3, #server:requests())
        local quiet = run { "-t", server.url, "endpoints", "list", "--retries=1", "--quiet" }
        assert.matches("^error: ", quiet.stderr)
        assert.equal(5, #server:requests())
    end)

    it("is shown in place of being sent", function()
        local server <close> = raw.listen { raw.reply { json = {} } }
        for _, option in ipairs { "--curl", "--dry-run" } do
            local result = run { "-t", server.url, option, "predict", "-e", "a b", "hello" }
            assert.equal(0, result.code, result.stderr)
            assert.matches("/endpoints/a%%20b/invocations", result.stdout)
            assert.matches("hello", result.stdout)
        end
        assert.equal(0, run { "-t", server.url, "--dry-run", "endpoints", "get", "x" }.code)
        assert.equal(0, #server:requests())
    end)

    it("is told with -v, also of a script", function()
        local server <close> = raw.listen { raw.reply { json = { endpoints = json.array {} } } }
        local script = write("s.lua", "require('moonflow.deployments').get_deploy_client():list_endpoints()")
        for _, args in ipairs { { "endpoints", "list" }, { script }, { "run", script } } do
            local result = run { "-t", server.url, "-v", table.unpack(args) }
            assert.equal(0, result.code, result.stderr)
            assert.matches("GET http://", result.stderr)
        end
    end)
end)

describe("output to a file", function()
    local ARGS = { "-t", "echo", "predict", "-e", "echo", "-I", "-" }

    local function into(path, stdin, ...)
        return run({ table.unpack(table.move({ "-O", path, ... }, 1, 2 + select("#", ...), #ARGS + 1,
            { table.unpack(ARGS) })) }, { stdin = stdin })
    end

    it("is there only when it is whole", function()
        local path = write("out.json", "before")
        assert.equal(2, into(path, "{").code)
        assert.equal("before", read(path))
        local result = into(path, "1")
        assert.equal(0, result.code, result.stderr)
        assert.equal("", result.stdout)
        assert.equal('{"echo":1,"endpoint":"echo"}\n', read(path))
        assert.equal(3, run({ "-t", "echo", "predict", "-e", "nobody", "-I", "-", "-O", path }, { stdin = "2" }).code)
        assert.equal('{"echo":1,"endpoint":"echo"}\n', read(path))
        assert.equal("out.json\n", process.run { "ls", dir }.stdout)
    end)

    it("takes streams, standard output and devices", function()
        assert.equal(0, into(dir .. "/s", '"a b"', "--stream").code)
        assert.equal('"a"\n"b"\n', read(dir .. "/s"))
        assert.equal('{"echo":1,"endpoint":"echo"}\n', into("-", "1").stdout)
        assert.equal(0, into("/dev/null", "1").code)
        local result = into("/dev/full", "1")
        assert.equal(2, result.code)
        assert.matches("/dev/full can not be written", result.stderr)
        assert.equal(2, into(dir .. "/no/such", "1").code)
    end)
end)

describe("on a terminal", function()
    local ESCAPES = json.array {
        { name = "a\27]0;x\7b", endpoint_type = "t\194\155x", model = { name = ("m"):rep(200) } },
    }

    it("lists are tables, fitted and without a server's escape sequences", function()
        local server <close> = raw.listen { raw.reply { json = { endpoints = ESCAPES } } }
        local shown = on_terminal({ "-t", server.url, "endpoints", "list" }, {}, { COLUMNS = "40" })
        assert.matches("^NAME +TYPE +MODEL\na %]0;x b +t x +m+%.%.%.\n$", shown)
        for line in shown:gmatch("[^\n]+") do
            assert.is_true(#line <= 40, line)
        end
        assert.falsy(shown:find("[\27\155\7]"))
        shown = on_terminal { "-t", server.url, "endpoints", "list", "-o", "json" }
        assert.falsy(shown:find("[\27\155\7]"))
        shown = on_terminal { "-t", server.url, "endpoints", "list", "-o", "name" }
        assert.equal("a ]0;x b\n", shown)
    end)

    it("an answer is its text, whole and in parts", function()
        local target = skip.unless_env("MOONFLOW_TEST_GATEWAY")
        for _, more in ipairs { "--text", "--stream" } do
            local shown, code = on_terminal { "-t", target, "predict", "-e", "chat", "hi", more }
            assert.equal(0, code, shown)
            assert.matches("^You asked: [^\n]*%.\ngpt%-3%.5%-turbo, 15 tokens, [%d.]+ s\n$", shown)
            local words = { "-t", target, "predict", "-e", "chat", "hi", "--text", more == "--text" and "-v" or more }
            local piped = run(words)
            assert.matches("^You asked: [^\n]*%.\n$", piped.stdout)
        end
    end)

    it("has no colour with NO_COLOR or on a dumb terminal, and a bold head else", function()
        for variables, head in pairs {
            ["TERM=xterm"] = "^\27%[1mNAME", ["TERM=xterm NO_COLOR=1"] = "^NAME", ["TERM=dumb"] = "^NAME",
        } do
            -- within, as the driver itself sets TERM
            local line = ("exec env %s '%s' -t echo endpoints list"):format(variables, process.moonflow())
            local result = process.run { "python3", "tests/support/terminal.py", "sh", "-c", line, stdin = "[]" }
            assert.matches(head, result.stdout)
        end
    end)
end)
