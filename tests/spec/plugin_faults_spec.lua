--- Bad plugins, all in one directory: each is told with its file and harms nothing else.
local probe = require "support.probe"
local process = require "support.process"

local CLASS = 'require("moonflow.client").BaseDeploymentClient:extend { predict = function() return "bad" end }'

local function plugin(fields)
    return "return { " .. fields .. " }"
end

--- Name, text, and what is to be told.
local BAD = {
    { "syntax", "return {\n  api = = 1", "syntax.lua:2: unexpected symbol" },
    { "nilerror", "error(nil)", "can not be loaded" },
    { "tableerror", "error({})", "can not be loaded" },
    { "texterror", "\n\nerror('at load')", "texterror.lua:3: at load" },
    { "badtostring", "error(setmetatable({}, { __tostring = function() error('again') end }))", "can not be loaded" },
    { "loop", "while true do end", "does not end: stopped after 2 s" },
    { "pcallloop", "while true do pcall(function() while true do end end) end", "does not end: stopped after 2 s" },
    { "wrapped", "coroutine.wrap(function() while true do end end)()", "does not end: stopped after 2 s" },
    { "recursion", "local function f() return 1 + f() end\nf()", "stack overflow" },
    { "yields", "coroutine.yield()", "yields while it is loaded" },
    { "number", "return 5", "must return a table, returned 5" },
    { "empty", "", "must return a table, returned nil" },
    { "noclient", plugin "api = 1, name = 'noclient'", 'lacks the field "client"' },
    { "noapi", plugin("name = 'noapi', client = " .. CLASS), 'lacks the field "api"' },
    { "noname", plugin("api = 1, client = " .. CLASS), 'lacks the field "name"' },
    { "unknown", plugin("api = 1, name = 'unknown', cleint = 1, client = " .. CLASS), 'unknown field "cleint"' },
    { "wrongtype", plugin("api = 1, name = 5, client = " .. CLASS), 'field "name"' },
    { "textapi", plugin("api = '1', name = 'textapi', client = " .. CLASS), 'field "api"' },
    { "future", plugin("api = 99, name = 'future', client = " .. CLASS), "api = 99" },
    { "noclass", plugin "api = 1, name = 'noclass', client = { predict = print }", 'field "client"' },
    { "othername", plugin("api = 1, name = 'good', client = " .. CLASS), 'name = "good"' },
    { "bytecode", string.dump(load(plugin "api = 1")), "binary chunk" },
    { "notext", "\xff\xfe\0\0r\0e\0t\0u\0r\0n\0", "can not be loaded" },
    { "missing", 'return require "moonflow.nothing"', "module 'moonflow.nothing' not found" },
    { "itself", 'return require("moonflow.deployments").get_deploy_client("itself")', "itself.lua" },
    { "writable", plugin("api = 1, name = 'writable', client = " .. CLASS), "may be written by every user" },
    { "huge", "--" .. ("x"):rep(1024 * 1024), "can not be read" },
}

--- Entries that are no text at all: how they are made in the shell, for a file name.
local NO_FILES = {
    directory = "mkdir %s",
    fifo = "mkfifo %s",
    dangling = "ln -s /nonexistent/file %s",
    circle = "ln -s %s %s",
    device = "ln -s /dev/zero %s",
}

local GOOD = plugin([[api = 1, name = %q, client = require("moonflow.client").BaseDeploymentClient:extend {
    predict = function(_, args) return "good: " .. args.inputs end }]])

