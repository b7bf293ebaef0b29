local client = require "moonflow.client"
local commands = require "moonflow.cli.commands"
local config = require "moonflow.config"
local help = require "moonflow.cli.help"
local manual = require "moonflow.cli.manual"
local process = require "support.process"
local skip = require "support.skip"

--- Calls with the words of each command that is shown.
local function each(list, words, call)
    for _, command in ipairs(list) do
        if not command.hidden then
            local path = table.move(words, 1, #words, 1, {})
            path[#path + 1] = command.name
            call(path, command)
            each(command.commands or {}, path, call)
        end
    end
end

describe("help", function()
    it("has each command with all that it takes", function()
        each(commands.list, {}, function(words, command)
            local found = help.text(words)
            assert.is_truthy(found:find("usage: moonflow " .. table.concat(words, " "), 1, true))
            assert.is_truthy(found:find(command.summary, 1, true))
            for _, option in ipairs(command.options or {}) do
                assert.is_truthy(found:find(option.names[1], 1, true), option.names[1])
                assert.is_truthy(found:find(option.help, 1, true), option.help)
            end
        end)
    end)

    it("has each topic and each method", function()
        local topics = { "config", "auth", "output", "exit-codes", "environment", "plugins", "repl", "query" }
        for _, topic in ipairs(topics) do
            assert.is_true(#help.text { topic } > 100, topic)
            assert.is_truthy(help.overview():find("  " .. topic, 1, true))
        end
        for _, signature in ipairs(client.signatures) do
            local found = help.text { "client." .. signature.name }
            assert.is_truthy(found:find(signature.doc, 1, true))
            for _, param in ipairs(signature.params) do
                assert.is_truthy(found:find(param.doc, 1, true))
            end
        end
        for _, variable in ipairs(config.variables) do
            local is_shown = help.text({ "environment" }):find(variable.name, 1, true) ~= nil
            assert.is_true(is_shown or variable.name:sub(1, 1) == "_", variable.name)
        end
    end)

    it("names what is near", function()
        local ok, err = pcall(help.text, { "exit-code" })
        assert.is_false(ok)
        assert.equal("usage", err.kind)
        assert.equal('did you mean "exit-codes"?', err.hint)
    end)

    it("hides what is hidden", function()
        assert.is_nil(help.overview():find("__complete", 1, true))
        assert.is_nil(manual.page():find("__complete", 1, true))
    end)
end)

describe("the manual page", function()
    it("has all commands, topics and options", function()
        local page = manual.page():gsub("\\%-", "-")
        each(commands.list, {}, function(words)
            assert.is_truthy(page:find(".SS " .. table.concat(words, " ") .. "\n", 1, true), table.concat(words, " "))
        end)
        for _, option in ipairs(commands.globals) do
            assert.is_truthy(page:find(option.names[1], 1, true), option.names[1])
        end
        local titles = { "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT CODES", "ENVIRONMENT" }
        for _, title in ipairs(titles) do
            assert.is_truthy(page:find("\n.SH " .. title .. "\n", 1, true), title)
        end
    end)

    it("has nothing that groff warns of", function()
        skip.unless(os.execute("command -v groff >/dev/null"), "groff is not installed")
        local result = process.run { "groff", "-ww", "-man", "-Tutf8", "-z", stdin = manual.page() }
        assert.equal("", result.stderr)
        assert.equal(0, result.code)
    end)
end)
