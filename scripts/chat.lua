#!/usr/bin/env moonflow
-- A conversation with a model. The answer comes as it is written; Ctrl-C stops it and keeps the
-- conversation, Ctrl-D leaves. Answers go to standard output, all else to standard error.
--
--     moonflow scripts/chat.lua [TARGET [ENDPOINT]]
--     moonflow scripts/chat.lua openai:http://localhost:11434/v1 llama3.2
--     moonflow scripts/chat.lua http://localhost:5000 chat
local chat = require "moonflow.chat"
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"
local error = require "moonflow.error"
local sys = require "moonflow.sys"
local task = require "moonflow.task"
local text = require "moonflow.text"

local target, endpoint = arg[1] or "openai", arg[2] or "gpt-4o-mini"
local is_terminal, to_terminal = sys.isatty(0), sys.isatty(1)
local has_colours = sys.isatty(2) and not env.NO_COLOR and env.TERM ~= "dumb"
local client = deployments.get_deploy_client(target)
local messages = {}

local function note(line)
    io.stderr:write(has_colours and "\27[2m" or "", line, has_colours and "\27[0m" or "", "\n")
end

--- A model's words could hold commands for the terminal.
local function write(piece)
    io.write(to_terminal and text.clean(piece, #piece) or piece)
    io.flush()
end

--- Asks for an answer to the conversation and writes it as it comes.
local function answer(written, times)
    local inputs = { messages = messages }
    if target:find("^openai") then
        inputs.stream_options = { include_usage = true } -- else no stream of OpenAI's tells its tokens
    end
    local usage
    for chunk in client:predict_stream { endpoint = endpoint, inputs = inputs } do
        local piece = chat.text(chunk)
        if piece ~= "" then
            times.first = times.first or sys.monotonic()
            written[#written + 1] = piece
            write(piece)
        end
        usage = type(chunk.usage) == "table" and chunk.usage or usage
    end
    return usage
end

local function summary(usage, times, finished)
    local parts = {}
    if usage and math.type(usage.prompt_tokens) == "integer" and math.type(usage.completion_tokens) == "integer" then
        parts[1] = ("%d + %d tokens"):format(usage.prompt_tokens, usage.completion_tokens)
    end
    if times.first then
        parts[#parts + 1] = ("first after %.2f s"):format(times.first - times.start)
    end
    parts[#parts + 1] = ("%.2f s in all"):format(sys.monotonic() - times.start)
    if not finished then
        parts[#parts + 1] = "stopped"
    end
    return table.concat(parts, ", ")
end

--- One question and its answer. An error is told; without a person at the terminal it ends the script.
local function turn(question)
    messages[#messages + 1] = { role = "user", content = question }
    local written, times = {}, { start = sys.monotonic() }
    local ok, finished, usage = pcall(task.interruptible, answer, written, times)
    if written[1] then
        write("\n")
        messages[#messages + 1] = { role = "assistant", content = table.concat(written) }
    else
        messages[#messages] = nil -- nothing was said to it
    end
    if ok then
        note(summary(usage, times, finished))
    elseif is_terminal and error.is(finished) then
        io.stderr:write(error.format(finished), "\n")
    else
        _G.error(finished, 0)
    end
end

if is_terminal then
    note(("%s on %s. Ctrl-C stops an answer, Ctrl-D leaves."):format(endpoint, tostring(client)))
end
while true do
    if is_terminal then
        io.stderr:write("> ")
    end
    local line = task.read_line()
    if line and line:find("%S") then
        turn(line)
    elseif line == nil then
        break
    elseif line == false then
        io.stderr:write("\n")
    end
end
if is_terminal then
    io.stderr:write("\n")
end
