--- Backends by the names of targets: those that are built in, and Lua files in plugin directories.
-- A plugin is one table of declared fields, the same whether C pushes it or a file returns it.
-- Plugins are code that the user trusts: what is kept apart here is accidents, not attackers.
local check = require "moonflow.check"
local client = require "moonflow.client"
local config = require "moonflow.config"
local env = require "moonflow.env"
local error = require "moonflow.error"
local sys = require "moonflow.sys"

local plugins = {}

local FILE_MAX = 1024 * 1024 -- bytes of a plugin's file
local LOAD_SECONDS = 2       -- CPU time that loading may take
local HOOK_INSTRUCTIONS = 100000 -- after which the time is looked at
local NAME_MAX = 32
local OTHERS_MAY_WRITE = 0x2 -- the permission bit

--- Built-in backends: the module of each.
local builtin = {
    databricks = "moonflow.backend.databricks",
    http = "moonflow.backend.mlflow",
    https = "moonflow.backend.mlflow",
    openai = "moonflow.backend.openai",
}

--- The fields of a plugin's table.
---@type moonflow.Param[]
local fields = check.index {
    { name = "api", type = "count", required = true, doc = "1, the version of this table's form" },
    { name = "name", type = "string", required = true, doc = "the file's name: the target's scheme" },
    { name = "client", type = "table", required = true, doc = "a class: BaseDeploymentClient:extend{...}" },
    { name = "description", type = "string", doc = "one line about the target" },
    { name = "target_help", type = "string or function", doc = "how its targets are written" },
    { name = "run_local", type = "function", doc = "function(args): serves a model on this machine" },
}

-- What plugins find as globals besides the libraries; each gets copies of these tables, so that
-- `function string.trim()` in one is nobody else's.
local BASE = {
    "_VERSION", "assert", "collectgarbage", "dofile", "error", "getmetatable", "ipairs", "load", "loadfile", "next",
    "pairs", "pcall", "print", "rawequal", "rawget", "rawlen", "rawset", "select", "setmetatable", "tonumber",
    "tostring", "type", "warn", "xpcall",
}
local LIBRARIES = { "coroutine", "debug", "io", "math", "os", "package", "string", "table", "utf8" }

local loaded = {}

local function is_name(name)
    return #name <= NAME_MAX and name:find("^[a-z][a-z0-9_+.-]*$") ~= nil
end

local function fail(file, message, hint)
    error.raise { kind = "plugin", message = ("plugin %s %s"):format(file, message), hint = hint }
end

--- What the program knows about directories. Where a stock lua runs us, the shipped plugins are beside
-- our own files.
local function host()
    local found, module = pcall(require, "moonflow.host")
    if found then
        return module
    end
    local share = debug.getinfo(1, "S").source:match("^@(.+)/lua/moonflow/[^/]+$")
    return { plugin_dirs = {}, installed_plugins = share and share .. "/plugins" }
end

