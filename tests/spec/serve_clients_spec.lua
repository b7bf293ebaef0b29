--- `moonflow serve` through other people's clients: Python's mlflow.deployments, the openai package and
-- requests. What they get is compared with what they get of MLflow's own gateway that has the same endpoints
-- and the same model server behind it.
local json = require "moonflow.json"
local DIFFERENT = require "support.serve_differences"
local process = require "support.process"
local serve_clients = require "support.serve_clients"
local skip = require "support.skip"

local root = arg[0]:match("^(.*)/tests/[^/]*$") or "."
local GATEWAY = root .. "/tests/gateway/"

--- The server under test, with the endpoints of a file of tests/gateway.
local function serve(name)
    return serve_clients.start(GATEWAY .. name, {
        MOONFLOW_TEST_UPSTREAM = skip.unless_env "MOONFLOW_TEST_UPSTREAM",
        MOONFLOW_TEST_AIMOCK = os.getenv "MOONFLOW_TEST_AIMOCK" or "http://127.0.0.1:1/v1",
    })
end

local function matches_any(text, patterns)
    for _, pattern in ipairs(patterns) do
        if text:match("^" .. pattern .. "$") then
            return true
        end
    end
    return false
end

--- Whether a path is one of the fields of a row, or below one.
local function is_field(path, fields)
    for _, field in ipairs(fields) do
        if path == field or field:sub(-1) == "." and (path .. "."):sub(1, #field) == field then
            return true
        end
    end
    return false
end

--- Whether moonflow's value is the one that a row says.
local function is_wanted(value, wanted)
    local pattern = wanted:match("^/(.*)/$")
    return pattern and value:find(pattern) ~= nil or value == wanted
end

--- The row that allows a difference, or nil.
local function allowing(case, found)
    local path = found.path:gsub("%.%d+", ".*")
    for _, row in ipairs(DIFFERENT) do
        local instead = row.instead and found.theirs:gsub(row.instead[1]:gsub("%p", "%%%0"), row.instead[2])
        if matches_any(case, row.cases) and is_field(path, row.fields)
            and (not instead or instead == found.ours)
            and is_wanted(found.ours, row.ours and row.ours[path] or found.ours) then
            return row
        end
    end
end

--- Whether a row is about nothing but aimock, which may not be there.
local function is_of_aimock(row)
    return row.cases[1]:find("aimock", 1, true) ~= nil
end

--- Fails with every difference that no row allows, and with every row of this group that nothing needed.
local function compare(group, theirs, ours)
    local lines, used, has_aimock = {}, {}, os.getenv "MOONFLOW_TEST_AIMOCK" ~= nil
    assert.equal(#theirs, #ours)
    for i, record in ipairs(theirs) do
        for _, found in ipairs(serve_clients.differences(record, ours[i])) do
            local row = allowing(record.case, found)
            if row then
                used[row] = true
            else
                lines[#lines + 1] = ("%s\n    %s\n    MLflow:   %s\n    moonflow: %s"):format(
                    record.case, found.path, found.theirs:sub(1, 600), found.ours:sub(1, 600))
            end
        end
    end
    for _, row in ipairs(DIFFERENT) do
        if row.cases[1]:match("^%a+") == group and not used[row] and (has_aimock or not is_of_aimock(row)) then
            lines[#lines + 1] = "nothing differs any more where a row says: " .. row.why
        end
    end
    assert(#lines == 0, ("%d differences:\n%s"):format(#lines, table.concat(lines, "\n")))
end

--- Compares what a group of cases gives at both servers.
local function compare_group(group, gateway, file)
    local theirs = serve_clients.drive(skip.unless_env(gateway), group)
    local server <close> = serve(file)
    compare(group, theirs, serve_clients.drive(server.url, group))
    -- what the clients are not told, and no more
    for line in server:close():gmatch("[^\n]+") do
        assert.matches("^moonflow: endpoint [%w%-]+: .* failed: can not connect to [^ ]+: Connection refused$", line)
    end
end

describe("moonflow serve, beside MLflow's gateway", function()
    it("is the same to mlflow.deployments", function()
        compare_group("deployments", "MOONFLOW_TEST_GATEWAY", "serve.lua")
    end)

    it("is the same to mlflow.deployments with two pages of endpoints", function()
        compare_group("pages", "MOONFLOW_TEST_GATEWAY_PAGES", "serve_pages.lua")
    end)

    it("is the same to the openai package", function()
        compare_group("openai", "MOONFLOW_TEST_GATEWAY", "serve.lua")
    end)

    it("is the same to requests of any kind", function()
        compare_group("raw", "MOONFLOW_TEST_GATEWAY", "serve.lua")
    end)

    it("is the same to a workflow", function()
        local gateway = skip.unless_env "MOONFLOW_TEST_GATEWAY"
        local server <close> = serve "serve.lua"
        local shown = {}
        for i, url in ipairs { gateway, server.url } do
            local result = process.run { args = { root .. "/scripts/quickstart.lua", url } }
            assert.equal("", result.stderr)
            assert.equal(0, result.code)
            shown[i] = result.stdout:gsub(url:gsub("%p", "%%%0"), "URL"):gsub("in %d+%.%d+ s", "in N s")
        end
        assert.equal(shown[1], shown[2])
        assert.matches("8 answers in N s", shown[2])
    end)
end)

describe("moonflow serve with Lua functions", function()
    local records

    --- All records of the handlers, of one run.
    local function all()
        if not records then
            local server <close> = serve_clients.start(GATEWAY .. "serve_handlers.lua")
            records = serve_clients.drive(server.url, "handlers")
            records.said = server:close()
        end
        return records
    end

    --- The record of one case.
    local function case(name)
        return assert(all()["handlers: " .. name], "no such case: " .. name)
    end

    local function result(name)
        local record = case(name)
        assert(record.result, ("%s: %s"):format(name, record.error and record.error.message))
        return record.result
    end

    --- The message of the first choice.
    local function message(name)
        return result(name).choices[1].message
    end

    --- Of a stream: the text of all pieces, the roles, the reasons why it ended, the usages.
    local function collected(name)
        local out = { text = "", roles = {}, reasons = {}, usages = {}, pieces = 0 }
        for _, chunk in ipairs(result(name)) do
            local choice = chunk.choices[1]
            local delta = choice and (choice.delta or choice)
            local text = delta and (delta.content or delta.text)
            if type(text) == "string" and text ~= "" then
                out.text = out.text .. text
                out.pieces = out.pieces + 1
            end
            out.roles[#out.roles + 1] = delta and delta.role ~= json.null and delta.role or nil
            out.reasons[#out.reasons + 1] = choice and choice.finish_reason ~= json.null and choice.finish_reason
                or nil
            if type(chunk.usage) == "table" and chunk.usage ~= json.null then
                assert.is_nil(choice)
                out.usages[#out.usages + 1] = chunk.usage
            end
        end
        return out
    end

    local TEXTS = {
        text = "You said: Is the moon far?", partial = "IS THE MOON FAR?", whole = "Whole.",
        pieces = "One two, three.", empty = "",
        unicode = 'M\u{F6}\u{F6}n \u{1F319} "quoted" \\ \n\r\t \u{2028} data: [DONE]\n\n',
    }

    for name, text in pairs(TEXTS) do
        it("answers by both faces, whole and streamed: " .. name, function()
            for _, face in ipairs { "mlflow: ", "" } do
                local answer = result(face .. name)
                assert.equal("chat.completion", answer.object)
                assert.equal("chatcmpl-*", answer.id)
                assert.equal(name == "whole" and 1700000000 or "now", answer.created)
                assert.equal(name == "whole" and "mine" or name, answer.model)
                assert.equal(text, message(face .. name).content)
                assert.equal("assistant", message(face .. name).role)
                assert.equal(name == "partial" and "length" or "stop", answer.choices[1].finish_reason)
                local usage = answer.usage
                assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
            end
            for _, ending in ipairs { ", stream", ", stream with its usage" } do
                local stream = collected(name .. ending)
                assert.equal(text, stream.text)
                assert.equal("assistant", stream.roles[1])
                assert.same({ name == "partial" and "length" or "stop" }, stream.reasons)
                assert.equal(ending == ", stream" and 0 or 1, #stream.usages)
            end
        end)
    end

    it("sends each piece that a handler gives", function()
        assert.equal(4, collected("pieces, stream").pieces)
        assert.same({ pieces = 4, spread = true, soon = true }, result "first piece of a slow stream")
    end)

    it("keeps what a handler says of usage", function()
        assert.equal(7, result("partial").usage.total_tokens)
        assert.equal(7, collected("partial, stream with its usage").usages[1].total_tokens)
    end)

    it("passes tool calls on, whole and streamed", function()
        for _, name in ipairs { "message", "mlflow: message" } do
            local call = message(name).tool_calls[1]
            assert.equal("call_1", call.id)
            assert.equal('{"city":"Oslo"}', call["function"].arguments)
            assert.equal("tool_calls", result(name).choices[1].finish_reason)
        end
        local calls = {}
        for _, chunk in ipairs(result "message, stream") do
            local delta = chunk.choices[1] and chunk.choices[1].delta
            if delta and delta.tool_calls ~= json.null then
                calls[#calls + 1] = delta.tool_calls[1]
            end
        end
        assert.equal(1, #calls)
        assert.equal(0, calls[1].index)
        assert.equal("call_1", calls[1].id)
        assert.same({ "tool_calls" }, collected("message, stream").reasons)
    end)

    it("gives a handler what was asked, with MLflow's defaults and conversions", function()
        assert.equal("messages model seed stop temperature tools; temperature 0.5, n nil; stream nil",
            message("what a handler is given").content)
        assert.matches("other.*; temperature 0.5, n 1; stream nil$", message("mlflow: what a handler is given").content)
        assert.matches("stream function$", collected("what a handler is given, stream").text)
    end)

    it("tells no client what broke, but stderr", function()
        for _, name in ipairs { "raises", "returns-number", "returns-nothing", "returns-nonsense" } do
            for _, form in ipairs { "%s", "mlflow: %s", "%s, stream" } do
                local failed = case(form:format(name)).error
                assert(failed, form:format(name) .. " gave an answer")
                assert.equal(500, failed.status, form:format(name))
                assert.is_nil(json.encode(failed):find("secret", 1, true))
            end
        end
        local failed = case("breaks in a stream").error
        assert.is_nil(json.encode(failed):find("secret", 1, true))
        assert.matches("a secret of the server", all().said)
        assert.matches("returns%-number", all().said)
    end)

    it("keeps the status and the message of an error object", function()
        for _, name in ipairs { "raises-status", "raises-status, stream", "mlflow: raises-status" } do
            local failed = case(name).error
            assert.equal(418, failed.status)
            assert.matches("I am a teapot.", json.encode(failed), 1, true)
        end
    end)

    it("answers completions", function()
        for _, name in ipairs { "completion", "mlflow: completion" } do
            assert.equal("One two, three.", result(name).choices[1].text)
            assert.equal("text_completion", result(name).object)
        end
        assert.equal("One two, three.", collected("completion, stream").text)
        assert.equal(1, #collected("completion, stream with its usage").usages)
    end)

    it("answers embeddings, as numbers and as base64", function()
        local WANTED = {
            embedding = { { 4.0, 109 / 256, -0.5 } },
            embeddings = { { 4.0, 109 / 256, -0.5 }, { 7.0, 116 / 256, -0.5 }, { 0.0, 0.0, -0.5 } },
            tokens = { { 3.0, 49 / 256, -0.5 }, { 1.0, 51 / 256, -0.5 } },
        }
        for name, vectors in pairs(WANTED) do
            for _, form in ipairs { "%s", "mlflow: %s", "%s as floats" } do
                local answer = result(form:format(name))
                assert.equal(#vectors, #answer.data)
                for i, vector in ipairs(vectors) do
                    assert.equal(i - 1, answer.data[i].index)
                    assert.same(vector, setmetatable(answer.data[i].embedding, nil))
                end
            end
            local packed = {}
            for i, vector in ipairs(vectors) do
                packed[i] = require("moonflow.base64").encode(("<fff"):pack(table.unpack(vector)))
                assert.equal(packed[i], result(name .. " as base64").data[i].embedding)
            end
        end
    end)

    it("lists its endpoints as models", function()
        local names = {}
        for _, model in ipairs(result("models").data) do
            assert.equal("model", model.object)
            names[model.id] = true
        end
        assert.is_true(names.text and names.embedding and names["raises-status"])
        assert.equal("text", result("a model").id)
        assert.equal("NotFoundError", case("no such model").error.class)
    end)

    it("ends OpenAI's streams with [DONE], and MLflow's without", function()
        for _, name in ipairs { "OpenAI's stream", "OpenAI's stream with its usage", "OpenAI's completion stream" } do
            local shown = result("tail of " .. name)
            assert.equal(200, shown.status)
            assert.matches("^text/event%-stream", shown.type)
            assert.equal("data: [DONE]", shown.tail[2])
            assert.equal("", shown.tail[3])
        end
        assert.same({}, setmetatable(result("tail of OpenAI's stream with its usage").tail[1].choices, nil))
        for _, name in ipairs { "MLflow's stream", "MLflow's completion stream" } do
            local shown = result("tail of " .. name)
            assert.equal("table", type(shown.tail[2]))
            assert.equal("", shown.tail[3])
        end
        assert.same({ ends = true, events = true, lines = true }, result "bytes of a whole stream")
    end)

    it("answers slow questions side by side", function()
        local shown = result "twenty slow answers at once"
        assert.is_true(shown.together)
        assert.same({ "number 0", "number 1", "number 19" }, setmetatable(shown.texts, nil))
    end)

    it("counts a limit over both faces", function()
        assert.equal(429, case("a limit, of both faces together").error.status)
    end)
end)
