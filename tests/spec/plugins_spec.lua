local fake = require "support.fake"

local GOOD = [[
local client = require "moonflow.client"
return {
    api = 1, name = %q, description = "a test",
    client = client.BaseDeploymentClient:extend {
        predict = function(_, args) return args.inputs end,
    },
}
]]

describe("moonflow.plugins", function()
    local root, world, plugins

    setup(function()
        root = os.tmpname()
        os.remove(root)
    end)

    before_each(function()
        assert(os.execute(("mkdir -p %s/a %s/b %s/data/moonflow/plugins"):format(root, root, root)))
        world = fake.world {
            environ = { MOONFLOW_PLUGIN_PATH = root .. "/a:" .. root .. "/b", XDG_DATA_HOME = root .. "/data" },
        }
        plugins = world.plugins
    end)

    after_each(function()
        world:close()
        os.execute("rm -r " .. root)
    end)

    local function write(path, text)
        local file = assert(io.open(root .. "/" .. path, "w"))
        file:write(text)
        file:close()
        assert(os.execute(("chmod 644 '%s/%s'"):format(root, path)))
        return root .. "/" .. path
    end

    local function good(path, name)
        return write(path, GOOD:format(name))
    end

    local function failure(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    describe("discovery", function()
        it("finds a file that was dropped in, at once", function()
            assert.is_nil(plugins.get("acme"))
            good("a/acme.lua", "acme")
            local client = world.deployments.get_deploy_client("acme://host")
            assert.equal("hi", client:predict { inputs = "hi" })
            assert.equal("acme://host", client.target_uri)
        end)

        it("finds name/init.lua and its other files", function()
            assert(os.execute(("mkdir -p %s/b/big"):format(root)))
            write("b/big/init.lua", 'local part = require "big.part"\n' .. GOOD:format("big"):gsub("a test", "%%s")
                :gsub('"%%s"', "part.text"))
            write("b/big/part.lua", 'return { text = "from part" }')
            assert.equal("from part", plugins.get("big").description)
        end)

        it("looks into the user's data directory", function()
            good("data/moonflow/plugins/mine.lua", "mine")
            assert.equal("mine", plugins.get("mine").name)
        end)

        it("never looks into the working directory, and takes no relative one", function()
            local path = table.concat(plugins.search_path(), ":") .. ":"
            for dir in path:gmatch("([^:]*):") do
                assert.equal("/", dir:sub(1, 1))
            end
            world.env.MOONFLOW_PLUGIN_PATH = "./plugins"
            local err = failure(plugins.search_path)
            assert.equal("config", err.kind)
            assert.matches('MOONFLOW_PLUGIN_PATH must name absolute directories, got "./plugins"', err.message, 1, true)
        end)

        it("searches each directory once", function()
            world.env.MOONFLOW_PLUGIN_PATH = root .. "/a/::" .. root .. "/a"
            good("a/acme.lua", "acme")
            assert.equal("acme", plugins.get("acme").name)
        end)

        it("names both files where a name is there twice", function()
            local first, second = good("a/twin.lua", "twin"), write("b/twin.lua", "return {}")
            local err = failure(plugins.get, "twin")
            assert.equal("config", err.kind)
            assert.matches(first .. "\n" .. second, err.message, 1, true)
        end)

        it("takes the same text in two places for one plugin", function()
            good("a/twin.lua", "twin")
            good("b/twin.lua", "twin")
            assert.equal("twin", plugins.get("twin").name)
        end)

        it("does not let a file replace what is built in", function()
            good("a/http.lua", "http")
            assert.equal("MlflowDeploymentClient", plugins.get("http").client.name)
            for _, entry in ipairs(plugins.list()) do
                if entry.file == root .. "/a/http.lua" then
                    assert.equal("a built-in target can not be replaced", entry.problem)
                end
            end
        end)

        it("lists without loading", function()
            write("a/broken.lua", "this is not Lua")
            write("a/Wrong Name.lua", "")
            write("a/README.md", "")
            good("b/acme.lua", "acme")
            local lines = {}
            for _, entry in ipairs(plugins.list()) do
                if entry.file and entry.file:find(root, 1, true) then
                    lines[#lines + 1] = entry.name .. (entry.problem and ": " .. entry.problem:match("^%a+ %a+") or "")
                end
            end
            assert.same({ "Wrong Name: not a", "broken", "acme" }, lines)
        end)

        it("loads one plugin without touching a broken neighbour", function()
            write("a/broken.lua", "error('loaded')")
            good("a/acme.lua", "acme")
            assert.equal("acme", plugins.get("acme").name)
            assert.equal("MlflowDeploymentClient", plugins.get("https").client.name)
        end)

        for _, name in ipairs { "../a/acme", "Acme", "a b", ".acme", "-x", ("x"):rep(33), "" } do
            it(("takes %q for no name"):format(name), function()
                good("a/acme.lua", "acme")
                assert.is_nil(plugins.get(name))
            end)
        end
    end)

    describe("loading", function()
        local client_line = 'require("moonflow.client").BaseDeploymentClient:extend {}'
        local cases = {
            { "a syntax error", "return {", "can not be loaded\n.*bad.lua:1: " },
            { "an error", "error('at load')", "can not be loaded\n.*bad.lua:1: at load" },
            { "an error that is nil", "error(nil)", "can not be loaded\nnil" },
            { "an error that is a table", "error({})", "can not be loaded\ntable: " },
            { "a number", "return 5", "must return a table, returned 5" },
            { "nothing", "", "must return a table, returned nil" },
            { "no api", "return { name = 'bad', client = " .. client_line .. " }", 'lacks the field "api"' },
            { "no name", "return { api = 1, client = " .. client_line .. " }", 'lacks the field "name"' },
            { "no client", "return { api = 1, name = 'bad' }", 'lacks the field "client"' },
            { "another api", "return { api = 2, name = 'bad', client = " .. client_line .. " }", "has api = 2" },
            { "another name", "return { api = 1, name = 'good', client = " .. client_line .. " }",
                'has name = "good"' },
            { "a client that is no class", "return { api = 1, name = 'bad', client = {} }",
                'field "client" that is no class' },
            { "an unknown field", "return { api = 1, name = 'bad', clinet = {} }", 'has an unknown field "clinet"' },
            { "a field of a wrong type", "return { api = 1, name = 'bad', client = {}, run_local = 5 }",
                'field "run_local" that must be a function, got 5' },
            { "an unknown method",
                'return { api = 1, name = "bad", client = require("moonflow.client").BaseDeploymentClient:extend '
                    .. "{ preditc = print } }", 'can not be loaded\n.*"preditc" is neither a method' },
            { "bytecode", string.dump(function() end), "can not be loaded\n.*attempt to load a binary chunk" },
            { "a yield", "coroutine.yield()", "yields while it is loaded" },
        }
        for _, case in ipairs(cases) do
            it("reports " .. case[1], function()
                local file = write("a/bad.lua", case[2])
                local err = failure(plugins.get, "bad")
                assert.equal("plugin", err.kind)
                assert.matches("plugin " .. file, err.message, 1, true)
                assert.matches(case[3], err.message)
                assert.equal("MlflowDeploymentClient", plugins.get("http").client.name)
            end)
        end

        it("reports deep recursion", function()
            write("a/bad.lua", "local function f() return 1 + f() end f()")
            -- A collector that never rests walks a deep stack again and again, longer than loading may take.
            collectgarbage("stop")
            local _ <close> = setmetatable({}, { __close = function() collectgarbage("restart") end })
            local err = failure(plugins.get, "bad")
            assert.equal("plugin", err.kind)
            assert.matches("stack overflow", err.message)
        end)

        it("hints at the field that was meant", function()
            write("a/bad.lua", "return { clinet = 1 }")
            assert.equal('did you mean "client"?', failure(plugins.get, "bad").hint)
        end)

        for _, loop in ipairs { "while true do end", "while true do pcall(function() while true do end end) end" } do
            it("stops a loop: " .. loop, function()
                write("a/bad.lua", loop)
                assert.matches("does not end: stopped after 2 s", failure(plugins.get, "bad").message)
                assert.is_nil((debug.gethook()))
            end)
        end

        it("leaves the caller's hook alone", function()
            local function hook() end
            debug.sethook(hook, "", 1000000)
            good("a/acme.lua", "acme")
            plugins.get("acme")
            local now = debug.gethook()
            debug.sethook()
            assert.equal(hook, now)
        end)

        it("refuses a file beyond 1 MiB, and one that everybody may write", function()
            write("a/bad.lua", "--" .. ("x"):rep(1024 * 1024))
            assert.matches("can not be read", failure(plugins.get, "bad").message)
            good("a/acme.lua", "acme")
            os.execute("chmod 666 " .. root .. "/a/acme.lua")
            assert.matches("may be written by every user", failure(plugins.get, "acme").message)
        end)

        it("reads what editors put before the text", function()
            write("a/acme.lua", "\xEF\xBB\xBF#!/usr/bin/env moonflow\r\n" .. GOOD:format("acme"):gsub("\n", "\r\n"))
            assert.equal("acme", plugins.get("acme").name)
        end)

        it("tries again after a failure, and only then", function()
            write("a/acme.lua", "return 5")
            assert.is_false(pcall(plugins.get, "acme"))
            good("a/acme.lua", "acme")
            assert.equal(plugins.get("acme"), plugins.get("acme"))
        end)
    end)

    describe("a plugin's globals", function()
        it("are its own, libraries included", function()
            write("a/acme.lua", [[
                x = 1
                function string.shout() end
                _G.y = 2
                package.path = "/nowhere"
            ]] .. GOOD:format("acme"))
            plugins.get("acme")
            assert.is_nil(rawget(_G, "x"))
            assert.is_nil(rawget(_G, "y"))
            assert.is_nil(rawget(string, "shout"))
            assert.not_equal("/nowhere", package.path)
        end)

        it("are not what scripts have set", function()
            rawset(_G, "global_of_a_script", 1)
            write("a/acme.lua", "assert(global_of_a_script == nil)\n" .. GOOD:format("acme"))
            local ok, err = pcall(plugins.get, "acme")
            rawset(_G, "global_of_a_script", nil)
            assert.is_true(ok, tostring(err))
        end)

        it("have a cjson of their own", function()
            write("a/acme.lua", 'local cjson = require "cjson"\ncjson.encode_max_depth(1)\n'
                .. 'assert(cjson == require "cjson")\nassert(cjson ~= ...)\n' .. GOOD:format("acme"))
            plugins.get("acme")
            local found, cjson = pcall(require, "cjson")
            if found then
                assert.equal("[[[1]]]", cjson.encode { { { 1 } } })
            end
        end)
    end)

    describe("a plugin's client", function()
        it("is the same kind as a built-in one", function()
            good("a/acme.lua", "acme")
            local ours = world.deployments.get_deploy_client("acme:")
            local theirs = world.deployments.get_deploy_client("http://h")
            for _, client in ipairs { ours, theirs } do
                assert.equal("usage", failure(client.predict, client, { x = 1 }).kind)
                assert.equal("unsupported", failure(client.create_endpoint, client, "e").kind)
                assert.equal("function", type(client.send))
            end
        end)

        it("fails as a plugin, with its file and line", function()
            write("a/acme.lua", (GOOD:format("acme"):gsub("return args.inputs", "return args.inputs.a.b")))
            local client = world.deployments.get_deploy_client("acme:")
            local err = failure(client.predict, client, { inputs = {} })
            assert.equal("plugin", err.kind)
            assert.matches('plugin "acme" failed in predict\n.*acme.lua:5: attempt to index', err.message)
            assert.equal("acme:", err.target)
            assert.matches("plugins_spec.lua:%d+$", err.where)
        end)
    end)

    describe("echo, the shipped template", function()
        local echo

        before_each(function()
            local clone = arg[0]:match("^(.*)/tests/[^/]*$") or "."
            world.env.MOONFLOW_PLUGIN_PATH = clone:gsub("^[^/].*", os.getenv("PWD") .. "/%0") .. "/plugins"
            echo = world.deployments.get_deploy_client("echo:", { prefix = "> " })
        end)

        it("offers every method", function()
            assert.equal(#world.client.signatures, #world.client.offered(echo))
        end)

        it("answers with what it is asked", function()
            assert.same({ endpoint = "echo", echo = "hi", prefix = "> " }, echo:predict { inputs = "hi" })
            assert.equal("RESOURCE_DOES_NOT_EXIST", failure(echo.predict, echo, { endpoint = "x" }).error_code)
            local words = {}
            for word in echo:predict_stream { inputs = "a b" } do
                words[#words + 1] = word
            end
            assert.same({ "a", "b" }, words)
            assert.equal(5, echo:explain({ df = 5 }).df)
        end)

        it("keeps endpoints", function()
            echo:create_endpoint("one", { size = 1 })
            echo:update_endpoint { endpoint = "one", config = { size = 2 } }
            assert.equal(2, echo:get_endpoint("one").config.size)
            assert.equal(2, #echo:list_endpoints())
            echo:delete_endpoint("one")
            echo:delete_endpoint("one")
            assert.equal(404, failure(echo.get_endpoint, echo, "one").http_status)
        end)

        it("keeps deployments", function()
            echo:create_deployment("d", "models:/m/1")
            echo:update_deployment { name = "d", flavor = "python" }
            assert.same({ name = "d", model_uri = "models:/m/1", flavor = "python" }, echo:get_deployment("d"))
            assert.equal(1, #echo:list_deployments())
            echo:delete_deployment("d")
            assert.equal(404, failure(echo.get_deployment, echo, "d").http_status)
            assert.equal("d", world.deployments.run_local("echo:", "d", "models:/m").name)
        end)
    end)
end)
