local completion = require "moonflow.cli.completion"
local json = require "moonflow.json"
local process = require "support.process"
local raw = require "support.raw"
local skip = require "support.skip"

local ANSWER = 'require("moonflow.cli.completion").complete(arg)'

local function has(list, wanted)
    for _, item in ipairs(list) do
        if item == wanted then
            return true
        end
    end
    return false
end

local function lines_of(text)
    local lines = {}
    for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
    end
    return lines
end

--- A directory of its own, and a function that removes it.
local function new_dir()
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir -m 700 " .. dir))
    return dir, function()
        os.execute("rm -r " .. dir)
    end
end

--- What the program offers for these words.
local function ask(words, env)
    skip.unless_env("MOONFLOW_BIN")
    local args = { "-e", ANSWER, table.unpack(words) }
    local result = process.run { args = args, env = env, timeout = 20 }
    assert.equal(0, result.code, result.stderr)
    assert.equal("", result.stderr)
    return lines_of(result.stdout)
end

describe("candidates", function()
    local cases = {
        { { "" }, { "endpoints", "doctor", "run" }, { "__complete", ":files" } },
        { { "endpoints", "" }, { "list", "wait" }, { "create-endpoint" } },
        { { "deployments", "create-" }, { "create-endpoint" }, {} },
        { { "predict", "--" }, { "--endpoint", "--target", "--stream" }, { "--for" } },
        { { "predict", "-o", "" }, { "json", "table" }, { "list" } },
        { { "-o", "json", "endpoints", "" }, { "list" }, { "json" } },
        { { "predict", "--output=" }, { "--output=json" }, {} },
        { { "predict", "-I", "" }, { ":files" }, {} },
        { { "--plugin-dir", "" }, { ":directories" }, {} },
        { { "targets", "" }, { "list", "help" }, {} },
        { { "targets", "help", "" }, { "openai", "http://" }, {} },
        { { "-t", "" }, { "databricks", "openai", "https://" }, {} },
        { { "help", "" }, { "exit-codes", "client.predict", "doctor" }, {} },
        { { "completion", "" }, { "bash", "zsh", "fish" }, {} },
        { { "no", "such", "" }, {}, { "list" } },
    }
    for _, case in ipairs(cases) do
        it("of " .. table.concat(case[1], " ") .. "|", function()
            local found = completion.candidates(case[1])
            for _, wanted in ipairs(case[2]) do
                assert.is_true(has(found, wanted), wanted)
            end
            for _, unwanted in ipairs(case[3]) do
                assert.is_false(has(found, unwanted), unwanted)
            end
        end)
    end
end)

--- Makes the one kept list of names older.
local function make_older(dir, seconds)
    local names = process.run { "sh", "-c", "ls " .. dir .. "/moonflow/endpoints-*.json" }
    local path = names.stdout:gsub("\n", "")
    local kept = assert(json.decode(assert(require("moonflow.sys").read_file(path))))
    kept.at = kept.at - seconds
    local file <close> = assert(io.open(path, "w"))
    file:write((assert(json.encode(kept))))
end

