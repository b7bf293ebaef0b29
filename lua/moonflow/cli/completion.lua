--- Completion for shells: scripts that ask `moonflow __complete`, and what answers them. The words come
-- from moonflow.cli.commands. What can not be had at once is left out in silence.
local check = require "moonflow.check"
local commands = require "moonflow.cli.commands"
local env = require "moonflow.env"
local error = require "moonflow.error"

local completion = {}

local scripts = {}

scripts.bash = [=[
# Completion of moonflow for bash: source <(moonflow completion bash)
_moonflow_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "$1" -- "$2")
}
_moonflow() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} whole reply kept=""
    COMPREPLY=()
    whole=${line##*[[:space:]]}
    # bash takes "http://host" for several words and replaces the last of them only
    case $whole in
        *[:=]*) kept=${whole%"${whole##*[:=]}"} ;;
    esac
    [[ $COMP_WORDBREAKS == *:* && $COMP_WORDBREAKS == *=* ]] || kept=""
    while IFS= read -r reply; do
        case $reply in
            :files) _moonflow_paths -f "$word" ;;
            :directories) _moonflow_paths -d "$word" ;;
            *) COMPREPLY+=("${reply#"$kept"}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete --line "$line" 2>/dev/null)
}
complete -F _moonflow moonflow
]=]

scripts.zsh = [=[
#compdef moonflow
# Completion of moonflow for zsh: source <(moonflow completion zsh)
_moonflow() {
    local reply
    local -a found
    for reply in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $reply in
            "") ;;
            :files) _files ;;
            :directories) _files -/ ;;
            *) found+=("$reply") ;;
        esac
    done
    (( ${#found} )) && compadd -- "${found[@]}"
}
compdef _moonflow moonflow
]=]

scripts.fish = [=[
# Completion of moonflow for fish: moonflow completion fish | source
function __moonflow_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for reply in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        switch $reply
            case :files
                __fish_complete_path "$current"
            case :directories
                __fish_complete_directories "$current"
            case '*'
                echo $reply
        end
    end
end
complete -c moonflow -f -a '(__moonflow_complete)'
]=]

