--- What Tab offers: globals, fields, methods, keywords, arguments of a client's methods, targets,
-- modules and the names of endpoints inside strings. It runs nobody's code and never waits for long.
local endpoints = require "moonflow.repl.endpoints"
local names = require "moonflow.repl.names"

local complete = {}

local LIST_MAX = 200 -- of candidates that are shown

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
    KEYWORDS[#KEYWORDS + 1] = word
end

--- The quote that is open at the end of a text, and where; also nil inside a comment, with true.
---@return integer? position
---@return boolean? in_comment
local function open_quote(text)
    local at = 1
    while at <= #text do
        local first = text:find("[\"'%-%[]", at)
        if not first then
            return nil
        end
        local long = text:match("^%-?%-?%[(=*)%[", first)
        local char = text:sub(first, first)
        if long and (char == "[" or text:sub(first, first + 1) == "--") then
            local _, close = text:find("]" .. long .. "]", first, true)
            if not close then
                return nil, true
            end
            at = close + 1
        elseif text:sub(first, first + 1) == "--" then
            local close = text:find("\n", first, true)
            if not close then
                return nil, true
            end
            at = close + 1
        elseif char == "\"" or char == "'" then
            local close = first
            repeat
                close = text:find("[\\\n" .. char .. "]", close + 1)
                if close and text:sub(close, close) == "\\" then
                    close = close + 1
                end
            until not close or text:sub(close, close) == char and text:sub(close - 1, close - 1) ~= "\\"
                or text:sub(close, close) == "\n"
            if not close then
                return first
            end
            at = close + 1
        else
            at = first + 1
        end
    end
end

--- The names of all targets that can be named, with what they are written like.
local function targets()
    local found = { "http://localhost:5000" }
    local ok, list = pcall(function()
        return require("moonflow.deployments").list_targets()
    end)
    for _, entry in ipairs(ok and list or {}) do
        if not entry.problem and entry.name ~= "http" and entry.name ~= "https" then
            found[#found + 1] = entry.builtin and entry.name or entry.name .. ":"
        end
    end
    return found
end

local function modules()
    local found = {}
    for name in next, package.loaded do
        if type(name) == "string" and not name:find("%._") then
            found[#found + 1] = name
        end
    end
    for name in ("auth base64 chat client deployments env error http json server sys task url"):gmatch("%w+") do
        if not package.loaded["moonflow." .. name] then
            found[#found + 1] = "moonflow." .. name
        end
    end
    return found
end

--- The client whose method's arguments a text ends in, and the method's name.
local function call_at_end(session, text)
    text = text:gsub("%b{}", "")
    local path, method = text:match("([%a_][%w_.]*):([%a_][%w_]*)%s*%(?%s*{[^{}]*$")
    if not path then
        path, method = text:match("([%a_][%w_.]*):([%a_][%w_]*)%s*%(?[^(){}]*$")
    end
    if path then
        return session:lookup(path), method
    end
end

--- What may stand in a string behind this text.
local function in_string(session, text)
    if text:find("get_deploy_client%s*%(?%s*$") or text:find("set_deployments_target%s*%(?%s*$")
        or text:find("target_help%s*%(?%s*$") then
        return targets()
    elseif text:find("%f[%w_]require%s*%(?%s*$") then
        return modules()
    elseif text:find("%f[%w_]endpoint%s*=%s*$") or text:find("_endpoint[%w_]*%s*[({]+%s*$")
        or text:find("[%w_]*endpoint%s*%(?%s*$") then
        return endpoints.of((call_at_end(session, text)))
    end
    return {}
end

--- The arguments of the method whose table is open, where a name may stand.
local function argument_names(session, text)
    if not text:find("[{,]%s*[%w_]*$") then
        return {}
    end
    local client, method = call_at_end(session, text)
    if not client or not text:find("{[^{}]*$") then
        return {}
    end
    local signatures = names.field(client, "signatures")
    local signature = type(signatures) == "table" and rawget(signatures, method)
    local found = {}
    for _, param in ipairs(type(signature) == "table" and signature.params or {}) do
        found[#found + 1] = param.name .. " = "
    end
    return found
end

--- Names behind a path: "client:", "task.", or nothing.
local function fields_of(session, path, separator)
    local found = {}
    if path == "" then
        for name in next, session:known_names() do
            found[#found + 1] = name
        end
        table.move(KEYWORDS, 1, #KEYWORDS, #found + 1, found)
        return found
    end
    local value = session:lookup(path)
    if value == nil then
        return found
    end
    for name, field in next, names.fields(value) do
        if name:find("^[%a_][%w_]*$") and (separator == "." or type(field) == "function") then
            found[#found + 1] = name
        end
    end
    return found
end

local function files(prefix)
    local dir, found = prefix:match("^(.*/)") or "", {}
    for _, name in ipairs(require("moonflow.sys").list_dir(dir == "" and "." or dir) or {}) do
        found[#found + 1] = dir .. name
    end
    return found
end

--- The arguments of a command with a comma.
local function command_arguments(session, command, word)
    if command == "target" then
        return targets(), word
    elseif command == "load" or command == "save" then
        return files(word), word
    elseif command == "set" then
        return require("moonflow.repl.commands").settings(), word
    elseif command == "reload" then
        local found = {}
        for _, entry in ipairs(require("moonflow.plugins").list()) do
            found[#found + 1] = not entry.builtin and entry.name or nil
        end
        return found, word
    end
    local path, separator, name = word:match("^(.-)([.:]?)([%w_]*)$")
    return fields_of(session, path, separator), name
end

--- The candidates for a text, and the word at its end that they replace.
---@param session table
---@param text string what stands before the cursor
---@return string[] candidates
---@return string word
---@return string? quote that is open
function complete.candidates(session, text)
    local command, argument = text:match("^%s*,(%a+)%s+(.*)$")
    if command then
        return command_arguments(session, command, argument:match("%S*$"))
    elseif text:find("^%s*,%a*$") then
        return require("moonflow.repl.commands").names(), text:match(",(%a*)$")
    end
    local quote, in_comment = open_quote(text)
    if in_comment then
        return {}, ""
    elseif quote then
        return in_string(session, text:sub(1, quote - 1)), text:sub(quote + 1), text:sub(quote, quote)
    end
    text = text:match("^.*%.%.%s*([%w_].*)$") or text -- behind a ".." begins a new name
    local path, separator, word = text:match("([%a_][%w_.:]*)([.:])([%w_]*)$")
    if not path then
        word = text:match("[%a_][%w_]*$") or ""
        if text:find("[.:]%s*[%w_]*$") then
            return {}, "" -- a field of what only code could tell
        end
        local arguments = argument_names(session, text)
        if #arguments > 0 then
            return arguments, word
        elseif text:find("%d%w*$") and word == "" then
            return {}, ""
        end
    end
    return fields_of(session, path or "", separator), word
end

local function begins(name, word)
    return name:sub(1, #word) == word and (word ~= "" or name:sub(1, 1) ~= "_")
end

--- The candidates that begin with the word, sorted, each once.
local function matching(candidates, word)
    local found, seen = {}, {}
    for _, name in ipairs(candidates) do
        if begins(name, word) and not seen[name] then
            seen[name] = true
            found[#found + 1] = name
        end
    end
    table.sort(found)
    return found
end

--- What all names have in common at their beginning.
local function common(found)
    local prefix = found[1]
    for i = 2, #found do
        local n = 0
        while n < #prefix and prefix:byte(n + 1) == found[i]:byte(n + 1) do
            n = n + 1
        end
        prefix = prefix:sub(1, n)
    end
    while #prefix > 0 and not utf8.len(prefix) do
        prefix = prefix:sub(1, -2)
    end
    return prefix
end

--- Names in columns.
local function columns(found, width)
    local show = require "moonflow.show"
    local widest, cells = 0, {}
    for i = 1, math.min(#found, LIST_MAX) do
        cells[i] = show.text(found[i]):gsub("[\n\t]", " ")
        widest = math.max(widest, utf8.len(cells[i]) or #cells[i])
    end
    local count = math.max(1, (width - 1) // (widest + 2))
    local rows = (#cells + count - 1) // count
    local lines = {}
    for row = 1, rows do
        local line = {}
        for column = 0, count - 1 do
            local cell = cells[row + column * rows]
            if cell then
                line[#line + 1] = cell .. (" "):rep(widest - (utf8.len(cell) or #cell))
            end
        end
        lines[row] = table.concat(line, "  "):gsub("%s+$", "")
    end
    if #found > LIST_MAX then
        lines[#lines + 1] = ("... %d more"):format(#found - LIST_MAX)
    end
    return table.concat(lines, "\r\n")
end

--- For the editor: what to do at a Tab.
---@param session table
---@param text string the whole text
---@param cursor integer bytes before the cursor
---@return integer? delete characters before the cursor
---@return string? insert
---@return string? list to be shown
function complete.at(session, text, cursor)
    local before = text:sub(1, cursor)
    if before:find("^[ \t]*$") or before:find("\n[ \t]*$") then
        return 0, "    "
    end
    local candidates, word, quote = complete.candidates(session, before)
    local found = matching(candidates, word)
    if #found == 0 then
        return nil
    end
    local insert = common(found)
    if #found == 1 and quote and text:sub(cursor + 1, cursor + 1) ~= quote and not insert:find("[:/]$") then
        insert = insert .. quote
    end
    if insert ~= word and #insert > #word then
        -- Names come from servers: what a terminal would obey is not put into the line.
        if insert:find("[%c\127]") or not utf8.len(insert) then
            return nil
        end
        return utf8.len(word) or #word, insert
    end
    return nil, nil, columns(found, require("moonflow._line").width())
end

complete.matching = matching

return complete
