--- The commands of a session, which begin with a comma.
local show = require "moonflow.show"

local commands = {}

-- Each: name, arguments, what it does, function(session, argument) -> "quit" or nothing.
local list = {}

local function define(name, arguments, doc, run)
    local entry = { name = name, arguments = arguments, doc = doc, run = run }
    list[#list + 1] = entry
    list[name] = entry
end

local function say(format, ...)
    io.write(format:format(...), "\n")
end

local KEYS = {
    { "Enter", "run what is complete; else a new line" },
    { "Alt-Enter", "a new line in any case" },
    { "Tab", "complete: names, methods, arguments, targets, endpoints" },
    { "Up, Down", "within a block, then the history" },
    { "Ctrl-R", "search the history" },
    { "Ctrl-C", "stop what runs; at the prompt, clear the line" },
    { "Ctrl-D", "leave, on an empty line" },
    { "Ctrl-A E B F", "begin, end, back, forward; Alt-B and Alt-F by words" },
    { "Ctrl-W U K Y", "cut a word, the line, to its end; put it back" },
    { "Ctrl-L, Ctrl-Z", "clear the screen; suspend" },
}

define("help", "", "this", function()
    for _, entry in ipairs(list) do
        say("  %-22s %s", "," .. entry.name .. " " .. entry.arguments, entry.doc)
    end
    say("keys")
    for _, key in ipairs(KEYS) do
        say("  %-22s %s", key[1], key[2])
    end
    say("values\n  %-22s %s", "_  _2  _3  _err", "the last values, and the last error")
    say("  %-22s %s", "help(x), x?", "the same as ,doc x")
end)

define("doc", "NAME", "signature, text and example of a method or function", function(session, name)
    local docs = require "moonflow.repl.docs"
    local text = name == "" and docs.of_value(session, nil) or docs.of_name(session, name)
    if text then
        say("%s", text)
    else
        session:tell(("error: nothing is called %s"):format(name))
    end
end)

define("ls", "[NAME]", "the fields and methods of a value", function(session, name)
    local names = require "moonflow.repl.names"
    local fields = {}
    if name == "" then
        for key, field in next, session.env do
            fields[key] = key ~= "_G" and key ~= "help" and field or nil
        end
    else
        local value = session:lookup(name)
        if value == nil then
            return session:tell(("error: nothing is called %s"):format(name))
        end
        fields = names.fields(value)
    end
    local keys = {}
    for key in next, fields do
        keys[#keys + 1] = key:sub(1, 1) ~= "_" and key or nil
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
        local short = show.value(fields[key], { depth = 1, items = 5, text = 60, width = 60 }):match("^[^\n]*")
        say("  %-24s %-9s %s", show.text(key), type(fields[key]), type(fields[key]) == "function" and "" or short)
    end
end)

define("time", "EXPRESSION", "run it, and say how long that took", function(session, text)
    session:run(text)
    say("%.3f s", session.seconds or 0)
end)

define("target", "[URI]", "make this the target: client, get_deploy_client()", function(session, uri)
    if uri ~= "" then
        local ok, err = pcall(session.use_target, session, uri)
        if not ok then
            return session:fail(err)
        end
        session.entries[#session.entries + 1] = { text = "", target = uri }
    end
    say("%s", session.target and show.text(session.target) or "no target; ,target URI sets one")
end)

local function need_client(session)
    local client = rawget(session.env, "client")
    if type(client) ~= "table" then
        session:tell("error: no target\n  try: ,target http://localhost:5000")
    end
    return type(client) == "table" and client or nil
end

define("endpoints", "", "the endpoints of the target", function(session)
    if not need_client(session) then
        return
    end
    local ok, value, traceback, interrupted = require("moonflow.repl.session").run_task(function()
        for _, endpoint in ipairs(session.env.client:list_endpoints()) do
            local model = type(endpoint.model) == "table" and endpoint.model.name
            say("  %-28s %-20s %s", show.text(tostring(endpoint.name)),
                show.text(tostring(endpoint.endpoint_type or endpoint.task or "")), show.text(tostring(model or "")))
        end
        return true
    end)
    if not ok then
        session:fail(value, traceback, interrupted)
    end
end)

define("info", "", "what the target is, and what its last answer said", function(session)
    local client = need_client(session)
    if not client then
        return
    end
    say("%s", show.text(tostring(client)))
    local wire = package.loaded["moonflow.wire"]
    local exchange = wire and wire.last and wire.last()
    if exchange then
        local answer = exchange.answer
        say("last: %s %s", exchange.method, show.text(exchange.url))
        say("      %s", answer and ("%s %s, %.3f s"):format(answer.status, show.text(answer.reason or ""),
            answer.total or 0) or show.text(exchange.error or "no answer"))
    end
end)

define("curl", "[N]", "the last request, or the Nth before it, as a curl command", function(session, n)
    local found, wire = pcall(require, "moonflow.wire")
    local exchange = found and wire.last and wire.last(math.tointeger(tonumber(n)) or 0)
    if not exchange then
        return session:tell("error: no request was sent yet")
    end
    say("%s", wire.curl_of(exchange))
end)

define("why", "", "the last error in full", function(session)
    local text = session:why()
    say("%s", text and show.text(text) or "no error yet")
end)

define("retry", "", "run the last line that failed again", function(session)
    for i = #session.entries, 1, -1 do
        if session.entries[i].failed then
            say("%s", show.text(session.entries[i].text))
            session:run(session.entries[i].text)
            return
        end
    end
    say("nothing has failed")
end)

define("history", "[WORD]", "what was typed in this session", function(session, word)
    for i, entry in ipairs(session.entries) do
        if entry.text ~= "" and entry.text:find(word, 1, true) then
            say("%4d%s %s", i, entry.failed and "!" or " ", (show.text(entry.text):gsub("\n", "\n      ")))
        end
    end
end)

define("save", "FILE", "write this session as a script that runs", function(session, file)
    if file == "" then
        return session:tell("error: ,save needs a file")
    end
    local text, message = require("moonflow.repl.script").of(session.entries, session.first_target)
    if not text then
        return session:tell("error: this session makes no script: " .. message)
    elseif io.open(file, "r") then
        return session:tell(("error: %s exists; it is left alone"):format(file))
    end
    local out, problem = io.open(file, "w")
    local ok = out and out:write(text)
    ok = out and out:close() and ok
    if not ok then
        return session:tell("error: " .. (problem or "can not write " .. file))
    end
    say("%s: run it with  moonflow run %s", file, file)
    if text:find("<redacted>", 1, true) then
        say("it has <redacted> where a secret was; put in where that comes from, such as env.NAME")
    end
end)

define("load", "FILE", "run a Lua file with these globals", function(session, file)
    if file == "" then
        return session:tell("error: ,load needs a file")
    end
    session:load(file)
end)

define("reload", "PLUGIN", "read a plugin's file again; clients that exist keep the old one", function(session, name)
    local plugins = require "moonflow.plugins"
    if not plugins.reload then
        return session:tell("error: plugins can not be read again")
    end
    local ok, value, traceback, interrupted = require("moonflow.repl.session").run_task(function()
        plugins.reload(name)
        return true
    end)
    if not ok then
        return session:fail(value, traceback, interrupted)
    end
    if session.target and session.target:match("^[^:]*") == name then
        session:use_target(session.target)
    end
    say("%s is read again", name)
end)

local SETTINGS = { "color", "depth", "items", "text", "width" }

--- The names that `,set` knows, as Tab offers them.
---@return string[]
function commands.settings()
    local found = {}
    for i, name in ipairs(SETTINGS) do
        found[i] = name .. "="
    end
    return found
end

define("set", "[NAME=VALUE]", "how values are shown: color, depth, items, text, width", function(session, text)
    local options = require("moonflow.repl.result").options
    local name, value = text:match("^(%a+)%s*=?%s*(%S+)$")
    if text == "" then
        for _, known in ipairs(SETTINGS) do
            local current = options[known]
            say("  %-8s %s", known, tostring(current == nil and show.defaults[known] or current))
        end
    elseif name == "color" and (value == "true" or value == "false") then
        options.color = value == "true"
        session.color = options.color
    elseif name and show.defaults[name] and name ~= "color" and name ~= "total"
        and (math.tointeger(tonumber(value)) or 0) > 0 then
        options[name] = math.tointeger(tonumber(value))
    else
        session:tell("error: ,set takes color=true|false, or one of depth, items, text and width with a number")
    end
end)

define("quit", "", "leave", function()
    return "quit"
end)

--- The names of all commands.
---@return string[]
function commands.names()
    local found = {}
    for i, entry in ipairs(list) do
        found[i] = entry.name
    end
    return found
end

--- "?x" and "x?" are ",doc x".
local function as_command(text)
    local name = text:match("^%s*%?%s*(%S*)%s*$") or text:match("^%s*([%a_][%w_.:]*)%?%s*$")
    if name then
        return "doc", name
    end
    return text:match("^%s*,(%a*)%s*(.-)%s*$")
end

--- The one command that begins like this.
local function by_beginning(name)
    local found
    for _, entry in ipairs(list) do
        if name ~= "" and entry.name:sub(1, #name) == name then
            if found then
                return nil
            end
            found = entry
        end
    end
    return found
end

--- Runs a command.
---@param session table
---@param text string
---@return string? "quit" where the session is to end
function commands.run(session, text)
    local name, argument = as_command(text)
    local entry = name and (list[name] or by_beginning(name))
    if entry then
        return entry.run(session, argument)
    end
    local near = name and require("moonflow.check").nearest(name, commands.names())
    session:tell(("error: no command ,%s\n  try: %s"):format(name or "", near and "," .. near or ",help"))
end

return commands
