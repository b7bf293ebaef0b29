local sys = require "moonflow.sys"

describe("moonflow.sys", function()
    local path

    before_each(function()
        path = os.tmpname()
    end)

    after_each(function()
        os.remove(path)
    end)

    local function write(bytes)
        local f <close> = assert(io.open(path, "wb"))
        f:write(bytes)
    end

    it("has a clock that only goes forward and one that tells the date", function()
        local before = sys.monotonic()
        assert.is_true(sys.monotonic() >= before)
        assert.is_true(math.abs(sys.time() - os.time()) < 5)
    end)

    it("reads the environment", function()
        local environ = sys.environ()
        assert.equal(os.getenv("PATH"), environ.PATH)
        assert.equal(os.getenv("PATH"), sys.getenv("PATH"))
        assert.is_nil(sys.getenv("MOONFLOW_NO_SUCH_VARIABLE"))
        assert.has_error(function() sys.getenv("PATH\0x") end)
    end)

    it("reads a file up to a maximum", function()
        write("ab\0cd")
        assert.equal("ab\0cd", sys.read_file(path))
        assert.equal("ab\0cd", sys.read_file(path, 5))
        local text, err = sys.read_file(path, 4)
        assert.is_nil(text)
        assert.equal("config", err.kind)
        assert.has_error(function() sys.read_file(path, -1) end)
        assert.has_error(function() sys.read_file("a\0b") end)
        write("")
        assert.equal("", sys.read_file(path))
    end)

    it("says why a file can not be read", function()
        local text, err = sys.read_file("/nonexistent/file")
        assert.is_nil(text)
        assert.equal("NOT_FOUND", err.error_code)
        assert.truthy(err.message:find("/nonexistent/file", 1, true))
        assert.is_nil((sys.read_file("/")))
        assert.is_nil((sys.read_file("/dev/zero")))
    end)

    it("lists a directory in the order of bytes", function()
        local names = sys.list_dir("/")
        local sorted = table.move(names, 1, #names, 1, {})
        table.sort(sorted)
        assert.same(sorted, names)
        assert.is_true(#names > 3)
        local none, err = sys.list_dir(path)
        assert.is_nil(none)
        assert.equal("NOT_FOUND", err.error_code)
    end)

    it("describes files", function()
        write("12345")
        local st = sys.stat(path)
        assert.equal("file", st.type)
        assert.equal(5, st.size)
        assert.equal(sys.euid(), st.uid)
        assert.equal(tonumber("600", 8), st.mode & tonumber("600", 8))
        assert.equal("directory", sys.stat("/").type)
        assert.equal("device", sys.stat("/dev/null").type)
        local none, err = sys.stat("/nonexistent")
        assert.is_nil(none)
        assert.equal("NOT_FOUND", err.error_code)
    end)

    it("draws numbers in [0, 1)", function()
        local seen = {}
        for _ = 1, 1000 do
            local x = sys.random()
            assert.is_true(x >= 0 and x < 1)
            assert.is_nil(seen[x])
            seen[x] = true
        end
    end)

    it("reads the three forms of an HTTP date", function()
        assert.equal(784111777, sys.http_date("Sun, 06 Nov 1994 08:49:37 GMT"))
        assert.equal(784111777, sys.http_date("Sunday, 06-Nov-94 08:49:37 GMT"))
        assert.equal(784111777, sys.http_date("Sun Nov  6 08:49:37 1994"))
        assert.is_nil(sys.http_date("120"))
    end)

    it("knows that a closed number is no terminal", function()
        assert.is_false(sys.isatty(-1))
    end)
end)