--- The words of a command line up to the cursor; the last one is unfinished, and may be empty.
local function split(line)
    local words, word, quote, begun = {}, {}, nil, false
    local i = 1
    while i <= #line do
        local char = line:sub(i, i)
        if quote then
            if char == quote then
                quote = nil
            else
                word[#word + 1] = char
            end
        elseif char == "'" or char == '"' then
            quote, begun = char, true
        elseif char == "\\" then
            i = i + 1
            word[#word + 1] = line:sub(i, i)
        elseif char:find("%s") then
            if begun or word[1] then
                words[#words + 1] = table.concat(word)
            end
            word, begun = {}, false
        else
            word[#word + 1] = char
        end
        i = i + 1
    end
    words[#words + 1] = table.concat(word)
    return words
end

local function targets_there_are()
    local names = {}
    for _, entry in ipairs(require("moonflow.plugins").list()) do
        local is_url = entry.name == "http" or entry.name == "https"
        if not entry.problem then
            names[#names + 1] = is_url and entry.name .. "://" or entry.name
        end
    end
    for _, name in ipairs { "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET" } do
        names[#names + 1] = env[name] ~= "" and env[name] or nil
    end
    local file = env.DATABRICKS_CONFIG_FILE or (env.HOME or "") .. "/.databrickscfg"
    for _, section in ipairs(require("moonflow.auth").ini_sections(file, true) or {}) do
        names[#names + 1] = "databricks://" .. section
    end
    return names
end

--- What to offer, by the kind of a value.
local offers = {
    target = targets_there_are,
    endpoint = function(values)
        return require("moonflow.cli.endpoint_cache").names(values.target)
    end,
    topic = function()
        return require("moonflow.cli.help").names()
    end,
    shell = function()
        return check.sorted_keys(scripts)
    end,
    file = function()
        return { ":files" }
    end,
    directory = function()
        return { ":directories" }
    end,
}

local function values_of(described, values)
    if described.choices then
        return described.choices
    end
    local offer = offers[described.complete]
    return offer and offer(values) or {}
end

local function named(list, word)
    for _, command in ipairs(list or {}) do
        if command.name == word then
            return command
        end
    end
end

local function find_option(command, word)
    for _, list in ipairs { command.options or {}, commands.globals } do
        for _, option in ipairs(list) do
            for _, name in ipairs(option.names) do
                if name == word then
                    return option
                end
            end
        end
    end
end

--- What the finished words say: the command, the option that waits for its value, how many arguments
-- there are, and values by key.
local function read(words)
    local command, waiting, count, values = { commands = commands.list }, nil, 0, {}
    for i = 1, #words - 1 do
        local word = words[i]
        local name, value = word:match("^(%-%-[^=]+)=(.*)$")
        local option = word:find("^%-") and find_option(command, name or word)
        if waiting then
            values[waiting.key], waiting = word, nil
        elseif option and value then
            values[option.key] = value
        elseif option then
            waiting = option.metavar and option or nil
        elseif named(command.commands, word) then
            command = named(command.commands, word)
        else
            count = count + 1
        end
    end
    return command, waiting, count, values
end

local function add_options(into, command)
    for _, list in ipairs { command.options or {}, commands.globals } do
        for _, option in ipairs(list) do
            table.move(option.names, 1, #option.names, #into + 1, into)
        end
    end
end

--- The description of the argument at a place; the last one may be there many times.
local function argument_at(command, place)
    local list = command.arguments or {}
    return list[place] or list[#list] and list[#list].many and list[#list] or nil
end

--- All that could stand where the cursor is.
---@async
---@param words string[] the last one unfinished
---@return string[]
function completion.candidates(words)
    local command, waiting, count, values = read(words)
    local current = words[#words] or ""
    local name = current:match("^(%-%-[^=]+)=")
    local option = name and find_option(command, name)
    local found = {}
    if waiting then
        found = values_of(waiting, values)
    elseif option then
        for i, value in ipairs(values_of(option, values)) do
            found[i] = value:sub(1, 1) == ":" and value or name .. "=" .. value
        end
    elseif current:sub(1, 1) == "-" then
        add_options(found, command)
    elseif command.commands then
        for _, below in ipairs(command.commands) do
            found[#found + 1] = not below.hidden and below.name or nil
        end
        if command.commands == commands.list then
            found[#found + 1] = current ~= "" and ":files" or nil -- a script
        end
    else
        local argument = argument_at(command, count + 1)
        found = argument and values_of(argument, values) or {}
    end
    return found
end

--- Whether a candidate can be printed on a line of its own, and taken from there.
local function is_plain(candidate)
    return not candidate:find("[%c\127]") and utf8.len(candidate) ~= nil
end

--- The hidden command: prints what could follow, a line each, and nothing where that can not be found.
-- A line that begins with ":" says that the shell has to look itself: ":files", ":directories".
---@async
---@param given string[]|table the words behind the program's name, or "--line" and the whole line
function completion.complete(given)
    local words = given.words or given
    if words[1] == "--line" then
        words = split(words[2] or "")
        table.remove(words, 1)
    end
    local ok, found = pcall(completion.candidates, words)
    local current, seen, lines = words[#words] or "", {}, {}
    for _, candidate in ipairs(ok and found or {}) do
        local is_directive = candidate:sub(1, 1) == ":"
        if not seen[candidate] and is_plain(candidate) and (is_directive or candidate:sub(1, #current) == current) then
            seen[candidate] = true
            lines[#lines + 1] = candidate
        end
    end
    if lines[1] then
        print(table.concat(lines, "\n"))
    end
    io.stdout:flush()
    os.exit(true) -- what is still asked for does not matter any more
end

--- The command: prints the script for a shell.
---@param arguments table shell
function completion.run(arguments)
    io.write(scripts[arguments.shell] or error.raise {
        kind = "usage",
        message = ("there is no completion for %s"):format(check.show(arguments.shell)),
        hint = "bash, zsh or fish",
    })
end

return completion
