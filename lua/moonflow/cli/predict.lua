--- The commands predict and explain: what is sent, and how answers and their parts are shown.
local chat = require "moonflow.chat"
local client = require "moonflow.cli.client"
local error = require "moonflow.error"
local input = require "moonflow.cli.input"
local output = require "moonflow.cli.output"
local sys = require "moonflow.sys"
local text = require "moonflow.text"

local predict = {}

local NAME_MAX = 80 -- bytes of a model's name

local function check_name(values)
    if (values.name == nil) == (values.endpoint == nil) then
        error.raise {
            kind = "usage",
            message = "Must specify exactly one of --name or --endpoint.",
            hint = "--endpoint NAME",
        }
    end
end

--- What was used and how long it took, for people, behind a text on a terminal.
local function say_cost(out, answer, started)
    if not (out.is_terminal and output.is_watched()) or type(answer) ~= "table" then
        return
    end
    local parts = {}
    if type(answer.model) == "string" then
        parts[1] = text.one_line(answer.model, NAME_MAX)
    end
    local tokens = type(answer.usage) == "table" and math.tointeger(answer.usage.total_tokens)
    if tokens then
        parts[#parts + 1] = ("%d tokens"):format(tokens)
    end
    parts[#parts + 1] = ("%.1f s"):format(sys.monotonic() - started)
    out:say(table.concat(parts, ", "))
end

--- Whether answers are shown as their text.
local function wants_text(values, out)
    return values.text or out.is_terminal and not values.output and not values.query
end

--- Shows a whole answer: as its text where it has one.
local function show(values, out, answer, started)
    local said = wants_text(values, out) and chat.text(answer) or ""
    if said ~= "" then
        out:text(said)
        say_cost(out, answer, started)
    elseif values.text then
        error.raise { kind = "usage", message = "the answer has no text", hint = "without --text it is shown as it is" }
    else
        out:result(answer)
    end
end

--- Shows the text of a stream as it comes. Parts of another form are lines of JSON.
local function stream_text(out, ...)
    local collected, at_start = chat.collector(), true
    for part in ... do
        local said = chat.text(part)
        if type(part) ~= "table" then
            said = tostring(part) .. "\n"
        else
            collected:add(part)
        end
        if said ~= "" then
            at_start = said:sub(-1) == "\n"
            if not out:write(out.is_terminal and text.clean(said, #said) or said) then
                return nil
            end
            io.stdout:flush()
        end
    end
    if not at_start then
        out:write("\n")
    end
    return collected:result()
end

--- Prints each part of a stream: a line of JSON, or what the query makes of it.
local function stream_lines(out, ...)
    for part in ... do
        local value = part
        if out.query then
            value = out.query(part)
        end
        local is_text = out.query and type(value) == "string"
        if not out:text(is_text and value or output.encode(value)) then
            return
        end
        io.stdout:flush()
    end
end

--- The command predict.
---@async
function predict.predict(values)
    check_name(values)
    local out <close> = output.open(values)
    local opened = client.open(values)
    local arguments = { deployment_name = values.name, endpoint = values.endpoint, inputs = input.read(opened, values) }
    local started = sys.monotonic()
    if values.stream then
        if wants_text(values, out) then
            say_cost(out, stream_text(out, opened:predict_stream(arguments)), started)
        else
            stream_lines(out, opened:predict_stream(arguments))
        end
    else
        show(values, out, opened:predict(arguments), started)
    end
    out:finish()
end

--- The command explain.
---@async
function predict.explain(values)
    check_name(values)
    local out <close> = output.open(values)
    local opened = client.open(values)
    local df = input.read(opened, values)
    out:result(opened:explain { deployment_name = values.name, endpoint = values.endpoint, df = df })
    out:finish()
end

return predict
