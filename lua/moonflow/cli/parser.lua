--- From the words of a command line to the values of a command, by the description in
-- moonflow.cli.commands. argparse takes the words apart; its messages become usage errors.
local argparse = require "argparse"
local check = require "moonflow.check"
local commands = require "moonflow.cli.commands"
local durations = require "moonflow.cli.durations"
local error = require "moonflow.error"
local text = require "moonflow.text"

local rethrow = _G.error

local parser = {}

local MESSAGE_MAX = 300 -- bytes of a message, as it repeats words
local LEVELS = { "command_1", "command_2" }

local converters = { duration = durations.parse }

function converters.count(word)
    local count = #word <= 9 and word:match("^%d+$") and math.tointeger(tonumber(word))
    if not count then
        return nil, ("%s is no integer from 0"):format(check.show(word))
    end
    return count
end

--- The action of --help: ends the parsing at once, as what is missing then does not matter.
local function ask_for_help(values)
    rethrow({ asked_in = values }, 0)
end

--- The names as argparse wants them: the first is the one that it says.
local function names_for(option)
    local long, short = {}, {}
    for _, name in ipairs(option.names) do
        table.insert(#name > 2 and long or short, name)
    end
    return table.concat(table.move(short, 1, #short, #long + 1, long), " ")
end

local function add_option(to, option)
    local names = names_for(option)
    local added = option.metavar and to:option(names) or to:flag(names)
    added:target(option.key)
    if option.many or option.count then
        added:count("*")
    elseif option.required then
        added:count(1)
    end
    if option.choices then
        added:choices(option.choices)
    end
    if option.type then
        added:convert(converters[option.type])
    end
    if option.key == "help" then
        added:action(ask_for_help)
    end
end

local function add_argument(to, argument)
    local added = to:argument(argument.metavar):target(argument.key)
    if argument.many then
        added:args(argument.optional and "*" or "+")
    elseif argument.optional then
        added:args("?")
    end
    if argument.choices then
        added:choices(argument.choices)
    end
end

--- Puts a command's arguments, options and commands into a parser of argparse's.
local function fill(to, command, level, nodes)
    nodes[to] = command
    to:add_help(false)
    for _, argument in ipairs(command.arguments or {}) do
        add_argument(to, argument)
    end
    for _, option in ipairs(command.options or {}) do
        add_option(to, option)
    end
    if command.commands then
        to:command_target(LEVELS[level])
        for _, below in ipairs(command.commands) do
            fill(to:command(below.name):target("is_" .. below.name), below, level + 1, nodes)
        end
    end
end

local function names_of_commands(command)
    local names = {}
    for _, below in ipairs(command.commands or {}) do
        if not below.hidden then
            names[#names + 1] = below.name
        end
    end
    return names
end

local function names_of_options(command)
    local names = {}
    for _, list in ipairs { command.options or {}, commands.globals } do
        for _, option in ipairs(list) do
            table.move(option.names, 1, #option.names, #names + 1, names)
        end
    end
    return names
end

--- What to try where a word is unknown or something is missing.
local function hint_for(command, message)
    local what, word = message:match("^unknown (%a+) '([^\n]*)'")
    local near = what and #word > 2
        and check.nearest(word, what == "option" and names_of_options(command) or names_of_commands(command))
    if near then
        return ("did you mean %q?"):format(near)
    elseif command.commands and command ~= commands.root and (what == "command" or message:find("^a command")) then
        return ("known: %s\n%s --help"):format(table.concat(names_of_commands(command), ", "), command.full_name)
    end
    return command.full_name .. " --help"
end

local function refuse(command, message)
    local said = text.one_line(message:match("^[^\n]*"):gsub("'([^']*)'", "\"%1\""), MESSAGE_MAX)
    if command == commands.root then
        said = said:gsub("^unknown command (\".*\")$", "%1 is no command; a script is named with its path or \".lua\"")
    end
    error.raise { kind = "usage", message = said, hint = hint_for(command, message) }
end

--- The description of the command that these words name.
local function find(words)
    local command = commands.root
    for _, word in ipairs(words) do
        for _, below in ipairs(command.commands) do
            if below.name == word then
                command = below
            end
        end
    end
    return command
end

local function path_in(values)
    local path = {}
    for i, level in ipairs(LEVELS) do
        path[i] = values[level]
    end
    return path
end

--- The values without those that argparse adds of its own, and without what was not given.
local function clean(values)
    local kept = { command = path_in(values) }
    if values.verbose == 0 then
        values.verbose = nil
    end
    for key, value in next, values do
        local is_empty = type(value) == "table" and next(value) == nil
        if key:sub(1, 8) ~= "command_" and key:sub(1, 3) ~= "is_" and not is_empty then
            kept[key] = value
        end
    end
    return kept
end

--- Reads a command line.
---@param words string[]
---@param root? table description to read them by, default all commands
---@return table values by key; `help` where help was asked for
---@return table command its description
function parser.parse(words, root)
    local nodes = {}
    local top = argparse("moonflow")
    fill(top, root or commands.root, 1, nodes)
    for _, option in ipairs(commands.globals) do
        add_option(top, option) -- argparse knows a parser's options behind its commands as well
    end
    function top.error(current, message)
        refuse(nodes[current], message)
    end
    local ok, values = pcall(top.parse, top, words)
    if not ok then
        local asked_in = type(values) == "table" and not error.is(values) and values.asked_in
        if not asked_in then
            rethrow(values, 0)
        end
        values = clean(asked_in)
        values.help = true
    else
        values = clean(values)
    end
    return values, find(values.command)
end

return parser
