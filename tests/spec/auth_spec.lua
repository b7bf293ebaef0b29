local auth = require "moonflow.auth"

local TOKEN = "dapi-spec-0123456789"

describe("moonflow.auth", function()
    it("makes secrets that show nothing", function()
        local secret = auth.secret(TOKEN)
        assert.equal("<redacted>", tostring(secret))
        assert.equal("<redacted>", ("%s"):format(secret))
        assert.equal("moonflow.secret", getmetatable(secret))
        assert.is_true(auth.is_secret(secret))
        assert.is_false(auth.is_secret(TOKEN))
        assert.is_false(auth.is_secret(io.stdout))
        assert.has_error(function() return secret .. "" end)
        assert.has_error(function() return #secret end)
        assert.has_error(function() return secret.bytes end)
        assert.has_error(function() setmetatable(secret, {}) end)
    end)

    it("redacts every secret that it was told of", function()
        auth.secret("spec-secret-one")
        assert.equal("a <redacted> b", auth.redact("a spec-secret-one b"))
        assert.equal("a b", auth.redact("a b"))
        assert.equal("", auth.redact(""))
        auth.basic("spec-user", "spec password/1")
        assert.equal("<redacted>", auth.redact("spec password/1"))
        assert.equal("<redacted>", auth.redact("spec%20password%2F1"))
        assert.equal("Basic <redacted>", auth.redact("Basic c3BlYy11c2VyOnNwZWMgcGFzc3dvcmQvMQ"))
        auth.bearer("  spec-bearer-token\n")
        assert.equal("Bearer <redacted>", auth.redact("Bearer spec-bearer-token"))
    end)

    it("keeps secrets out of errors", function()
        for _, token in ipairs { "canary\r\nX: y-long-enough", "canary\0middle-of-it", "canary\127x" } do
            local ok, err = pcall(auth.bearer, token)
            assert.is_false(ok)
            assert.equal("auth", err.kind)
            assert.is_nil(tostring(err):find("canary", 1, true))
            assert.is_nil(tostring(err):find("X:", 1, true))
        end
        local ok, err = pcall(auth.basic, "user", "pass\nword-of-spec")
        assert.is_false(ok)
        assert.equal("auth", err.kind)
        assert.is_nil(tostring(err):find("word-of-spec", 1, true))
    end)

    it("refuses credentials that can not be meant", function()
        for _, token in ipairs { "", " \r\n" } do
            local ok, err = pcall(auth.bearer, token)
            assert.is_false(ok)
            assert.equal("auth", err.kind)
        end
        local ok, err = pcall(auth.basic, "a:b", "password")
        assert.is_false(ok)
        assert.equal("auth", err.kind)
        assert.has_error(function() auth.bearer(5) end)
        assert.has_error(function() auth.bearer(nil) end)
        assert.has_error(function() auth.secret({}) end)
    end)

    it("binds a credential to one origin", function()
        local secret = auth.secret(TOKEN, "https://Host.example/path")
        assert.is_true(auth.is_secret(auth.bearer(secret)))
        assert.is_true(auth.is_secret(auth.bearer(secret, "https://host.example:443")))
        local ok, err = pcall(auth.bearer, secret, "https://evil.example")
        assert.is_false(ok)
        assert.equal("auth", err.kind)
        ok, err = pcall(auth.secret, TOKEN, "no url")
        assert.is_false(ok)
        assert.equal("usage", err.kind)
    end)

    it("forgets the bytes of a closed secret", function()
        local kept
        do
            local secret <close> = auth.secret(TOKEN)
            kept = secret
        end
        local ok, err = pcall(auth.bearer, kept)
        assert.is_false(ok)
        assert.equal("auth", err.kind)
    end)

    describe("read_ini", function()
        local path

        before_each(function()
            path = os.tmpname()
        end)

        after_each(function()
            os.remove(path)
        end)

        local function write(text)
            local f <close> = assert(io.open(path, "wb"))
            f:write(text)
        end

        it("gives a section's values, secret where asked, and their lines", function()
            write("[DEFAULT]\nhost = h\n[p]\nToken = spec-ini-token\n[q]\ntoken = other\n")
            local values, lines = auth.read_ini(path, "p", { token = true })
            assert.equal("h", values.host)
            assert.is_true(auth.is_secret(values.token))
            assert.same({ host = 2, token = 4 }, lines)
            assert.equal("<redacted>", auth.redact("spec-ini-token"))
        end)

        it("tells a missing file, section and a bad line apart", function()
            write("[p]\nspec-secret-line\n")
            local values, err = auth.read_ini(path, "p", {})
            assert.is_nil(values)
            assert.equal("config", err.kind)
            assert.truthy(err.message:find("line 2", 1, true))
            assert.is_nil(err.message:find("spec-secret-line", 1, true))
            write("[p]\n")
            values, err = auth.read_ini(path, "q", {})
            assert.is_nil(values)
            assert.equal("RESOURCE_DOES_NOT_EXIST", err.error_code)
            values, err = auth.read_ini("/nonexistent", "q", {})
            assert.is_nil(values)
            assert.equal("NOT_FOUND", err.error_code)
        end)
    end)
end)
