--- The manual page moonflow(1), of the description of the commands and the topics of help.
local commands = require "moonflow.cli.commands"
local help = require "moonflow.cli.help"
local sys = require "moonflow.sys"
local topics = require "moonflow.cli.topics"

local manual = {}

--- Text as roff takes it for itself: neither commands nor escapes in it.
local function escape(text)
    return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1")
        :gsub("'", "\\(aq"):gsub("`", "\\(ga"):gsub("\"", "\\(dq"):gsub("~", "\\(ti"):gsub("%^", "\\(ha"))
end

local function add_items(out, list, form)
    for _, item in ipairs(list or {}) do
        out[#out + 1] = ".TP\n.B " .. escape(form(item))
        out[#out + 1] = escape(item.help or "")
    end
end

local function add_command(out, path, command)
    if command.hidden then
        return
    end
    out[#out + 1] = ".SS " .. escape(path)
    out[#out + 1] = ".B " .. escape(help.usage(path, command))
    out[#out + 1] = ".PP\n" .. escape(command.summary)
    if command.details then
        out[#out + 1] = ".PP\n" .. escape(command.details)
    end
    add_items(out, command.arguments, help.argument_form)
    add_items(out, command.options, help.option_form)
    for _, example in ipairs(command.examples or {}) do
        out[#out + 1] = (".PP\n%s:\n.PP\n.nf\n.RS\n%s\n.RE\n.fi"):format(escape(example[1]), escape(example[2]))
    end
    for _, below in ipairs(command.commands or {}) do
        add_command(out, path .. " " .. below.name, below)
    end
end

--- The page, as roff with the macros of man.
---@return string
function manual.page()
    local out = {
        '.TH MOONFLOW 1 "" "moonflow ' .. escape(sys.version) .. '" "User Commands"',
        ".SH NAME\nmoonflow \\- MLflow\\(aqs deployment clients as a Lua scripting host",
        ".SH SYNOPSIS\n.B moonflow\n.RI [ OPTIONS ]\n.I COMMAND\n.RI [ ARGUMENTS ]\n.br\n.B moonflow\n.I SCRIPT\n"
            .. ".RI [ ARGUMENTS ]",
        ".SH DESCRIPTION\n" .. escape("One program with Lua 5.4 inside: deployment workflows are Lua scripts, clients "
            .. "for new platforms are Lua files in a directory, and a terminal session explores endpoints."),
        ".SH OPTIONS\nThey hold for every command, before its name or behind it.",
    }
    add_items(out, commands.globals, help.option_form)
    out[#out + 1] = ".SH COMMANDS"
    for _, command in ipairs(commands.list) do
        add_command(out, command.name, command)
    end
    for _, topic in ipairs(topics.list) do
        out[#out + 1] = (".SH %s\n%s.\n.PP\n.nf\n%s\n.fi"):format(escape(topic[1]:upper():gsub("%-", " ")),
            escape(topic[2]), escape((topics.get(topic[1]))))
    end
    return table.concat(out, "\n") .. "\n"
end

return manual
