--- What the events of OpenAI's Responses API add up to.
local chat = require "moonflow.chat"
local answers = require "support.answers"

local assert_json, canonical = answers.assert_json, answers.canonical
local collector, decode = answers.collector, answers.decode

describe("the Responses API", function()
    local BEGUN = '{"type":"response.%s","response":{"id":"r1","object":"response","status":"in_progress","output":[]}}'
    local CREATED = BEGUN:format("created")
    local function event(kind, inside)
        return ('{"type":"response.%s","output_index":0,"content_index":0,%s}'):format(kind, inside)
    end
    local MESSAGE = '"item":{"id":"m1","type":"message","status":"in_progress","role":"assistant","content":[]}'
    local cut = {
        { "text", {
            CREATED, BEGUN:format("in_progress"), event("output_item.added", MESSAGE),
            event("content_part.added", '"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}'),
            event("output_text.delta", '"delta":"Hel"'), event("output_text.delta", '"delta":"lo"'),
            event("output_text.annotation.added", '"annotation_index":0,"annotation":{"type":"url_citation"}'),
        }, [=[[{"id":"m1","type":"message","status":"in_progress","role":"assistant","content":[
            {"type":"output_text","text":"Hello","annotations":[{"type":"url_citation"}],"logprobs":[]}]}]]=] },
        { "a text that is done, and another begun", {
            CREATED, event("output_item.added", MESSAGE),
            event("content_part.added", '"part":{"type":"output_text","text":"","annotations":[]}'),
            event("output_text.delta", '"delta":"He"'), event("output_text.done", '"text":"Hello"'),
            event("content_part.done", '"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}'),
            event("output_item.done",
                '"item":{"id":"m1","type":"message","status":"completed","content":[{"text":"Hello"}]}'),
            '{"type":"response.output_text.delta","output_index":1,"content_index":0,"item_id":"m2","delta":"next"}',
        }, [=[[{"id":"m1","type":"message","status":"completed","content":[{"text":"Hello"}]},
            {"id":"m2","type":"message","status":"in_progress","role":"assistant","content":[
            {"type":"output_text","text":"next","annotations":[]}]}]]=] },
        { "a refusal", {
            CREATED, event("output_item.added", MESSAGE),
            event("content_part.added", '"part":{"type":"refusal","refusal":""}'),
            event("refusal.delta", '"delta":"I can"'), event("refusal.delta", '"delta":"not"'),
        }, [=[[{"id":"m1","type":"message","status":"in_progress","role":"assistant","content":[
            {"type":"refusal","refusal":"I cannot"}]}]]=] },
        { "a refusal that is done", { CREATED, event("refusal.done", '"item_id":"m1","refusal":"No."') },
            [=[[{"id":"m1","type":"message","status":"in_progress","role":"assistant","content":[
            {"type":"refusal","refusal":"No."}]}]]=] },
        { "function calls, the second one first", {
            CREATED,
            '{"type":"response.function_call_arguments.delta","output_index":1,"item_id":"f2","delta":"{}"}',
            event("output_item.added", '"item":{"id":"f1","type":"function_call","name":"f","arguments":""}'),
            event("function_call_arguments.delta", '"delta":"{\\"a\\""'),
            event("function_call_arguments.delta", '"delta":":1}"'),
            '{"type":"response.function_call_arguments.done","output_index":1,"item_id":"f2","arguments":"{ }"}',
        }, [=[[{"id":"f1","type":"function_call","name":"f","arguments":"{\"a\":1}"},
            {"id":"f2","type":"function_call","status":"in_progress","arguments":"{ }"}]]=] },
        { "reasoning", {
            CREATED, event("output_item.added", '"item":{"id":"s1","type":"reasoning","summary":[]}'),
            event("reasoning_summary_part.added", '"summary_index":0,"part":{"type":"summary_text","text":""}'),
            event("reasoning_summary_text.delta", '"summary_index":0,"delta":"su"'),
            event("reasoning_summary_text.delta", '"summary_index":0,"delta":"m"'),
            event("reasoning_text.delta", '"delta":"why"'),
        }, [=[[{"id":"s1","type":"reasoning","summary":[{"type":"summary_text","text":"sum"}],
            "content":[{"type":"reasoning_text","text":"why"}]}]]=] },
        { "other input of tools", {
            CREATED, event("custom_tool_call_input.delta", '"item_id":"c","delta":"ls"'),
            '{"type":"response.mcp_call_arguments.delta","output_index":1,"item_id":"p","delta":"{}"}',
            '{"type":"response.code_interpreter_call_code.delta","output_index":2,"item_id":"i","delta":"1+1"}',
        }, [=[[{"id":"c","type":"custom_tool_call","status":"in_progress","input":"ls"},
            {"id":"p","type":"mcp_call","status":"in_progress","arguments":"{}"},
            {"id":"i","type":"code_interpreter_call","status":"in_progress","code":"1+1"}]]=] },
        { "a huge index, and a negative one", {
            CREATED, '{"type":"response.output_item.added","output_index":1000000000,"item":{"id":"b"}}',
            '{"type":"response.output_item.added","output_index":0,"item":{"id":"a"}}',
            '{"type":"response.output_item.added","output_index":-1,"item":{"id":"z"}}',
        }, '[{"id":"z"},{"id":"a"},{"id":"b"}]' },
        { "items without an index (MLflow's agents)", {
            '{"type":"response.output_text.delta","item_id":"m1","delta":"a"}',
            '{"type":"response.output_text.delta","item_id":"m2","delta":"b"}',
            '{"type":"response.output_item.done","item":{"id":"m1","type":"message","content":[{"text":"A"}]}}',
        }, [=[[{"id":"m1","type":"message","content":[{"text":"A"}]},
            {"id":"m2","type":"message","status":"in_progress","role":"assistant","content":[
            {"type":"output_text","text":"b","annotations":[]}]}]]=] },
        { "what was there when a stream is resumed", {
            [[{"type":"response.in_progress","response":{"output":[{"id":"a","content":[{"text":"one "}]}]}}]],
            event("output_text.delta", '"delta":"two"'),
        }, '[{"id":"a","content":[{"text":"one two"}]}]' },
        { "events without what they are about", {
            CREATED, event("output_text.delta", '"delta":7'), event("output_item.added", '"item":null'),
            event("content_part.added", '"part":"x"'), event("output_text.done", '"text":null'),
            event("output_text.annotation.added", '"annotation":1'), event("odd", '"x":1'),
            event("created", '"response":3'),
        }, "[]" },
    }
    for _, case in ipairs(cut) do
        it("that is cut leaves " .. case[1], function()
            local new = collector(case[2])
            local result = new:result()
            assert.is_false(new:is_finished())
            assert_json(case[3], result.output)
            assert.equal(canonical(result), canonical(new:result()))
        end)
    end

    it("keeps what the server said of the response", function()
        local result = collector { CREATED, event("output_text.delta", '"item_id":"m1","delta":"a"') }:result()
        assert.equal("r1", result.id)
        assert.equal("in_progress", result.status)
        assert.equal("response", result.object)
        assert.equal("a", chat.text(result))
        result = collector { event("odd", '"x":1') }:result()
        assert_json('{"object":"response","status":"in_progress","output":[]}', result)
    end)

    it("ends with the response itself", function()
        for _, status in ipairs { "completed", "incomplete", "failed" } do
            local new = collector { CREATED, event("output_text.delta", '"delta":"a"') }
            local response = ('"response":{"id":"r1","object":"response","status":"%s"}'):format(status)
            local last = decode(event(status, response))
            new:add(last)
            assert.is_true(new:is_finished())
            assert.equal(last.response, new:result())
            new:add(decode(CREATED))
            assert.equal(last.response, new:result())
        end
    end)

    it("ends also where the last event lacks the response", function()
        local new = collector { CREATED, event("output_text.delta", '"delta":"a"'), '{"type":"response.incomplete"}' }
        assert.is_true(new:is_finished())
        assert.equal("incomplete", new:result().status)
        assert.equal("a", chat.text(new:result()))
    end)

    it("may answer without a stream", function()
        local whole = decode '{"object":"response","status":"completed","output":[]}'
        local new = chat.collector()
        new:add(whole)
        assert.equal(whole, new:result())
        assert.is_true(new:is_finished())
    end)

    it("does not change the events", function()
        local added = decode(event("output_item.added", MESSAGE))
        local new = chat.collector()
        new:add(added)
        new:add(decode(event("output_text.delta", '"delta":"a"')))
        assert.equal("a", chat.text(new:result()))
        assert_json(event("output_item.added", MESSAGE), added)
    end)
end)
