--- `moonflow help`: on commands, by moonflow.cli.commands; on topics; and on methods of clients, by the
-- table of their signatures.
local check = require "moonflow.check"
local client = require "moonflow.client"
local commands = require "moonflow.cli.commands"
local error = require "moonflow.error"
local topics = require "moonflow.cli.topics"

local help = {}

--- How an option is written: "-t, --target URI".
---@param option table
---@return string
function help.option_form(option)
    return table.concat(option.names, ", ") .. (option.metavar and " " .. option.metavar or "")
end

--- How an argument is written: "[NAME]", "WORD...".
---@param argument table
---@return string
function help.argument_form(argument)
    local form = argument.metavar .. (argument.many and "..." or "")
    return argument.optional and "[" .. form .. "]" or form
end

--- The first line of a command's help.
---@param path string the words that name it
---@param command table
---@return string
function help.usage(path, command)
    local words = { "moonflow " .. path }
    if command.commands then
        words[#words + 1] = "COMMAND"
    end
    for _, option in ipairs(command.options or {}) do
        if option.required then
            words[#words + 1] = option.names[1] .. " " .. option.metavar
        end
    end
    words[#words + 1] = "[OPTIONS]"
    for _, argument in ipairs(command.arguments or {}) do
        words[#words + 1] = help.argument_form(argument)
    end
    return table.concat(words, " ")
end

local function add_pairs(lines, title, list)
    if not list[1] then
        return
    end
    local width = 0
    for _, pair in ipairs(list) do
        width = math.max(width, #pair[1] <= 32 and #pair[1] or 0)
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = title
    for _, pair in ipairs(list) do
        local gap = #pair[1] > width and "\n  " .. (" "):rep(width + 2) or (" "):rep(width - #pair[1] + 2)
        lines[#lines + 1] = "  " .. pair[1] .. gap .. pair[2]
    end
end

local function forms(list, form)
    local out = {}
    for i, item in ipairs(list or {}) do
        out[i] = { form(item), item.help or item.summary or "" }
    end
    return out
end

--- Commands as pairs of name and summary, without the hidden ones.
local function summaries(list, group)
    local out = {}
    for _, command in ipairs(list or {}) do
        if not command.hidden and (not group or command.group == group) then
            out[#out + 1] = { command.name, command.summary }
        end
    end
    return out
end

--- The help of a command.
---@param path string
---@param command table
---@return string
function help.of_command(path, command)
    local lines = { "usage: " .. help.usage(path, command), "", command.summary }
    if command.details then
        lines[#lines + 1] = command.details
    end
    add_pairs(lines, "commands:", summaries(command.commands))
    add_pairs(lines, "arguments:", forms(command.arguments, help.argument_form))
    add_pairs(lines, "options:", forms(command.options, help.option_form))
    if not command.host then
        add_pairs(lines, "options of every command:", forms(commands.globals, help.option_form))
    end
    for _, example in ipairs(command.examples or {}) do
        lines[#lines + 1] = ("\n# %s\n%s"):format(example[1], example[2])
    end
    return table.concat(lines, "\n")
end

--- What there is: commands by their groups, and topics.
---@return string
function help.overview()
    local lines = { "moonflow: MLflow's deployment clients as a Lua scripting host" }
    for _, group in ipairs(commands.groups) do
        add_pairs(lines, group.title, summaries(commands.list, group.key))
    end
    local list = {}
    for i, topic in ipairs(topics.list) do
        list[i] = { topic[1], topic[2] }
    end
    add_pairs(lines, "TOPICS", list)
    lines[#lines + 1] = "\nmoonflow help COMMAND, help TOPIC, or help on a method: help client.predict"
    return table.concat(lines, "\n")
end

--- The description of the command that the words name, or nil.
---@param words string[]
---@return table?
function help.find(words)
    local list, found = commands.list, nil
    for _, word in ipairs(words) do
        found = nil
        for _, command in ipairs(list or {}) do
            found = command.name == word and command or found
        end
        list = found and found.commands
        if not found then
            return nil
        end
    end
    return found
end

--- The help of a method of clients.
local function of_method(name)
    local signature = client.BaseDeploymentClient.signatures[name]
    if not signature then
        return nil
    end
    local names, list = {}, {}
    for i, param in ipairs(signature.params) do
        names[i] = param.name
        list[i] = { param.name, ("%s%s; %s"):format(param.type, param.required and ", required" or "", param.doc) }
    end
    local lines = {
        ("client:%s{ %s }"):format(name, table.concat(names, ", ")), "", signature.doc,
    }
    add_pairs(lines, "arguments, by name or in this order:", list)
    return table.concat(lines, "\n")
end

--- All that help can be asked for: commands, topics, methods.
---@return string[]
function help.names()
    local names = {}
    for _, command in ipairs(commands.list) do
        names[#names + 1] = not command.hidden and command.name or nil
    end
    for _, topic in ipairs(topics.list) do
        names[#names + 1] = topic[1]
    end
    for _, signature in ipairs(client.signatures) do
        names[#names + 1] = "client." .. signature.name
    end
    return names
end

--- The text for what somebody asks about. Raises where there is nothing.
---@param words string[]
---@return string
function help.text(words)
    local path = table.concat(words, " ")
    if path == "" then
        return help.overview()
    end
    local command = help.find(words)
    if command then
        local topic = #words == 1 and topics.get(path)
        return help.of_command(path, command) .. (topic and "\n\n" .. topic or "")
    end
    local found = topics.get(path) or of_method(path:match("^client[.:]([%w_]+)$") or path)
    return found or error.raise {
        kind = "usage",
        message = ("there is no help on %s"):format(check.show(path)),
        hint = check.hint(path, help.names()),
    }
end

--- The command.
---@param arguments table topic (a list of words), man
function help.run(arguments)
    if arguments.man then
        io.write(require("moonflow.cli.manual").page())
        return
    end
    local topic = arguments.topic or {}
    print(help.text(type(topic) == "table" and topic or { topic }))
end

return help
