--- The history's file, and what does not get into it.
local auth = require "moonflow.auth"
local history = require "moonflow.repl.history"
local script = require "moonflow.repl.script"
local skip = require "support.skip"
local source = require "moonflow.repl.source"
local sys = require "moonflow.sys"
local terminal = require "support.terminal"

describe("a history entry", function()
    for _, text in ipairs { "x = 1", "for i = 1, 2 do\n\tprint(i)\nend", [["a\nb" \ ]], "\\\n\\n" } do
        it(("is one line of the file: %q"):format(text), function()
            assert.falsy(history.encode(text):find("\n", 1, true))
            assert.equal(text, history.decode(history.encode(text)))
        end)
    end

    it("has no secrets", function()
        auth.secret("sk-known-secret-0123456789")
        for given, kept in pairs {
            ['f("sk-known-secret-0123456789")'] = 'f("<redacted>")',
            ['env.OPENAI_API_KEY = "abc"'] = 'env.OPENAI_API_KEY = "<redacted>"',
            ['env["OPENAI_API_KEY"] = "abc"'] = 'env["OPENAI_API_KEY"] = "<redacted>"',
            ["get_deploy_client('databricks', { token='abc', host = 'h' })"] =
                "get_deploy_client('databricks', { token='<redacted>', host = 'h' })",
            ['headers = { Authorization = "Basic abc" }'] = 'headers = { Authorization = "<redacted>" }',
            ['x = "Bearer q7w.def"'] = 'x = "Bearer <redacted>"',
            ['max_tokens = 5, name = "x"'] = 'max_tokens = 5, name = "x"',
        } do
            assert.equal(kept, history.redact(given))
        end
    end)

    it("is none where it begins with a space, is empty or long", function()
        assert.is_true(history.wants "x")
        for _, text in ipairs { " x", "\tx", "", "\n", ("x"):rep(20000) } do
            assert.is_false(history.wants(text))
        end
    end)
end)

describe("the history's file", function()
    local found, line = pcall(require, "moonflow._line")

    local function with_file(fn)
        skip.unless(found, "the line editor is not built")
        local home <close> = terminal.home()
        fn(home.path .. "/a/b/history")
    end

    it("is its owner's alone, and so are its directories", function()
        with_file(function(path)
            assert.is_true(history.add(line, path, "x = 1\ny = 2"))
            assert.is_true(history.add(line, path, " hidden"))
            assert.equal(384, sys.stat(path).mode) -- 0600
            assert.equal(448, sys.stat(path:match("^(.*)/")).mode) -- 0700
            assert.same({ "x = 1\ny = 2" }, history.load(path))
        end)
    end)

    it("keeps the last lines", function()
        with_file(function(path)
            for i = 1, 100 do
                assert(history.add(line, path, ("line = %d"):format(i)))
            end
            assert.is_true(line.trim(path, 10000))
            assert.equal(100, #history.load(path))
            assert.is_true(line.trim(path, 100))
            local entries = history.load(path)
            assert.is_true(#entries > 5 and #entries < 10, #entries)
            assert.equal("line = 100", entries[#entries])
            assert.equal(384, sys.stat(path).mode)
        end)
    end)

    it("loses nothing where several write and cut it", function()
        with_file(function(path)
            local code = [[
                local line, history = require "moonflow._line", require "moonflow.repl.history"
                for i = 1, 50 do
                    assert(history.add(line, arg[1], ("%s = %d"):format(arg[2], i)))
                    assert(line.trim(arg[1], 1000000))
                end]]
            local program = skip.unless_env "MOONFLOW_BIN"
            local command = {}
            for _, name in ipairs { "a", "b", "c" } do
                command[#command + 1] = ("'%s' -e '%s' '%s' %s &"):format(program, code, path, name)
            end
            assert(history.add(line, path, "first"))
            os.execute(table.concat(command, "\n") .. "\nwait")
            assert.equal(151, #history.load(path))
        end)
    end)

    it("fails with an error where it can not be", function()
        skip.unless(found, "the line editor is not built")
        local ok, err = line.append("/dev/null/history", "x")
        assert.is_nil(ok)
        assert.equal("config", err.kind)
        assert.error(function() line.append("/tmp/x", "two\nlines") end)
        assert.error(function() line.append("", "x") end)
    end)
end)

describe("a text", function()
    -- Each: the text, whether Enter runs it.
    local CASES = {
        { "1 + 1", true }, { "x = ", false }, { "for i = 1, 2 do", false }, { "for i = 1, 2 do\nprint(i)", false },
        { "for i = 1, 2 do\nprint(i)\nend", true }, { "f(", false }, { "x = [[", false }, { "x = [[\n]]", true },
        { "x = = 1", true }, { "'unfinished", true }, { "{ 1,", false }, { ",help", true }, { "", true },
        { "for i = 1, 2 do\n\n", true }, { "--[[", false },
    }
    for _, case in ipairs(CASES) do
        it(("is %s: %q"):format(case[2] and "run" or "not complete", case[1]), function()
            assert.equal(case[2], source.is_complete(case[1]))
        end)
    end

    it("leaves its locals behind, also where it fails", function()
        local env = setmetatable({}, { __index = _G })
        local function run(text)
            return assert(source.compile(text, env)).run()
        end
        assert.is_true(run "local a, b = 1, { 2 }; local function g() return b[1] end")
        assert.same({ true, 3 }, { run "g() + a" })
        run "do local inner = 9 end for loop = 1, 2 do end"
        assert.is_nil(rawget(env, "inner"))
        assert.is_nil(rawget(env, "loop"))
        assert.is_false(run "local late = 5 error('x')")
        assert.equal(5, env.late)
        run "local closed <close> = setmetatable({}, { __close = function() was_closed = true end })"
        run "local const <const> = 7"
        assert.is_nil(rawget(env, "closed"))
        assert.is_true(env.was_closed)
        assert.equal(7, env.const)
        assert.same({ true, 6 }, { run "local r = 6 return r" })
    end)
end)

describe("a saved session", function()
    it("is a script that compiles", function()
        local text = assert(script.of({
            { text = "local n = 2" },
            { text = "error('x')", failed = true },
            { text = "n * 21 -- a comment", expression = true },
            { text = "quietly();", expression = true, muted = true },
            { text = "client:list_endpoints()", expression = true },
            { text = "local r = _ return r" },
            { text = "env.MY_TOKEN = 'abc'" },
        }, "http://localhost:5000"))
        assert.is_function(load((text:gsub("^#[^\n]*", ""))))
        assert.falsy(text:find("error('x')", 1, true))
        assert.falsy(text:find("abc", 1, true))
        assert.truthy(text:find('set_deployments_target("http://localhost:5000")', 1, true))
        assert.truthy(text:find("_3, _2, _ = _2, _, show(n * 21 -- a comment\n)", 1, true))
    end)
end)