describe("names of endpoints", function()
    local ENDPOINTS = { json = { endpoints = {
        { name = "chat", endpoint_type = "llm/v1/chat" }, { name = "chat-2", endpoint_type = "llm/v1/chat" },
        { name = "bad\27name", endpoint_type = "llm/v1/chat" },
    } } }

    it("are asked for once, and kept in a file of this user's", function()
        local dir, remove = new_dir()
        local server <close> = raw.listen { raw.reply(ENDPOINTS) }
        local env = { XDG_CACHE_HOME = dir, HOME = dir }
        for _ = 1, 2 do
            assert.same({ "chat", "chat-2" }, ask({ "predict", "-t", server.url, "-e", "" }, env))
        end
        assert.equal(1, #server:requests())
        local listing = process.run { "sh", "-c", "stat -c %a " .. dir .. "/moonflow " .. dir .. "/moonflow/*" }
        assert.equal("700\n600\n", listing.stdout)
        remove()
    end)

    it("come late or never: nothing is waited for", function()
        local dir, remove = new_dir()
        local server <close> = raw.listen { raw.reply { wait = 15, body = "{}" } }
        local sys = require "moonflow.sys"
        local started = sys.monotonic()
        assert.same({}, ask({ "predict", "-t", server.url, "-e", "" }, { XDG_CACHE_HOME = dir, HOME = dir }))
        assert.is_true(sys.monotonic() - started < 8)
        remove()
    end)

    it("are old where the server is gone, and nothing where it never was", function()
        local dir, remove = new_dir()
        local env = { XDG_CACHE_HOME = dir, HOME = dir }
        local server = raw.listen { raw.reply(ENDPOINTS) }
        local words = { "predict", "-t", server.url, "-e", "chat-" }
        assert.same({ "chat-2" }, ask(words, env))
        server:close()
        make_older(dir, 100)
        assert.same({ "chat-2" }, ask(words, env))
        make_older(dir, 100000)
        assert.same({}, ask(words, env))
        assert.same({}, ask({ "predict", "-t", "http://127.0.0.1:" .. raw.closed_port(), "-e", "" }, env))
        remove()
    end)

    it("are had without a login", function()
        local dir, remove = new_dir()
        local server <close> = raw.listen { raw.reply {} }
        assert.same({}, ask({ "predict", "-t", "databricks", "-e", "" }, {
            HOME = dir, XDG_CACHE_HOME = dir, DATABRICKS_HOST = server.url, DATABRICKS_CLIENT_ID = "id",
            DATABRICKS_CLIENT_SECRET = "secret-123456",
        }))
        assert.same({}, server:requests())
        remove()
    end)

    it("are nothing without a home", function()
        assert.same({}, ask({ "predict", "-e", "" }, { HOME = false, XDG_CACHE_HOME = false }))
    end)
end)

--- A program named moonflow that answers as ours does, whatever the command line of the one under test.
local function stand_in(dir)
    local file <close> = assert(io.open(dir .. "/moonflow", "w"))
    file:write(('#!/bin/sh\nshift\nexec %s -e \'%s\' "$@"\n'):format(process.moonflow(), ANSWER))
    os.execute("chmod +x " .. dir .. "/moonflow")
end

local function script_of(shell)
    local result = process.run {
        args = { "-e", 'require("moonflow.cli.completion").run{shell = arg[1]}', shell },
    }
    assert.equal(0, result.code, result.stderr)
    return result.stdout
end

describe("in bash", function()
    local cases = {
        { "moonflow endp", "('moonflow' 'endp')", "endpoints" },
        { "moonflow endpoints ", "('moonflow' 'endpoints' '')", "list get create update delete wait query" },
        { "moonflow predict --output=jso", "('moonflow' 'predict' '--output' '=' 'jso')", "json jsonl" },
        { "moonflow -t databricks://", "('moonflow' '-t' 'databricks' ':' '//')", "//prod" },
        { "moonflow completion ", "('moonflow' 'completion' '')", "bash zsh fish" },
        { "moonflow predict -I /etc/hostn", "('moonflow' 'predict' '-I' '/etc/hostn')", "/etc/hostname" },
    }
    for _, case in ipairs(cases) do
        it("completes " .. case[1] .. "|", function()
            skip.unless_env("MOONFLOW_BIN")
            local dir, remove = new_dir()
            stand_in(dir)
            local profiles <close> = assert(io.open(dir .. "/.databrickscfg", "w"))
            profiles:write("[prod]\nhost = https://x.cloud.databricks.com\n")
            profiles:flush()
            local script = script_of "bash" .. ("COMP_LINE='%s'; COMP_POINT=%d; COMP_WORDS=%s\n"):format(case[1],
                #case[1], case[2]) .. "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_moonflow\necho \"${COMPREPLY[*]}\"\n"
            local result = process.run {
                "bash", stdin = script,
                env = { PATH = dir .. ":" .. os.getenv "PATH", HOME = dir, DATABRICKS_CONFIG_FILE = false },
            }
            assert.equal("", result.stderr)
            assert.equal(case[3] .. "\n", result.stdout)
            remove()
        end)
    end
end)

describe("in other shells", function()
    local checks = { zsh = { "zsh", "-n" }, fish = { "fish", "--no-execute" } }
    for shell, command in pairs(checks) do
        it("is a script that " .. shell .. " reads", function()
            skip.unless_env("MOONFLOW_BIN")
            local script = script_of(shell)
            assert.is_truthy(script:find("__complete", 1, true))
            skip.unless(os.execute("command -v " .. shell .. " >/dev/null"), shell .. " is not installed")
            command.stdin = script
            local result = process.run(command)
            assert.equal(0, result.code, result.stderr)
        end)
    end
end)
