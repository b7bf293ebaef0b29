--- What predict and explain send: JSON of a file or of standard input, or a text in the form that the
-- endpoint takes.
local check = require "moonflow.check"
local error = require "moonflow.error"
local json = require "moonflow.json"
local notice = require "moonflow.notice"
local sys = require "moonflow.sys"

local input = {}

local INPUT_MAX = 256 * 1024 * 1024 -- bytes
local STDIN = 0

local function misuse(message, hint)
    error.raise { kind = "usage", message = message, hint = hint }
end

local function read_stdin()
    if sys.isatty(STDIN) then
        notice.write("reading JSON from the terminal; end with Ctrl-D")
    end
    local source, message = io.read(INPUT_MAX + 1)
    if not source and message then
        misuse("standard input can not be read\n" .. message)
    elseif source and #source > INPUT_MAX then
        misuse(("standard input has more than %d MiB"):format(INPUT_MAX // 1024 // 1024))
    end
    return source or ""
end

local function read_file(path)
    local source, err = sys.read_file(path, INPUT_MAX)
    if not source then
        misuse(("--input-path %s can not be read\n%s"):format(path, err.message))
    end
    return source
end

local function read(path)
    local source = path == "-" and read_stdin() or read_file(path)
    local value, err = json.decode(source)
    if err then
        misuse(("--input-path %s is no JSON\n%s"):format(path, err.message))
    end
    return value
end

-- The inputs that a text becomes, by the end of an endpoint's type: llm/v1/chat, agent/v1/chat, ...
local FORMS = {
    chat = function(given)
        return { messages = json.array { { role = "user", content = given } } }
    end,
    completions = function(given)
        return { prompt = given }
    end,
    embeddings = function(given)
        return { input = given }
    end,
    responses = function(given)
        return { input = json.array { { role = "user", content = given } } }
    end,
}

--- The type of an endpoint, where the target tells.
local function type_of(client, endpoint)
    if not client.implemented.get_endpoint then
        return nil
    end
    local found = client:get_endpoint { endpoint = endpoint }
    local kind = found.endpoint_type or found.task
    if type(kind) ~= "string" or kind == "" then
        -- what serves a configuration and has no type is a model of the user's own
        return (found.config or found.pending_config) and "custom model" or nil
    end
    return kind
end

--- Models whose target does not tell are chat models, but for those whose names say else.
local function guess(endpoint)
    return endpoint and endpoint:lower():find("embed", 1, true) and "embeddings" or "chat"
end

local function form_of(client, values)
    local sends_nothing = values.curl or values.dry_run
    local kind = values.endpoint and not sends_nothing and type_of(client, values.endpoint)
    if not kind then
        return FORMS[guess(values.endpoint)]
    end
    return FORMS[kind:match("[^/]*$")] or misuse(
        ("the endpoint %s is of type %s, which takes more than a text"):format(check.show(values.endpoint),
            check.show(kind)), "--input-path FILE, or - for standard input")
end

--- The inputs that a command's values say.
---@async
---@param client table
---@param values table
---@return any
function input.read(client, values)
    if values.input_path and values.text_input then
        misuse("give either a text or --input-path")
    elseif values.input_path then
        return read(values.input_path)
    elseif values.text_input then
        return form_of(client, values)(values.text_input)
    end
    return misuse("there is nothing to send", "--input-path FILE, - for standard input, or a text")
end

return input
