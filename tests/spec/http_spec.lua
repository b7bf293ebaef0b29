--- moonflow.http over the real transport: what is sent, what comes back, how failure is told, and
--- where credentials do not go.
local auth = require "moonflow.auth"
local env = require "moonflow.env"
local error = require "moonflow.error"
local http = require "moonflow.http"
local raw = require "support.raw"
local skip = require "support.skip"
local task = require "moonflow.task"

local PROXY_VARIABLES = {
    "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
}
local TLS_VARIABLES = {
    "MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
}

local function forget(names)
    for _, name in ipairs(names) do
        env[name] = nil
    end
end

local function raised(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(error.is(err), tostring(err))
    return err
end

describe("http.request", function()
    before_each(function()
        forget(PROXY_VARIABLES)
        forget(TLS_VARIABLES)
    end)

    it("gives the whole answer", function()
        local server <close> = raw.listen {
            raw.reply { status = 418, reason = "Tea", body = "a\0b", headers = { { "X-One", "1" }, { "x-one", "2" } } },
        }
        local response = assert(http.request { url = server.url .. "/p?q=1" })
        assert.equal(418, response.status)
        assert.equal("Tea", response.reason)
        assert.equal("a\0b", response.body)
        assert.equal("1, 2", response.headers["x-one"])
        assert.equal(server.url .. "/p?q=1", response.url)
        assert.is_true(response.timings.connect <= response.timings.first_byte)
        assert.is_true(response.timings.first_byte <= response.timings.total)
        assert.is_false(response.reused)
        assert.is_true(assert(http.request { url = server.url }).reused)
    end)

    it("sends JSON with its type, and POST where there is a body", function()
        local server <close> = raw.listen { raw.reply {} }
        assert(http.request { url = server.url, json = { a = { 1, 2 } } })
        assert(http.request { url = server.url, json = 1, headers = { ["content-type"] = "text/x" } })
        assert(http.request { url = server.url, body = "" })
        local json, own, empty = table.unpack(server:requests())
        assert.equal("POST", json.method)
        assert.equal('{"a":[1,2]}', json.body)
        assert.equal("application/json", json.header("Content-Type"))
        assert.equal("text/x", own.header("Content-Type"))
        assert.equal("0", empty.header("Content-Length"))
        assert.is_nil(empty.header("Content-Type"))
        assert.is_nil(json.header("Expect"))
        assert.is_nil(json.header("Accept-Encoding"))
    end)

    it("sends lists of header values, and secrets, as they are", function()
        local server <close> = raw.listen { raw.reply {} }
        local parts = require("moonflow.url").parse(server.url)
        assert(http.request {
            url = server.url,
            headers = { ["X-List"] = { "a", "b" }, Authorization = auth.bearer("token-0123456789", parts.origin) },
        })
        local bytes = server:received()[1]
        assert.truthy(bytes:find("\r\nX%-List: a\r\nX%-List: b\r\n"))
        assert.truthy(bytes:find("\r\nAuthorization: Bearer token%-0123456789\r\n"))
    end)

    it("refuses what could change the request", function()
        for _, headers in ipairs {
            { ["X-A"] = "b\r\nX-B: c" }, { ["X-A"] = "b\n" }, { ["X-A"] = "b\0" }, { ["X A"] = "b" },
            { ["X-A: b\r\nX-B"] = "c" }, { Host = "evil.test" }, { ["content-length"] = "0" }, { ["X-A"] = 1 },
            { "a" },
        } do
            assert.equal("usage", raised(http.request, { url = "http://127.0.0.1:1/", headers = headers }).kind)
        end
        for _, url in ipairs { "file:///etc/hostname", "ftp://127.0.0.1/", "127.0.0.1", "", "http://a:b@127.0.0.1/",
            "http://127.0.0.1/\r\nX: y", "http://127.0.0.1\\@evil.test/" } do
            assert.equal("usage", raised(http.request, { url = url }).kind)
        end
        for _, request in ipairs { { method = "get" }, { method = "A B" }, { timeout = 0 }, { timeout = "1" },
            { max_body = -1 }, { tiemout = 1 }, { body = 1 }, { body = "", json = 1 }, { proxy = 1 } } do
            request.url = "http://127.0.0.1:1/"
            assert.equal("usage", raised(http.request, request).kind)
        end
    end)

    it("follows no redirect", function()
        local other <close> = raw.listen { raw.reply {} }
        for _, status in ipairs { 301, 302, 303, 307, 308 } do
            local server <close> = raw.listen { raw.reply { status = status, headers = { Location = other.url } } }
            assert.equal(status, assert(http.request { url = server.url, body = "prompt" }).status)
        end
        assert.equal(0, #other:connections())
    end)

    it("never takes a cut answer for a whole one", function()
        for _, framing in ipairs { "length", "chunked" } do
            local options = { body = "0123456789", framing = framing, chunk_size = 4 }
            -- the very last byte of chunks, the end of a line, tells nothing
            local last = #raw.bytes(options) - (framing == "chunked" and 2 or 1)
            for cut = 0, last do
                options.cut = cut
                local server <close> = raw.listen { raw.reply(options) }
                local response, err = http.request { url = server.url }
                assert.is_nil(response, framing .. " cut at " .. cut)
                assert.equal("network", err.kind)
                assert.is_true(err.request_sent)
            end
        end
    end)

    it("tells a refused connection, and that nothing was sent", function()
        local url = ("http://127.0.0.1:%d/secret?key=secret"):format(raw.closed_port())
        local _, err = http.request { url = url }
        assert.equal("network", err.kind)
        assert.equal("connect", err.phase)
        assert.falsy(err.request_sent)
        assert.falsy(tostring(err):find("secret"))
    end)

    it("names the phase that took too long", function()
        local backlog <close> = raw.listen { backlog = true }
        local silent <close> = raw.listen { connections = { { { stall = true } } } }
        local stalled <close> = raw.listen { raw.reply { body = "0123456789", stall = 50 } }
        local dripping <close> = raw.listen { raw.reply { body = ("x"):rep(100), chop = 1, pause = 0.05 } }
        local function phase(request)
            local _, err = http.request(request)
            assert.equal("timeout", err.kind)
            assert.equal("DEADLINE_EXCEEDED", err.error_code)
            return err.phase
        end
        assert.equal("connect", phase { url = backlog.url, connect_timeout = 0.2 })
        assert.equal("first byte", phase { url = silent.url, timeout = 0.2 })
        assert.equal("idle", phase { url = stalled.url, timeout = 0.2 })
        assert.equal("total", phase { url = dripping.url, total_timeout = 0.3 })
    end)

    it("bounds what a server can send", function()
        local big <close> = raw.listen { raw.reply { body = ("x"):rep(1000), times = 100, framing = "close" } }
        local many <close> = raw.listen { raw.reply { headers = { ["X-A"] = ("y\r\nX-A: "):rep(300) } } }
        local long <close> = raw.listen { raw.reply { headers = { ["X-A"] = ("y"):rep(1000000) } } }
        for _, url in ipairs { big.url, many.url, long.url } do
            local _, err = http.request { url = url, max_body = 5000 }
            assert.equal("RESOURCE_EXHAUSTED", err.error_code)
        end
    end)

    it("does not read a compressed answer", function()
        local server <close> = raw.listen { raw.reply { body = "zip", headers = { ["Content-Encoding"] = "gzip" } } }
        local _, err = http.request { url = server.url }
        assert.equal("decode", err.kind)
        assert.truthy(err.message:find("gzip"))
    end)

    it("runs requests side by side, and drops one that is cancelled", function()
        local server <close> = raw.listen { raw.reply { body = "ok", wait = 0.2 } }
        local started = os.time()
        local bodies = task.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function()
            return assert(http.request { url = server.url }).body
        end)
        assert.equal(10, #bodies)
        assert.is_true(os.time() - started <= 1)

        local silent <close> = raw.listen { connections = { { { stall = true } } } }
        local err = raised(task.timeout, 0.1, http.request, { url = silent.url })
        assert.equal("timeout", err.kind)
        task.sleep(0.1)
        assert.is_false(silent:connections()[1].open)
    end)

    it("works where Lua can not yield", function()
        local server <close> = raw.listen { raw.reply { body = "x" } }
        local text = ("abc"):gsub(".", function()
            return assert(http.request { url = server.url }).body
        end)
        assert.equal("xxx", text)
    end)
end)

describe("a credential", function()
    before_each(function()
        forget(PROXY_VARIABLES)
    end)

    it("goes to its own origin only", function()
        local server <close> = raw.listen { raw.reply {} }
        for _, origin in ipairs { "http://127.0.0.1:1", "https://127.0.0.1:" .. server.port, "http://localhost:1" } do
            local response, err = http.request {
                url = server.url,
                headers = { ["X-Any"] = auth.secret("canary-0123456789", origin) },
            }
            assert.is_nil(response)
            assert.equal("config", err.kind)
            assert.falsy(tostring(err):find("canary"))
        end
        assert.equal(0, #server:connections())
    end)

    it("is not sent in clear text to another machine", function()
        for _, name in ipairs { "Authorization", "authorization", "api-key", "X-API-Key", "Cookie" } do
            local _, err = http.request { url = "http://moonflow.invalid/", headers = { [name] = "canary" } }
            assert.equal("config", err.kind)
            assert.falsy(tostring(err):find("canary"))
        end
        local _, err = http.request {
            url = "http://moonflow.invalid/", headers = { ["X-Any"] = auth.secret("canary-01") },
        }
        assert.equal("config", err.kind)
        local _, allowed = http.request {
            url = "http://moonflow.invalid/", headers = { Authorization = "x" }, allow_insecure_http = true,
        }
        assert.equal("network", allowed.kind)
    end)

    it("does not reach the proxy", function()
        local proxy <close> = raw.listen { raw.reply { status = 407 } }
        local _, err = http.request {
            url = "https://moonflow.invalid/path",
            proxy = "http://user:canary@127.0.0.1:" .. proxy.port,
            headers = { Authorization = "Bearer canary", ["api-key"] = "canary" },
        }
        assert.equal("network", err.kind)
        assert.truthy(err.message:find("407"))
        assert.falsy(tostring(err):find("canary"))
        local bytes = proxy:received()[1]
        assert.truthy(bytes:find("^CONNECT moonflow%.invalid:443 "))
        assert.falsy(bytes:find("canary"))
        assert.falsy(bytes:find("path"))
    end)

    it("is not shown where a proxy can not be used", function()
        local _, err = http.request { url = "https://moonflow.invalid/", proxy = "nonsense://user:canary@127.0.0.1" }
        assert.equal("config", err.kind)
        assert.falsy(tostring(err):find("canary"))
    end)
end)

describe("proxies", function()
    before_each(function()
        forget(PROXY_VARIABLES)
    end)

    it("come from the environment as curl reads it", function()
        local function set(values)
            forget(PROXY_VARIABLES)
            for name, value in pairs(values) do
                env[name] = value
            end
        end
        local cases = {
            { {}, "https://a.test/", nil },
            { { https_proxy = "http://p" }, "https://a.test/", "http://p" },
            { { HTTPS_PROXY = "http://p" }, "https://a.test/", "http://p" },
            { { https_proxy = "http://p", HTTPS_PROXY = "http://q" }, "https://a.test/", "http://p" },
            { { http_proxy = "http://p" }, "http://a.test/", "http://p" },
            { { HTTP_PROXY = "http://p" }, "http://a.test/", "http://p" },
            { { HTTP_PROXY = "http://p", REQUEST_METHOD = "GET" }, "http://a.test/", nil },
            { { http_proxy = "http://p" }, "https://a.test/", nil },
            { { ALL_PROXY = "http://p" }, "http://a.test/", "http://p" },
            { { all_proxy = "http://p", https_proxy = "" }, "https://a.test/", nil },
            { { all_proxy = "http://p" }, "http://localhost:5000/", nil },
            { { all_proxy = "http://p" }, "http://[::1]:5000/", nil },
        }
        for i, case in ipairs(cases) do
            set(case[1])
            assert.equal(case[3], (http.proxy_for(case[2])), "case " .. i)
        end
        set { https_proxy = "http://p", NO_PROXY = "b.test" }
        assert.same({ "http://p", "b.test" }, { http.proxy_for "https://a.test/" })
    end)

    it("are never asked for this machine", function()
        local proxy <close> = raw.listen { raw.reply { status = 502 } }
        local server <close> = raw.listen { raw.reply { body = "direct" } }
        env.http_proxy = "http://127.0.0.1:" .. proxy.port
        assert.equal("direct", assert(http.request { url = server.url }).body)
        assert.equal("direct", assert(http.request { url = server.url, proxy = env.http_proxy }).body)
        assert.equal(0, #proxy:connections())
    end)

    it("carry plain http to other machines", function()
        local proxy <close> = raw.listen { raw.reply { body = "through" } }
        env.http_proxy = "http://127.0.0.1:" .. proxy.port
        assert.equal("through", assert(http.request { url = "http://moonflow.invalid/x" }).body)
        assert.equal("http://moonflow.invalid/x", proxy:requests()[1].target)
        local _, err = http.request { url = "http://moonflow.invalid/x", no_proxy = "moonflow.invalid" }
        assert.equal("resolve", err.phase)
    end)
end)

describe("TLS", function()
    local function listen(name)
        local certs = skip.unless_env("MOONFLOW_TEST_CERTS")
        local pair = { certfile = ("%s/%s.pem"):format(certs, name), keyfile = ("%s/%s.key"):format(certs, name) }
        return raw.listen { raw.reply { body = "secure" }, tls = pair }, certs
    end

    before_each(function()
        forget(PROXY_VARIABLES)
        forget(TLS_VARIABLES)
    end)

    it("trusts the CA that it is given, and no other", function()
        local server, certs = listen "good"
        assert.equal("secure", assert(http.request { url = server.url, ca_file = certs .. "/ca.pem" }).body)
        local _, unknown = http.request { url = server.url }
        assert.equal("UNAUTHENTICATED", unknown.error_code)
        assert.truthy(unknown.hint:find("MLFLOW_TRACKING_SERVER_CERT_PATH", 1, true))
        assert.falsy(unknown.request_sent)
        local _, other = http.request { url = server.url, ca_file = certs .. "/self.pem" }
        assert.equal("UNAUTHENTICATED", other.error_code)
        server:close()
    end)

    it("says what is wrong with a certificate", function()
        for name, word in pairs { ["wrong-name"] = "subject name", expired = "expired", self = "self%-signed" } do
            local server, certs = listen(name)
            local _, err = http.request { url = server.url, ca_file = certs .. "/ca.pem" }
            assert.equal("network", err.kind)
            assert.truthy(err.message:find(word), err.message)
            server:close()
        end
    end)

    it("is not verified only where that is asked for", function()
        local server = listen "self"
        assert.equal("secure", assert(http.request { url = server.url, insecure_tls = true }).body)
        assert.is_nil((http.request { url = server.url }))
        env.MLFLOW_TRACKING_INSECURE_TLS = "true"
        assert.equal("secure", assert(http.request { url = server.url }).body)
        server:close()
    end)

    it("reads the variables that name a CA, in their order", function()
        local server, certs = listen "good"
        for _, name in ipairs { "MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE" } do
            forget(TLS_VARIABLES)
            env[name] = certs .. "/ca.pem"
            assert.equal("secure", assert(http.request { url = server.url }).body)
        end
        env.REQUESTS_CA_BUNDLE = certs .. "/self.pem"
        assert.is_nil((http.request { url = server.url }))
        server:close()
    end)

    it("fails where a CA can not be read", function()
        for _, path in ipairs { "/nonexistent/ca.pem", "/dev/null" } do
            env.REQUESTS_CA_BUNDLE = path
            local server = listen "good"
            local _, err = http.request { url = server.url }
            assert.equal("config", err.kind)
            assert.truthy(err.message:find(path, 1, true))
            server:close()
        end
        env.MLFLOW_TRACKING_SERVER_CERT_PATH = "/nonexistent/ca.pem"
        env.MLFLOW_TRACKING_INSECURE_TLS = "1"
        local _, err = http.tls_options()
        assert.truthy(err.message:find("server_cert_path", 1, true))
    end)

    it("takes a directory of CAs as one", function()
        local options = assert(http.tls_options "/etc")
        assert.same({ ca_path = "/etc" }, options)
    end)

    it("tells a server that speaks none", function()
        local server <close> = raw.listen { connections = { { { read = 5 }, { send = "HTTP/1.1 400 Bad\r\n\r\n" } } } }
        local _, err = http.request { url = server.url:gsub("^http:", "https:") }
        assert.equal("network", err.kind)
        assert.truthy(err.hint:find("plain http"))
    end)
end)