describe("bad plugins", function()
    local dir

    setup(function()
        dir = os.tmpname()
        os.remove(dir)
        assert(os.execute(("mkdir -p -m 700 %s/bad %s/other"):format(dir, dir)))
        local function write(name, text)
            local path = ("%s/%s.lua"):format(dir, name)
            local file = assert(io.open(path, "wb"))
            file:write(text)
            file:close()
            assert(os.execute("chmod 644 " .. path))
        end
        for _, case in ipairs(BAD) do
            write("bad/" .. case[1], case[2])
        end
        assert(os.execute(("chmod 666 %s/bad/writable.lua"):format(dir)))
        for name, command in pairs(NO_FILES) do
            local path = ("%s/bad/%s.lua"):format(dir, name)
            assert(os.execute((command:gsub("%%s", path))))
        end
        write("bad/twice", GOOD:format("twice"))
        write("other/twice", "-- another\n" .. GOOD:format("twice"))
        write("bad/http", "error('a built-in was replaced')")
        write("bad/https", "error('a built-in was replaced')")
        write("bad/Upper", "error('no name')")
        write("bad/.hidden", "error('an editor left it')")
        write("bad/good", "\xEF\xBB\xBF#!/usr/bin/env moonflow\r\n" .. GOOD:format("good"):gsub("\n", "\r\n"))
    end)

    teardown(function()
        os.execute("rm -r " .. dir)
    end)

    --- Runs code with all of them in the search path.
    local function run(code, ...)
        return process.run {
            args = { "--plugin-dir", dir .. "/bad", "--plugin-dir", dir .. "/other", "-e", code, ... },
            env = { HOME = dir, XDG_DATA_HOME = false, MOONFLOW_PLUGIN_PATH = false },
            timeout = 10,
        }
    end

    local ASK = 'require("moonflow.deployments").get_deploy_client(arg[1])'

    for _, case in ipairs(BAD) do
        it("are told: " .. case[1], function()
            local seconds, result = probe.timed(run, ASK, case[1])
            assert.equal(10, result.code, result.stderr)
            local first = result.stderr:match("^[^\n]*")
            assert.truthy(first:find(("%s/bad/%s.lua"):format(dir, case[1]), 1, true), result.stderr)
            assert.truthy(result.stderr:find(case[3], 1, true), result.stderr)
            assert.is_true(seconds < 5, seconds)
            assert.is_true(#result.stderr < 4000, #result.stderr)
        end)
    end

    for name in pairs(NO_FILES) do
        it("are told, and nobody waits for them: " .. name, function()
            local seconds, result = probe.timed(run, ASK, name)
            assert.is_true(result.code == 2 or result.code == 10, result.code .. result.stderr)
            assert.truthy(result.stderr:find(("%s/bad/%s.lua"):format(dir, name), 1, true), result.stderr)
            assert.is_true(seconds < 3, seconds)
        end)
    end

    it("of one name are told with both files, and neither is loaded", function()
        local result = run(ASK, "twice")
        assert.equal(2, result.code)
        assert.truthy(result.stderr:find(dir .. "/bad/twice.lua", 1, true), result.stderr)
        assert.truthy(result.stderr:find(dir .. "/other/twice.lua", 1, true), result.stderr)
    end)

    it("replace no built-in one", function()
        for _, target in ipairs { "http://localhost", "https://localhost" } do
            local result = run(ASK .. "\nprint(require('moonflow.deployments').get_deploy_client(arg[1]).name)", target)
            assert.equal("MlflowDeploymentClient\n", result.stdout, result.stderr)
        end
    end)

    it("are not those with a byte order mark, a #! line and CRLF", function()
        local result = run("print(" .. ASK .. ":predict{ inputs = 'hi' })", "good")
        assert.equal("good: hi\n", result.stdout, result.stderr)
    end)

    it("harm no good one, loaded before or after them", function()
        local names = {}
        for i, case in ipairs(BAD) do
            names[i] = case[1]
        end
        local result = run([[
            local deployments = require "moonflow.deployments"
            local function ask(name)
                return pcall(function() return deployments.get_deploy_client(name):predict{ inputs = "hi" } end)
            end
            local told = 0
            for i = 1, #arg do
                -- those that loop take their two seconds in a test of their own
                if not arg[i]:find("loop") and arg[i] ~= "wrapped" then
                    local ok, err = ask(arg[i])
                    told = told + (not ok and require("moonflow.error").is(err) and 1 or 0)
                    assert(select(2, ask("good")) == "good: hi")
                end
            end
            print(told, #arg, select(2, ask("echo")).echo, ("x"):upper(), (debug.gethook()))]],
            table.unpack(names))
        assert.equal(("%d\t%d\thi\tX\tnil\n"):format(#BAD - 3, #BAD), result.stdout, result.stderr)
        assert.equal(0, result.code)
    end)

    it("are listed without being loaded", function()
        local seconds, result = probe.timed(run, [[
            for _, entry in ipairs(require("moonflow.plugins").list()) do
                print(entry.name, entry.builtin and "built in" or entry.problem or "")
            end]])
        assert.equal(0, result.code, result.stderr)
        assert.is_true(seconds < 2, seconds)
        for _, line in ipairs {
            "http\tbuilt in\n", "http\ta built-in target can not be replaced\n", "loop\t\n", "good\t\n",
            "twice\tanother plugin has this name: " .. dir .. "/bad/twice.lua\n", "Upper\tnot a name",
        } do
            assert.truthy(result.stdout:find(line, 1, true), line .. result.stdout)
        end
        assert.falsy(result.stdout:find("hidden", 1, true))
    end)

    it("do not count among the targets that an error names, where they can not be one", function()
        local result = run(ASK, "goood")
        assert.equal(2, result.code)
        assert.falsy(result.stderr:find("hidden", 1, true))
        assert.falsy(result.stderr:find("Upper", 1, true), result.stderr)
        assert.truthy(result.stderr:find("good", 1, true), result.stderr)
    end)
end)

describe("a plugin's method", function()
    local dir

    setup(function()
        dir = os.tmpname()
        os.remove(dir)
        assert(os.execute("mkdir -m 700 " .. dir))
    end)

    teardown(function()
        os.execute("rm -r " .. dir)
    end)

    --- The error of a plugin whose predict does this; and afterwards all works.
    local function failing(body)
        local path = dir .. "/acme.lua"
        local file = assert(io.open(path, "wb"))
        file:write('local client = require "moonflow.client"\n', plugin("api = 1, name = 'acme', "
            .. "client = client.BaseDeploymentClient:extend {\npredict = function()\n" .. body .. "\nend }"))
        file:close()
        assert(os.execute("chmod 644 " .. path))
        return process.run {
            args = { "--plugin-dir", dir, "-e", [[
                local deployments = require "moonflow.deployments"
                local ok, err = pcall(function()
                    return deployments.get_deploy_client("acme"):predict{ inputs = "x" }
                end)
                assert(deployments.get_deploy_client("echo"):predict{ inputs = "x" }.echo == "x")
                print(ok, ok or require("moonflow.error").is(err) and err.kind)
                if not ok then error(err) end]] },
            timeout = 20,
        }
    end

    for _, body in ipairs {
        "error('text')", "error(nil)", "error({})", "error(42)", "error(print)", "local x = nil; return x.y",
        "error(setmetatable({}, { __tostring = function() error('again') end }))", "coroutine.yield(1)",
        "local function f() return 1 + f() end return f()", "return table.concat({ {} })",
        "return ('x'):rep(1 << 50)",
        "local x <close> = setmetatable({}, { __close = function() error('closing') end })",
    } do
        it("that fails is a failed plugin: " .. body, function()
            local result = failing(body)
            assert.equal("false\tplugin\n", result.stdout, result.stderr)
            assert.equal(10, result.code)
            assert.matches('plugin "acme" failed in predict', result.stderr)
            assert.is_true(#result.stderr < 4000, #result.stderr)
        end)
    end

    it("that raises an error object is a failed call", function()
        local result = failing("require('moonflow.error').raise { kind = 'http', http_status = 404, message = 'gone' }")
        assert.equal("false\thttp\n", result.stdout, result.stderr)
        assert.equal(3, result.code)
    end)

    it("that raises an error object of its own making is no crash", function()
        local result = failing("local e = require('moonflow.error').new { kind = 'http', message = 'm' }\n"
            .. "e.kind, e.message = nil, {}\nerror(e)")
        assert.is_true(result.code >= 1 and result.code <= 10, result.code)
        assert.truthy(result.stdout:find("^false"))
    end)
end)
