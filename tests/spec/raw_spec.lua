--- The raw server plays and records what it is told: the other specs rely on it.
local http = require "moonflow.http"
local raw = require "support.raw"

local function get(server)
    return assert(http.request { url = server.url .. "/x" })
end

describe("the raw server", function()
    it("answers each request with the next reply, and then with the last again", function()
        local server <close> = raw.listen { raw.reply { status = 503 }, raw.reply { json = { 1, 2 } } }
        assert.equal(503, get(server).status)
        assert.equal("[1,2]", get(server).body)
        assert.equal("[1,2]", get(server).body)
        assert.equal(3, #server:requests())
    end)

    it("keeps every byte that it received", function()
        local server <close> = raw.listen { raw.reply {} }
        local url = server.url .. "/p?q=1"
        assert(http.request { method = "POST", url = url, body = "\0\xff\r\n", headers = { X = "y" } })
        local request = server:requests()[1]
        assert.equal("POST", request.method)
        assert.equal("/p?q=1", request.target)
        assert.equal("y", request.header("x"))
        assert.equal("\0\xff\r\n", request.body)
        assert.truthy(server:received()[1]:find("^POST /p%?q=1 HTTP/1%.1\r\n"))
        assert.truthy(server:received()[1]:find("\r\n\r\n\0\xff\r\n$"))
    end)

    it("frames a body in every way", function()
        local body = ("0123456789"):rep(10)
        for _, framing in ipairs { "length", "chunked", "close" } do
            local server <close> = raw.listen { raw.reply { body = body, framing = framing, chunk_size = 7, chop = 3 } }
            assert.equal(body, get(server).body)
        end
    end)

    it("repeats a body", function()
        local server <close> = raw.listen { raw.reply { body = "0123456789", times = 1000, framing = "close" } }
        assert.equal(10000, #get(server).body)
    end)

    it("cuts, resets and stalls", function()
        local whole = #raw.bytes { body = "0123456789" }
        for _, fault in ipairs { "cut", "reset", "stall" } do
            local server <close> = raw.listen { raw.reply { body = "0123456789", [fault] = whole - 1 } }
            local response, err = http.request { url = server.url, timeout = 0.2 }
            assert.is_nil(response)
            assert.equal(fault == "stall" and "timeout" or "network", err.kind)
            assert.equal(1, #server:requests())
        end
    end)

    it("plays connections step by step", function()
        local server <close> = raw.listen {
            connections = { { { read = "head" }, { send = raw.bytes { body = "one" } } }, { { reset = true } } },
        }
        assert.equal("one", get(server).body)
        assert.is_nil((http.request { url = server.url, connect_timeout = 1 }))
        assert.equal(2, #server:connections())
    end)

    it("takes a new script", function()
        local server <close> = raw.listen { raw.reply { body = "old" } }
        assert.equal("old", get(server).body)
        server:script { raw.reply { body = "new" } }
        assert.equal("new", get(server).body)
        assert.equal(2, #server:requests())
    end)

    it("has ports that never answer and ports on which nothing listens", function()
        local server <close> = raw.listen { backlog = true }
        local _, slow = http.request { url = server.url, connect_timeout = 0.3 }
        assert.equal("timeout", slow.kind)
        local _, refused = http.request { url = "http://127.0.0.1:" .. raw.closed_port() }
        assert.equal("network", refused.kind)
    end)

    it("speaks TLS", function()
        local certs = require("support.skip").unless_env("MOONFLOW_TEST_CERTS")
        local server <close> = raw.listen {
            raw.reply { body = "secure" },
            tls = { certfile = certs .. "/good.pem", keyfile = certs .. "/good.key" },
        }
        assert.equal("secure", assert(http.request { url = server.url, ca_file = certs .. "/ca.pem" }).body)
    end)
end)
