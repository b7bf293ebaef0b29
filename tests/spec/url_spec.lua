local url = require "moonflow.url"

describe("moonflow.url", function()
    it("takes a URL apart", function()
        assert.same({
            scheme = "http", host = "example.com", port = 5000, path = "/a", query = "b=c",
            origin = "http://example.com:5000",
        }, url.parse("HTTP://Example.com:5000/a?b=c#d"))
        assert.same({ scheme = "x", host = "h", path = "", origin = "x://h" }, url.parse("x://h"))
    end)

    it("returns nil and a usage error for what is no URL", function()
        local parsed, err = url.parse("http://user:hunter22@h/")
        assert.is_nil(parsed)
        assert.equal("usage", err.kind)
        assert.is_nil(tostring(err):find("hunter22", 1, true))
        assert.is_nil((url.parse("http://h\0.evil")))
    end)

    it("raises for what is no string", function()
        assert.has_error(function() url.parse({}) end)
        assert.has_error(function() url.join("http://h", nil) end)
        assert.has_error(function() url.join("http://h", {}) end)
    end)

    it("joins names as one segment each", function()
        assert.equal("http://h/p/api/2.0/a%2Fb", url.join("http://h/p/", "api", "2.0", "a/b"))
        assert.equal("http://h/p", url.join("http://h/p/"))
        assert.equal("http://h/%C3%A9", url.join("http://h", "é"))
    end)

    for _, name in ipairs { "", ".", "..", "a\0b", "a\r\nb", "\127" } do
        it(("refuses the name %q"):format(name), function()
            local joined, err = url.join("http://h", "x", name)
            assert.is_nil(joined)
            assert.equal("usage", err.kind)
        end)
    end

    it("refuses to join to a base with a query", function()
        local joined, err = url.join("http://h?a=b", "x")
        assert.is_nil(joined)
        assert.equal("usage", err.kind)
    end)

    it("encodes text and forms", function()
        assert.equal("a%20b%2F%00", url.encode("a b/\0"))
        assert.equal("", url.encode(""))
        assert.equal("q=a+b%2F%3D&n=5&q=%C3%A9", url.query { { "q", "a b/=" }, { "n", 5 }, { "q", "é" } })
        assert.equal("", url.query {})
        assert.has_error(function() url.query { "a=b" } end)
        assert.has_error(function() url.query { { "a" } } end)
        assert.has_error(function() url.encode(("x"):rep(70000)) end)
    end)

    it("resolves an endpoint as MLflow does", function()
        assert.equal("http://h/pfx/gateway/x", url.resolve("http://h/pfx", "/gateway/x"))
        assert.equal("https://other/x", url.resolve("http://h", "https://other/x"))
        assert.equal("http://h/x?a=b", url.resolve("http://h?a=b", "x"))
        local resolved, err = url.resolve("http://h?a=../b", "x")
        assert.is_nil(resolved)
        assert.equal("INVALID_PARAMETER_VALUE", err.error_code)
    end)

    it("knows the hosts of this machine", function()
        assert.is_true(url.is_loopback("127.8.9.1"))
        assert.is_true(url.is_loopback("::1"))
        assert.is_true(url.is_loopback("x.localhost"))
        assert.is_false(url.is_loopback("localhost.evil"))
        assert.is_false(url.is_loopback("localhost\0.evil"))
    end)
end)
