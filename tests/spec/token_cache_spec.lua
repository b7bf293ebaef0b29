--- moonflow.token_cache: tokens that a later run takes, who may not, and programs that run at once.
local auth = require "moonflow.auth"
local home = require "support.databricks_home"
local process = require "support.process"
local raw = require "support.raw"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local token_cache = require "moonflow.token_cache"

local SECRET = "the-secret-of-cid"
local WHOSE = { "oauth-m2m", "https://x:443", "cid", "all-apis" }

describe("moonflow.token_cache", function()
    local own, fetches, dir

    before_each(function()
        own = home.new()
        dir = own.dir .. "/.cache/moonflow"
        fetches = 0
    end)

    after_each(function()
        own:close()
    end)

    local function fetching(expires_in, seconds)
        return function()
            fetches = fetches + 1
            local number = fetches
            task.sleep(seconds or 0)
            return { secret = auth.secret("token-number-" .. number), expires_in = expires_in or 3600 }
        end
    end

    local function get(options)
        options = options or {}
        return token_cache.get(options.whose or WHOSE, options.secret or SECRET, options.fetch or fetching())
    end

    --- The path of the one token's file.
    local function file()
        local found
        for _, name in ipairs(assert(sys.list_dir(dir))) do
            if not name:find "%.lock$" then
                assert.is_nil(found)
                found = dir .. "/" .. name
            end
        end
        return found
    end

    local function count_after(options)
        local before = fetches
        assert(get(options))
        return fetches - before
    end

    it("asks once, and a later run takes what is left of the token", function()
        assert(get())
        local token = get()
        assert.equal(1, fetches)
        assert.equal(3600, token.lifetime)
        assert.is_true(token.expires_in > 3500 and token.expires_in <= 3600)
        assert.is_true(auth.is_secret(token.secret))
    end)

    it("lets nobody else read the file, and keeps no secret in it", function()
        get()
        assert.equal(tonumber("700", 8), sys.stat(dir).mode)
        assert.equal(tonumber("700", 8), sys.stat(own.dir .. "/.cache").mode)
        assert.equal(tonumber("600", 8), sys.stat(file()).mode)
        local content = sys.read_file(file())
        assert.matches("\ntoken%-number%-1\n$", content)
        assert.is_nil(content:find(SECRET, 1, true))
    end)

    it("gives nobody another's token", function()
        get()
        for _, options in ipairs {
            { secret = "another-secret" }, { secret = auth.secret "another-secret-2" },
            { whose = { "oauth-m2m", "https://y:443", "cid", "all-apis" } },
            { whose = { "oauth-m2m", "https://x:443", "cid2", "all-apis" } },
            { whose = { "oauth-m2m", "https://x:443", "cid", "jobs" } },
        } do
            assert.equal(1, count_after(options))
            assert.equal(0, count_after(options))
        end
    end)

    it("knows a secret whether it is text or not", function()
        get()
        assert.equal(0, count_after { secret = auth.secret(SECRET) })
    end)

    it("asks again before the end, and takes what there is where that fails", function()
        for left, count in pairs { [301] = 0, [299] = 1 } do
            get()
            local content = sys.read_file(file())
            local times = ("\n%d %d\n"):format((sys.time() + left) * 1000 // 1, 3600000)
            assert(sys.write_private(file(), (content:gsub("\n%d+ %d+\n", times))))
            local token = get { fetch = function()
                return nil, "refused"
            end }
            assert.is_true(token.expires_in <= left)
            assert.equal(count, count_after())
        end
    end)

    it("believes no token that lives longer than it did, as where the clock was set back", function()
        get()
        local content = sys.read_file(file())
        assert(sys.write_private(file(), (content:gsub("\n%d+ %d+\n",
            ("\n%d 3600000\n"):format((sys.time() + 4000) * 1000 // 1)))))
        assert.equal(1, count_after())
    end)

    it("drops a token that was refused, and no later one", function()
        local first = get()
        local second = get()
        second.drop()
        assert.is_nil(file())
        task.sleep(0.002)
        assert.equal(1, count_after())
        first.drop()
        assert.equal(0, count_after())
    end)

    it("ignores a file that is broken, and writes it anew", function()
        get()
        local content = sys.read_file(file())
        for _, broken in ipairs {
            "", "x", content:sub(1, -2), content:sub(1, #content // 2), content:gsub("token 1", "token 2"),
            content:gsub("%$5%$", "$1$"), content:gsub("%$5%$", "$5$rounds=999999999$"), content .. "x\n",
            content:gsub("\n%d+ %d+\n", "\n1e9 1\n"), ("x"):rep(300000),
        } do
            assert(sys.write_private(file(), (broken)))
            assert.equal(1, count_after())
            assert.equal(0, count_after())
        end
    end)

    it("takes no file that others may touch, nor what is none", function()
        get()
        for _, command in ipairs {
            "chmod 640 %s", "chmod 606 %s", "chmod 620 %s", "ln %s %s.2", "mv %s %s.3; ln -s %s.3 %s",
            "rm %s; mkfifo -m 600 %s",
        } do
            local path = file()
            assert(os.execute((command:gsub("%%s", path))))
            assert.equal(1, count_after(), command)
            os.remove(path .. ".2")
            os.remove(path .. ".3")
            assert.equal(0, count_after(), command)
        end
    end)

    it("takes no file of another user's", function()
        get()
        if sys.euid() ~= 0 then
            require("support.skip").pending "only root can give a file away"
        end
        assert(os.execute(("chown 1:1 '%s'"):format(file())))
        assert.equal(1, count_after())
        assert(os.execute(("chown 1:1 '%s'"):format(dir)))
        assert.equal(2, count_after() + count_after())
    end)

    it("does without where there can be no file", function()
        local cases = {
            { HOME = "/nonexistent" }, { HOME = "" }, { HOME = "relative" }, { HOME = "/proc" },
            { XDG_CACHE_HOME = own.dir .. "/no/such" }, { MOONFLOW_TOKEN_CACHE = "0" },
            { MOONFLOW_TOKEN_CACHE = "false" },
        }
        for _, variables in ipairs(cases) do
            own:set { HOME = own.dir, XDG_CACHE_HOME = "", MOONFLOW_TOKEN_CACHE = "1" }
            own:set(variables)
            assert.equal(2, count_after() + count_after())
        end
        assert.is_nil(sys.stat "/nonexistent")
        assert.is_nil(sys.stat(own.dir .. "/.cache"))
    end)

    it("does without where the directory is open to others", function()
        assert(os.execute(("mkdir -p '%s/open/moonflow'; chmod 777 '%s/open/moonflow'"):format(own.dir, own.dir)))
        own:set { XDG_CACHE_HOME = own.dir .. "/open" }
        assert.equal(2, count_after() + count_after())
        assert.same({}, sys.list_dir(own.dir .. "/open/moonflow"))
    end)

    it("is where XDG_CACHE_HOME says", function()
        own:set { XDG_CACHE_HOME = own.dir .. "/other/" }
        get()
        assert.equal(2, #sys.list_dir(own.dir .. "/other/moonflow"))
        assert.is_nil(sys.stat(own.dir .. "/.cache"))
    end)

    it("asks once for all who ask at once", function()
        local askers = {}
        for i = 1, 8 do
            askers[i] = function()
                return get { fetch = fetching(3600, 0.1) }
            end
        end
        task.all(askers)
        assert.equal(1, fetches)
    end)

    it("gives the failure of a fetch, and lets the next one ask", function()
        local token, err = get { fetch = function()
            return nil, "refused"
        end }
        assert.is_nil(token)
        assert.equal("refused", err)
        assert.is_false(pcall(get, { fetch = function()
            error "broken"
        end }))
        assert.equal(1, count_after())
    end)

    describe("in a program", function()
        local LIST = raw.reply { json = { endpoints = {} } }
        local SCRIPT = [[
            local client = require "moonflow.deployments".get_deploy_client "databricks"
            print(#client:list_endpoints())]]

        local function grant(text)
            return raw.reply { wait = 0.1, json = { access_token = text, token_type = "Bearer", expires_in = 3600 } }
        end

        local function variables(server, more)
            local all = {
                HOME = own.dir, XDG_CACHE_HOME = false, MOONFLOW_TOKEN_CACHE = false, DATABRICKS_HOST = server.url,
                DATABRICKS_CLIENT_ID = "cid", DATABRICKS_CLIENT_SECRET = SECRET,
            }
            for name, value in pairs(more or {}) do
                all[name] = value
            end
            return all
        end

        local function run(server, more)
            local result = process.run { args = { "-e", SCRIPT }, env = variables(server, more) }
            assert.equal(0, result.code, result.stderr)
            assert.equal("", result.stderr)
        end

        local function token_requests(server)
            local count = 0
            for _, request in ipairs(server:requests()) do
                count = count + (request.target == "/oidc/v1/token" and 1 or 0)
            end
            return count
        end

        it("the second run sends no request for a token", function()
            local server <close> = raw.listen { grant "token-number-1", LIST }
            run(server)
            run(server)
            assert.equal(1, token_requests(server))
            assert.equal(3, #server:requests())
            assert.equal("Bearer token-number-1", server:requests()[3].header "Authorization")
            server:script { grant "token-number-2", LIST }
            run(server, { MOONFLOW_TOKEN_CACHE = "0" })
            assert.equal("Bearer token-number-2", server:requests()[5].header "Authorization")
        end)

        it("a refused token is dropped from the disk too", function()
            local refused = raw.reply { status = 401, json = { error_code = "UNAUTHENTICATED", message = "revoked" } }
            local server <close> = raw.listen {
                grant "token-number-1", LIST, refused, grant "token-number-2", LIST,
            }
            run(server)
            run(server)
            run(server)
            assert.equal(2, token_requests(server))
            assert.equal("Bearer token-number-2", server:requests()[6].header "Authorization")
        end)

        it("several at once send one request for a token and do not fail", function()
            local server <close> = raw.listen { grant "token-number-1", LIST }
            local word, assignments = process.moonflow(), {}
            for name, value in pairs(variables(server)) do
                assignments[#assignments + 1] = value and ("%s='%s'"):format(name, value) or "-u " .. name
            end
            table.sort(assignments) -- what is unset goes first
            own:write("script.lua", SCRIPT)
            own:write("run", ("for i in 1 2 3 4; do timeout 60 env %s '%s' '%s/script.lua' & p=\"$p $!\"; done\n"
                .. "for i in $p; do wait $i || exit 1; done"):format(table.concat(assignments, " "), word, own.dir))
            local result = process.run { "sh", own.dir .. "/run" }
            assert.equal(0, result.code, result.stderr)
            assert.equal("0\n0\n0\n0\n", result.stdout)
            assert.equal(1, token_requests(server))
            assert.equal(5, #server:requests())
        end)
    end)
end)
