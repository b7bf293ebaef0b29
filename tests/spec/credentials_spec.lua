local auth = require "moonflow.auth"
local fake = require "support.fake"

describe("moonflow.credentials", function()
    local home, world

    setup(function()
        home = os.tmpname()
        os.remove(home)
        assert(os.execute("mkdir -p " .. home .. "/.mlflow"))
    end)

    teardown(function()
        os.execute("rm -r " .. home)
    end)

    after_each(function()
        os.remove(home .. "/.mlflow/credentials")
        world:close()
    end)

    local function write_file(text)
        local file = assert(io.open(home .. "/.mlflow/credentials", "w"))
        file:write(text)
        file:close()
        assert(os.execute("chmod 600 " .. home .. "/.mlflow/credentials"))
    end

    --- What is found, with the given variables and options.
    local function find(environ, options)
        environ.HOME = home
        world = fake.world { environ = environ }
        local found = world.credentials.find({ config = options or {} }, "http://localhost:5000")
        return found.headers.Authorization, found.source
    end

    it("are none without a source, and say where they were looked for", function()
        local secret, source = find {}
        assert.is_nil(secret)
        for _, name in ipairs { "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN", "~/.mlflow/credentials" } do
            assert.matches(name, source, 1, true)
        end
    end)

    it("are a bearer token", function()
        local secret, source = find { MLFLOW_TRACKING_TOKEN = "some-token" }
        assert.is_true(auth.is_secret(secret))
        assert.equal("MLFLOW_TRACKING_TOKEN", source)
    end)

    it("are user name and password", function()
        local secret, source = find { MLFLOW_TRACKING_USERNAME = "u", MLFLOW_TRACKING_PASSWORD = "p" }
        assert.is_true(auth.is_secret(secret))
        assert.equal("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", source)
    end)

    it("are user name and password before a token, with one warning", function()
        local environ = {
            MLFLOW_TRACKING_USERNAME = "u", MLFLOW_TRACKING_PASSWORD = "p", MLFLOW_TRACKING_TOKEN = "some-token",
        }
        local _, source = find(environ)
        world.credentials.find({ config = {} }, "http://localhost:5000")
        assert.matches("MLFLOW_TRACKING_USERNAME", source)
        assert.equal(1, #world.lines)
        assert.matches("warning: MLFLOW_TRACKING_TOKEN is not used", world.lines[1])
    end)

    it("come from ~/.mlflow/credentials", function()
        write_file "[mlflow]\nmlflow_tracking_username = fu\nmlflow_tracking_password = fp\n"
        local secret, source = find {}
        assert.is_true(auth.is_secret(secret))
        assert.equal(home .. "/.mlflow/credentials", source)
        assert.same({}, world.lines)
    end)

    it("come from the environment first, each of the two on its own", function()
        write_file "[mlflow]\nmlflow_tracking_username = fu\nmlflow_tracking_password = fp\n"
        local _, source = find { MLFLOW_TRACKING_USERNAME = "u" }
        assert.equal("MLFLOW_TRACKING_USERNAME and " .. home .. "/.mlflow/credentials", source)
    end)

    it("are a token where one of the two is missing", function()
        local _, source = find { MLFLOW_TRACKING_USERNAME = "u", MLFLOW_TRACKING_TOKEN = "some-token" }
        assert.equal("MLFLOW_TRACKING_TOKEN", source)
    end)

    it("say which half is missing", function()
        local secret, source = find { MLFLOW_TRACKING_USERNAME = "u" }
        assert.is_nil(secret)
        assert.matches("a user name without a password", source)
    end)

    it("are none in a file without the section", function()
        write_file "[other]\na = b\n"
        assert.is_nil((find {}))
    end)

    it("in a file that is none are an error that names it", function()
        write_file "mlflow_tracking_username = u\n"
        local ok, err = pcall(find, {})
        assert.is_false(ok)
        assert.equal("config", err.kind)
        assert.matches(home .. "/.mlflow/credentials", err.message, 1, true)
    end)

    it("in a file that others may read are used, with a warning", function()
        write_file "[mlflow]\nmlflow_tracking_username = fu\nmlflow_tracking_password = fp\n"
        os.execute("chmod 644 " .. home .. "/.mlflow/credentials")
        assert.is_true(auth.is_secret((find {})))
        assert.matches("may be read by others", world.lines[1])
    end)

    it("given as options go before all others, with a warning", function()
        local _, source = find({ MLFLOW_TRACKING_TOKEN = "some-token" }, { token = "other-token" })
        assert.equal("the option token", source)
        assert.matches("given as options are used", world.lines[1])
        world:close()
        _, source = find({}, { username = "u", password = auth.secret "p" })
        assert.equal("the options username and password", source)
        assert.same({}, world.lines)
    end)

    it("lose white space at their ends", function()
        assert.is_true(auth.is_secret((find { MLFLOW_TRACKING_TOKEN = " some-token\n" })))
    end)

    it("with a newline inside are an error that names the source, not the value", function()
        local ok, err = pcall(find, { MLFLOW_TRACKING_TOKEN = "canary-1\r\nX-Evil: canary-2" })
        assert.is_false(ok)
        assert.equal("auth", err.kind)
        assert.matches("it came from MLFLOW_TRACKING_TOKEN", err.message)
        assert.not_matches("canary", tostring(err))
    end)

    it("are bound to the origin of the target", function()
        local secret = find { MLFLOW_TRACKING_TOKEN = "some-token" }
        assert.has_error(function()
            auth.secret(secret, "http://elsewhere:5000")
        end)
    end)
end)
