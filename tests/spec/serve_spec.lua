--- The command `moonflow serve`, as a program of its own.
local deployments = require "moonflow.deployments"
local http = require "moonflow.http"
local json = require "moonflow.json"
local process = require "support.process"
local task = require "moonflow.task"

local CHAT = json.encode { messages = { { role = "user", content = "hi" } } }
local HEADERS = { ["Content-Type"] = "application/json" }

local function write(path, content)
    local file <close> = assert(io.open(path, "w"))
    file:write(content)
end

local function read(path)
    local file <close> = assert(io.open(path))
    return file:read("a")
end

local Serving = {}
Serving.__index = Serving

function Serving:signal(name)
    os.execute(("kill -%s %s"):format(name, self.pid))
end

--- Ends it as an operator would, and returns what it said on standard error.
function Serving:stop()
    if self.out then
        self:signal("TERM")
        self.rest = self.out:read("a")
        local _, _, code = self.out:close()
        self.out, self.code = nil, code
        self.said = read(self.errors)
        os.remove(self.errors)
    end
    return self.said
end

Serving.__close = Serving.stop

--- Starts `moonflow serve --port 0` with these words.
local function serve(words, environment)
    local errors = os.tmpname()
    local command = ("echo $$; exec env %s %s serve --port 0 %s 2>%s"):format(environment or "", process.moonflow(),
        words or "", errors)
    local self = setmetatable({ out = io.popen(command), errors = errors }, Serving)
    self.pid = self.out:read("l")
    self.url = self.out:read("l")
    return self
end

local function ask(url, headers)
    return http.request {
        method = "POST", url = url .. "/gateway/chat/invocations", headers = headers or HEADERS, body = CHAT,
    }
end

local function content(answer)
    return json.decode(answer.body).choices[1].message.content
end

local ENDPOINT = [[
return { { name = "chat", endpoint_type = "llm/v1/chat", handler = function(inputs) return %q end } }]]

--- Asks until the answer is the wanted one, for three seconds.
local function becomes(url, wanted)
    for _ = 1, 60 do
        local got = content(assert(ask(url)))
        if got == wanted then
            return true
        end
        task.sleep(0.05)
    end
    return false
end

describe("moonflow serve", function()
    it("serves a demonstration that says what it is", function()
        local server <close> = serve()
        local client = deployments.get_deploy_client(server.url)
        local names = {}
        for i, endpoint in ipairs(client:list_endpoints()) do
            names[i] = endpoint.name .. " " .. endpoint.endpoint_type
            assert.equal("moonflow", endpoint.model.provider)
        end
        assert.same({ "chat llm/v1/chat", "completions llm/v1/completions", "embeddings llm/v1/embeddings" }, names)
        assert.matches("no model", content(assert(ask(server.url))))
        local near = client:predict { endpoint = "embeddings", inputs = { input = { "the moon", "moon the" } } }.data
        assert.same(near[1].embedding, near[2].embedding)
        server:stop()
        assert.matches("a demonstration: no model", server.rest)
        assert.equal(0, server.code)
    end)

    it("reads its file again at SIGHUP, and keeps what is there where the new one is wrong", function()
        local path = os.tmpname()
        write(path, ENDPOINT:format("first"))
        local server <close> = serve(path)
        assert.is_true(becomes(server.url, "first"))
        write(path, ENDPOINT:format("second"))
        server:signal("HUP")
        assert.is_true(becomes(server.url, "second"))
        write(path, "return { { name = 'chat' } }")
        server:signal("HUP")
        task.sleep(0.3)
        assert.equal("second", content(assert(ask(server.url))))
        assert.matches("stay as they were: .*endpoint_type", server:stop())
        os.remove(path)
    end)

    it("serves thousands of endpoints to a reader that stops behind the URL", function()
        local path = os.tmpname()
        write(path, [[local list = {}
            for i = 1, 3000 do
                list[i] = { name = "e" .. i, endpoint_type = "llm/v1/chat", handler = function() return "x" end }
            end
            return list]])
        local server <close> = serve(path)
        local answer = assert(http.request { url = server.url .. "/health", timeout = 5 })
        assert.equal(200, answer.status)
        server:stop()
        assert.matches("and 2960 more", server.rest)
        os.remove(path)
    end)

    it("wants the token that it was given, and does not tell it", function()
        local server <close> = serve("", "MOONFLOW_SERVE_TOKEN=the-secret-token")
        local refused = assert(ask(server.url))
        assert.equal(401, refused.status)
        assert.is_nil(tostring(refused.body):find("the%-secret"))
        local headers = { ["Content-Type"] = "application/json", Authorization = "Bearer the-secret-token" }
        assert.equal(200, assert(ask(server.url, headers)).status)
        headers.Authorization = "Bearer the-secret-tokem"
        assert.equal(401, assert(ask(server.url, headers)).status)
        assert.equal(200, assert(http.request { url = server.url .. "/health" }).status)
    end)

    it("makes faults on demand", function()
        local server <close> = serve("--fault chat:429,retry-after=2,every=2 --fault embeddings:lose")
        assert.equal(200, assert(ask(server.url)).status)
        local limited = assert(ask(server.url))
        assert.equal(429, limited.status)
        assert.equal("2", limited.headers["retry-after"])
        local lost, err = http.request {
            method = "POST", url = server.url .. "/gateway/embeddings/invocations", headers = HEADERS,
            body = json.encode { input = "x" },
        }
        assert.is_nil(lost)
        assert.equal("network", err.kind)
    end)

    it("outlives a handler that computes without end", function()
        local path = os.tmpname()
        write(path, [[return { { name = "chat", endpoint_type = "llm/v1/chat",
            handler = function() while true do end end } }]])
        local server <close> = serve(path)
        assert.equal(504, assert(ask(server.url)).status)
        assert.equal(200, assert(http.request { url = server.url .. "/health" }).status)
        os.remove(path)
    end)

    for words, message in pairs {
        ["--prt 5"] = "did you mean \"%-%-port\"",
        ["--port x"] = "number from 0 to 65535",
        ["--port"] = "needs a value",
        ["a.lua b.lua"] = "one file only",
        ["/nonexistent.lua"] = "nonexistent.lua",
        ["--fault nonsense"] = "no word of a fault",
        ["--fault nobody:500"] = "no endpoint of this name",
        ["--host 0.0.0.0 --port 0"] = "needs a token",
        ["--token-file /nonexistent"] = "nonexistent",
    } do
        it("refuses " .. words, function()
            local args = { "serve" }
            for word in words:gmatch("%S+") do
                args[#args + 1] = word
            end
            local result = process.run { args = args, env = { MOONFLOW_SERVE_TOKEN = false } }
            assert.equal(2, result.code)
            assert.matches(message, result.stderr)
            assert.equal("", result.stdout)
        end)
    end

    it("says that a port is in use", function()
        local server <close> = serve()
        local port = server.url:match("%d+$")
        local result = process.run { args = { "serve", "--port", port } }
        assert.equal(2, result.code)
        assert.matches("can not listen on 127.0.0.1:" .. port .. ": Address already in use", result.stderr)
    end)
end)