--- The directories that are searched, in order. Never the working directory by itself.
---@return string[]
function plugins.search_path()
    local dirs, seen = {}, {}
    local function add(dir)
        dir = #dir > 1 and dir:gsub("/+$", "") or dir
        if not seen[dir] then
            seen[dir] = true
            dirs[#dirs + 1] = dir
        end
    end
    for _, dir in ipairs(host().plugin_dirs) do
        add(dir)
    end
    for dir in (config.get("MOONFLOW_PLUGIN_PATH") or ""):gmatch("[^:]+") do
        if dir:sub(1, 1) ~= "/" then
            error.raise {
                kind = "config",
                message = ("environment variable MOONFLOW_PLUGIN_PATH must name absolute directories, got %s"):format(
                    check.show(dir)),
            }
        end
        add(dir)
    end
    local data = env.XDG_DATA_HOME
    if not data or data:sub(1, 1) ~= "/" then -- as its specification says
        data = env.HOME and env.HOME .. "/.local/share"
    end
    if data then
        add(data .. "/moonflow/plugins")
    end
    if host().installed_plugins then
        add(host().installed_plugins)
    end
    return dirs
end

local function is_file(path)
    local status = sys.stat(path)
    return status ~= nil and status.type == "file"
end

--- The files that a plugin of this name could be.
local function files_of(name)
    local files = {}
    for _, dir in ipairs(plugins.search_path()) do
        for _, form in ipairs { "%s/%s.lua", "%s/%s/init.lua" } do
            local file = form:format(dir, name)
            if is_file(file) then
                files[#files + 1] = file
            end
        end
    end
    return files
end

--- Whether two paths hold the same text, such as one file that is reached by two ways.
local function is_same(file, other)
    local text = sys.read_file(file, FILE_MAX)
    return text ~= nil and text == sys.read_file(other, FILE_MAX)
end

--- Raises where a plugin directory has an entry of this name that is no file.
local function refuse_entry(name)
    for _, dir in ipairs(plugins.search_path()) do
        for _, entry in ipairs(sys.list_dir(dir) or {}) do
            if entry == name .. ".lua" then
                local status = sys.stat(dir .. "/" .. entry)
                fail(dir .. "/" .. entry, status and "is a " .. status.type .. ", not a file" or "can not be read")
            end
        end
    end
end

--- The file of a plugin, or nil. Raises where there is another of the same name.
---@param name string
---@return string?
function plugins.find(name)
    local files = is_name(name) and files_of(name) or {}
    for i = #files, 2, -1 do
        if is_same(files[1], files[i]) then
            table.remove(files, i)
        end
    end
    if #files > 1 then
        error.raise {
            kind = "config",
            message = ("two plugins have the name %q\n%s"):format(name, table.concat(files, "\n")),
            hint = "remove or rename one of them",
        }
    end
    return files[1] or refuse_entry(name)
end

local function read_source(file)
    local status = sys.stat(file)
    if status and status.mode & OTHERS_MAY_WRITE ~= 0 then
        fail(file, "may be written by every user of this machine", "chmod o-w " .. file)
    end
    local source, err = sys.read_file(file, FILE_MAX)
    if not source then
        fail(file, "can not be read\n" .. err.message)
    end
    return (source:gsub("^\xEF\xBB\xBF", ""):gsub("^#[^\n]*", ""))
end

local function compile(file, environment)
    local chunk, message = load(read_source(file), "@" .. file, "t", environment)
    if not chunk then
        fail(file, "can not be loaded\n" .. message)
    end
    return chunk
end

--- When loading began, by the processor's clock; nil while nothing is loaded.
local load_start

--- The hook of what runs while a plugin is loaded: stops a loop without end.
local function watch()
    if not load_start then
        debug.sethook()
    elseif os.clock() - load_start > LOAD_SECONDS then
        debug.sethook(watch, "", 1) -- again at once, where a pcall in the loop catches this
        _G.error(("does not end: stopped after %d s"):format(LOAD_SECONDS), 0)
    end
end

--- The function, watched where it becomes a coroutine while a plugin is loaded.
local function watched(fn)
    if not load_start or type(fn) ~= "function" then
        return fn
    end
    return function(...)
        debug.sethook(watch, "", HOOK_INSTRUCTIONS)
        return fn(...)
    end
end

--- Runs a plugin's file in a coroutine of its own.
local function run(file, chunk, ...)
    local before = load_start
    load_start = before or os.clock()
    local thread = coroutine.create(watched(chunk))
    local ok, result = coroutine.resume(thread, ...)
    load_start = before
    debug.sethook(thread)
    if coroutine.status(thread) ~= "dead" then
        coroutine.close(thread)
        fail(file, "yields while it is loaded")
    elseif ok then
        return result
    elseif error.is(result) and result.kind ~= "usage" then
        error.raise(result)
    end
    return fail(file, "can not be loaded\n" .. error.format(result):gsub("^error: ", ""))
end

--- The globals of a plugin.
local function new_environment(name, file)
    local environment = {}
    for _, global in ipairs(BASE) do
        environment[global] = _G[global]
    end
    for _, library in ipairs(LIBRARIES) do
        local copy = {}
        for key, value in next, _G[library] do
            copy[key] = value
        end
        environment[library] = copy
    end
    environment._G = environment
    local create, wrap = coroutine.create, coroutine.wrap
    function environment.coroutine.create(fn)
        return create(watched(fn))
    end
    function environment.coroutine.wrap(fn)
        return wrap(watched(fn))
    end

    local dir, own = file:match("^(.*)/init%.lua$"), {}
    local own_part = "^" .. name:gsub("%p", "%%%0") .. "%.([%w_.]+)$"
    --- As Lua's, with two exceptions: each plugin has its own cjson, as its settings would else be
    -- everybody's, and a plugin `name/init.lua` finds its other files as "name.x".
    function environment.require(module)
        if own[module] == nil then
            local part = dir and type(module) == "string" and module:match(own_part)
            if module == "cjson" or module == "cjson.safe" then
                own[module] = require(module).new()
            elseif part then
                local part_file = ("%s/%s.lua"):format(dir, part:gsub("%.", "/"))
                local value = run(part_file, compile(part_file, environment), module)
                own[module] = value == nil and true or value
            else
                return require(module)
            end
        end
        return own[module]
    end
    return environment
end

--- Checks the table that a plugin returned. Raises with the file and the field.
local function check_backend(backend, file)
    if type(backend) ~= "table" then
        fail(file, ("must return a table, returned %s"):format(check.show(backend)))
    end
    for name, value in next, backend do
        local field = fields[name]
        if not field then
            fail(file, ("has an unknown field %s"):format(check.show(name)), check.hint(name, check.names_of(fields)))
        elseif not check.types[field.type].test(value) then
            fail(file, ("has a field %q that must be %s, got %s"):format(name, check.types[field.type].doc,
                check.show(value)))
        end
    end
    for _, field in ipairs(fields) do
        if field.required and backend[field.name] == nil then
            fail(file, ("lacks the field %q: %s"):format(field.name, field.doc))
        end
    end
    if backend.api ~= 1 then
        fail(file, ("has api = %d, this moonflow knows api = 1"):format(backend.api))
    elseif not client.is_class(backend.client) then
        fail(file, "has a field \"client\" that is no class",
            "make it with require(\"moonflow.client\").BaseDeploymentClient:extend{ ... }")
    end
    return backend
end

local function load_builtin(name)
    local backend = check_backend(require(builtin[name]), "(built in) " .. name)
    backend.client.plugin = false
    return backend
end

local function load_file(name, file)
    local chunk = compile(file, new_environment(name, file))
    local backend = check_backend(run(file, chunk, name, file), file)
    if backend.name ~= name then
        fail(file, ("has name = %s, which must be the file's name, %q"):format(check.show(backend.name), name))
    end
    if rawget(backend.client, "plugin") == nil then
        backend.client.plugin = { name = name, file = file }
    end
    return backend
end

--- The backend of a name: built in, or loaded from a plugin's file the first time. nil where there is
-- none. Raises where it is broken.
---@param name string
---@return table?
function plugins.get(name)
    if not loaded[name] then
        if builtin[name] then
            loaded[name] = load_builtin(name)
        else
            local file = plugins.find(name)
            loaded[name] = file and load_file(name, file)
        end
    end
    return loaded[name] or nil
end

--- Reads a plugin's file again. Clients that exist keep what they are; where the file is broken now, the
-- old one stays and an error is raised.
---@param name string
function plugins.reload(name)
    local file = not builtin[name] and plugins.find(name)
    if not file then
        error.raise {
            kind = "config",
            message = ("no plugin %s: only plugins can be read again"):format(check.show(name)),
        }
    end
    loaded[name] = load_file(name, file)
end

--- The name of the plugin that an entry of a plugin directory is, or nil, and its file.
local function name_of(dir, entry)
    local path = dir .. "/" .. entry
    local name = entry:match("^(.+)%.lua$")
    if name and is_file(path) then
        return name, path
    elseif is_file(path .. "/init.lua") then
        return entry, path .. "/init.lua"
    end
end

local function problem_of(name, file, known)
    if builtin[name] then
        return "a built-in target can not be replaced"
    elseif not is_name(name) then
        return "not a name for a target: small letters, digits and _ + . -, at most " .. NAME_MAX
    elseif known[name] and not is_same(known[name], file) then
        return "another plugin has this name: " .. known[name]
    end
end

--- All backends there are, without loading any: built-in ones, then plugins in the order in which
-- they are searched.
---@return table list of {name, builtin} and {name, file, problem?}
function plugins.list()
    local list, known = {}, {}
    for name in next, builtin do
        list[#list + 1] = { name = name, builtin = true }
    end
    table.sort(list, function(a, b)
        return a.name < b.name
    end)
    for _, dir in ipairs(plugins.search_path()) do
        for _, entry in ipairs(sys.list_dir(dir) or {}) do
            local name, file = name_of(dir, entry)
            if name and name:sub(1, 1) ~= "." then
                local problem = problem_of(name, file, known)
                if problem or not known[name] then
                    list[#list + 1] = { name = name, file = file, problem = problem }
                end
                known[name] = known[name] or file
            end
        end
    end
    return list
end

return plugins
