--- What the chunks of a stream add up to, server by server.
local chat = require "moonflow.chat"
local error_object = require "moonflow.error"
local answers = require "support.answers"
local json = require "moonflow.json"

local assert_json, canonical = answers.assert_json, answers.canonical
local collector, decode = answers.collector, answers.decode

--- A chunk with one choice, out of what is in its delta.
local function delta(inside, finish_reason)
    return ('{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
        .. '"delta":{%s},"finish_reason":%s}]}'):format(inside, finish_reason or "null")
end

--- A chunk with one choice, out of what is in it.
local function choice(inside)
    return ('{"choices":[{%s}]}'):format(inside)
end

local function usage_error(fn)
    local ok, err = pcall(fn)
    assert.is_false(ok)
    assert.is_true(error_object.is(err), tostring(err))
    assert.equal("usage", err.kind)
    return err
end

describe("chat.text", function()
    local cases = {
        { "the content of a delta", delta '"content":"Hi"', "Hi" },
        { "the text parts of a list", delta [=["content":[{"type":"text","text":"a"},{"type":"reasoning","text":"b"},
            {"type":"text","text":"c"},{"type":"text","text":null},{"type":"text"},7,null]]=], "ac" },
        { "nothing of a role", delta '"role":"assistant"', "" },
        { "nothing of null", delta '"content":null', "" },
        { "nothing of a number", delta '"content":5', "" },
        { "nothing of a tool call", delta '"tool_calls":[{"index":0}]', "" },
        { "the delta where there is a message too",
            choice '"delta":{"content":"b"},"message":{"content":"ab"}', "b" },
        { "a whole answer", choice '"message":{"content":"whole"}', "whole" },
        { "a whole answer of parts", choice '"message":{"content":[{"type":"text","text":"w"}]}', "w" },
        { "a completion", choice '"text":"t","index":0', "t" },
        { "no other choice", '{"choices":[{"index":1,"delta":{"content":"b"}}]}', "" },
        { "the choice 0 behind another",
            '{"choices":[{"index":1,"delta":{"content":"b"}},{"index":0,"delta":{"content":"a"}}]}', "a" },
        { "the first without an index",
            '{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}', "a" },
        { "no second one without an index",
            '{"choices":[{"index":1,"delta":{"content":"b"}},{"delta":{"content":"a"}}]}', "" },
        { "null as an index", '{"choices":[{"index":null,"delta":{"content":"a"}}]}', "a" },
        { "an event of the Responses API", '{"type":"response.output_text.delta","delta":"d"}', "d" },
        { "no other event", '{"type":"response.refusal.delta","delta":"d"}', "" },
        { "no event at the end", '{"type":"response.output_text.done","text":"d"}', "" },
        { "a whole response", [=[{"object":"response","output":[{"type":"reasoning"},null,{"type":"message","content":[
            {"type":"output_text","text":"a"},{"type":"refusal","text":"x"},{"type":"output_text","text":"b"},3]}]}]=],
            "ab" },
    }
    for _, case in ipairs(cases) do
        it("gives " .. case[1], function()
            assert.equal(case[3], chat.text(decode(case[2])))
        end)
    end

    it("gives \"\" for whatever is no chunk", function()
        local texts = {
            "null", "1", "true", '"choices"', "[]", "{}", "[[]]", '{"choices":[]}', '{"choices":null}', '{"choices":7}',
            '{"choices":"x"}', '{"choices":{"index":0}}', '{"choices":[null]}', '{"choices":[1,"x",[]]}',
            choice '"index":0', choice '"delta":null', choice '"delta":5', choice '"delta":[]', choice '"text":{}',
            choice '"message":"x"', choice '"delta":{"content":{}}', choice '"delta":{"content":true}',
            choice '"index":"0","delta":{"content":"x"}', '{"type":"response.output_text.delta"}',
            '{"type":"response.output_text.delta","delta":null}', '{"object":"response"}',
            '{"object":"response","output":"x"}', '{"object":"response","output":[{"content":"x"},1]}',
            '{"object":"response","output":[{"content":[{"type":"output_text","text":1}]}]}',
        }
        for _, text in ipairs(texts) do
            assert.equal("", chat.text(decode(text)), text)
        end
        assert.equal("", chat.text())
        assert.equal("", chat.text(print))
        assert.equal("", chat.text(io.stdout))
        assert.equal("", chat.text { choices = { { index = 0 / 0, delta = { content = "x" } } } })
    end)
end)

-- Each case: what is tested, the chunks, and what is in the first choice of the result.
local function check_choices(cases)
    for _, case in ipairs(cases) do
        it(case[1], function()
            local result = collector(case[2]):result()
            assert.equal("chat.completion", result.object)
            assert_json(case[3], result.choices[1])
        end)
    end
end

--- A choice of a result, out of what is in its message besides the role.
local function message(inside, finish_reason)
    return ('{"index":0,"message":{"role":"assistant",%s},"finish_reason":%s}'):format(inside, finish_reason or "null")
end

--- A choice of a result with these tool calls: triples of id, name and arguments.
local function calls(list, finish_reason)
    local texts = {}
    for i, call in ipairs(list) do
        texts[i] = canonical {
            id = call[1], type = "function", ["function"] = { name = call[2], arguments = call[3] },
        }
    end
    return message(('"content":null,"tool_calls":[%s]'):format(table.concat(texts, ",")), finish_reason)
end

describe("a message", function()
    check_choices {
        { "is the sum of its pieces", {
            delta '"role":"assistant","content":""', delta '"content":"Hel"', delta '"content":"lo"',
            delta('', '"stop"'),
        }, message('"content":"Hello"', '"stop"') },
        { "has an empty text where only that came", {
            delta '"role":"assistant","content":""', delta('', '"stop"'),
        }, message('"content":""', '"stop"') },
        { "has null where nothing came", { delta '"content":null' }, message '"content":null' },
        { "has a role where the server sent none", { delta '"content":"x"' }, message '"content":"x"' },
        { "keeps a role that every chunk repeats", {
            delta '"role":"assistant","content":"a"', delta '"role":"","content":"b"',
            delta '"role":"assistant","content":"c"',
        }, message '"content":"abc"' },
        { "does not forget the finish_reason", {
            delta('"content":"a"', '"length"'), delta '"content":"b"', delta('', '""'),
        }, message('"content":"ab"', '"length"') },
        { "takes the last finish_reason", { delta('', '"length"'), delta('', '"stop"') },
            message('"content":null', '"stop"') },
        { "has a refusal in pieces", {
            delta '"role":"assistant","content":"","refusal":null', delta '"refusal":"I ca"', delta '"refusal":"n not"',
        }, message '"content":null,"refusal":"I can not"' },
        { "has reasoning in pieces, and fields nobody knows", {
            delta '"reasoning_content":"th","reasoning":"a","odd":"1"',
            delta '"reasoning_content":"ink","reasoning":"b","odd":"2"', delta '"content":"x","odd":null',
        }, message '"content":"x","reasoning_content":"think","reasoning":"ab","odd":"12"' },
        { "takes the last of numbers and of booleans", {
            delta '"n":1,"flag":true', delta '"n":2,"flag":false', delta '"n":null',
        }, message '"content":null,"n":2,"flag":false' },
        { "has tables put together", {
            delta '"audio":{"id":"a1","data":"QU"},"tokens":[1,2]', delta '"audio":{"id":"a1","data":"JD"},"tokens":[]',
            delta '"audio":{"transcript":"hi","expires_at":5},"tokens":[3]',
        }, message [=["content":null,"audio":{"id":"a1","data":"QUJD","transcript":"hi","expires_at":5},
            "tokens":[1,2,3]]=] },
        { "has lists within lists as they came", { delta '"rows":[[1],[null,2]]', delta '"rows":[[3]]' },
            message '"content":null,"rows":[[1],[null,2],[3]]' },
        { "has every annotation", {
            delta '"annotations":[{"type":"url_citation","url_citation":{"url":"a"}}]',
            delta '"annotations":[{"type":"url_citation","url_citation":{"url":"b"}}]',
        }, message [=["content":null,"annotations":[{"type":"url_citation","url_citation":{"url":"a"}},
            {"type":"url_citation","url_citation":{"url":"b"}}]]=] },
        { "has a legacy function call", {
            delta '"function_call":{"name":"f","arguments":""}', delta '"function_call":{"arguments":"{\\"a\\""}',
            delta('"function_call":{"name":"f","arguments":":1}"}', '"function_call"'),
        }, message([["content":null,"function_call":{"name":"f","arguments":"{\"a\":1}"}]], '"function_call"') },
        { "is put together without an index of the choice", {
            choice '"delta":{"content":"a"}', choice '"index":null,"delta":{"content":"b"}',
        }, message '"content":"ab"' },
        { "stands what is no delta", {
            choice '"delta":null', choice '"delta":5', choice '"delta":"x"', choice '"delta":["x"]',
            '{"choices":[null,1,"x"]}', '{"choices":7}',
            choice '"delta":{"content":"a","tool_calls":7,"function_call":null}',
            choice '"delta":{"tool_calls":[null,3,"x"]},"finish_reason":{"a":1},"logprobs":7',
        }, message '"content":"a"' },
        { "has the logprobs of all chunks", {
            choice '"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}],"refusal":null}',
            choice '"delta":{"content":"b"},"logprobs":null',
            choice '"delta":{"content":"c"},"logprobs":{"content":[{"token":"b"},{"token":"c"}],"refusal":[]}',
        }, [[{"index":0,"message":{"role":"assistant","content":"abc"},"finish_reason":null,
            "logprobs":{"content":[{"token":"a"},{"token":"b"},{"token":"c"}],"refusal":[]}}]] },
    }
end)

describe("content in parts", function()
    check_choices {
        { "is one string where all of it is text (Databricks)", {
            delta '"content":[{"type":"text","text":"a"}]', delta '"content":[{"type":"text","text":"b"}]',
        }, message '"content":"ab"' },
        { "goes on with strings", {
            delta '"content":""', delta '"content":"a"', delta '"content":[{"type":"text","text":"b"}]',
            delta '"content":"c"',
        }, message '"content":"abc"' },
        { "is null where there are none", { delta '"content":[]' }, message '"content":null' },
        { "stays a list where a text has more to it", {
            delta '"content":[{"type":"text","text":"a","citations":[1]}]',
            delta '"content":[{"type":"text","text":"b","citations":[2]}]',
        }, message [=["content":[{"type":"text","text":"ab","citations":[1,2]}]]=] },
        { "tells text from text of another type", {
            delta '"content":[{"type":"text","text":"a"}]', delta '"content":[{"type":"reasoning","text":"b"}]',
        }, message [=["content":[{"type":"text","text":"a"},{"type":"reasoning","text":"b"}]]=] },
        { "keeps reasoning before the text (Databricks)", {
            delta '"role":"assistant","content":""',
            delta '"content":[{"type":"reasoning","summary":[{"type":"summary_text","text":"th"}]}]',
            delta '"content":[{"type":"reasoning","summary":[{"type":"summary_text","text":"ink"}]}]',
            delta '"content":[{"type":"reasoning","summary":[{"type":"summary_text","text":"","signature":"s"}]}]',
            delta '"content":"Hel"', delta '"content":"lo"',
        }, message [=["content":[
            {"type":"reasoning","summary":[{"type":"summary_text","text":"think","signature":"s"}]},
            {"type":"text","text":"Hello"}]]=] },
        { "keeps what is not text (Mistral)", {
            delta '"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]',
            delta '"content":[{"type":"thinking","thinking":[{"type":"text","text":"b"}]}]',
            delta '"content":[{"type":"text","text":"c"},{"type":"image_url","image_url":"u"}]',
            delta '"content":[{"type":"image_url","image_url":"v"}]',
        }, message [=["content":[{"type":"thinking","thinking":[{"type":"text","text":"ab"}]},
            {"type":"text","text":"c"},{"type":"image_url","image_url":"u"},{"type":"image_url","image_url":"v"}]]=] },
        { "of the same index belongs together (OpenRouter)", {
            delta '"reasoning_details":[{"type":"reasoning.text","text":"a","format":"f1","index":0}]',
            delta '"reasoning_details":[{"type":"reasoning.summary","summary":"x","format":"f1","index":1}]',
            delta '"reasoning_details":[{"type":"reasoning.text","text":"b","signature":"s","format":"f1","index":0}]',
            delta '"reasoning_details":[{"type":"reasoning.encrypted","data":"d","index":0}]',
        }, message [=["content":null,"reasoning_details":[
            {"type":"reasoning.text","text":"ab","signature":"s","format":"f1","index":0},
            {"type":"reasoning.summary","summary":"x","format":"f1","index":1},
            {"type":"reasoning.encrypted","data":"d","index":0}]]=] },
    }
end)

describe("tool calls", function()
    local WHOLE = '{"id":"%s","type":"function","function":{"name":"%s","arguments":"%s"}%s}'
    local function whole(id, name, arguments, index)
        return WHOLE:format(id, name, arguments, index and ',"index":' .. index or "")
    end
    local function piece(inside)
        return delta('"tool_calls":[' .. inside .. "]")
    end
    check_choices {
        { "come in pieces by their index", {
            delta('"role":"assistant","content":null,"tool_calls":[' .. whole("a", "f", "", 0) .. "]"),
            piece '{"index":0,"function":{"arguments":"{\\"x\\":"}}', piece '{"index":0,"function":{"arguments":"1}"}}',
            piece(whole("b", "g", "", 1)), piece '{"index":1,"function":{"arguments":"{}"}}', delta('', '"tool_calls"'),
        }, calls({ { "a", "f", '{"x":1}' }, { "b", "g", "{}" } }, '"tool_calls"') },
        { "are sorted by their index, and may take turns", {
            piece(whole("b", "g", "2", 1)), piece(whole("a", "f", "1", 0)),
            piece '{"index":1,"function":{"arguments":"2"}}',
            piece '{"index":0,"function":{"arguments":"1"}}',
        }, calls { { "a", "f", "11" }, { "b", "g", "22" } } },
        { "repeat id, type and name in every chunk", {
            piece(whole("call_1", "f", "1", 0)), piece(whole("call_1", "f", "2", 0)), piece(whole("", "", "3", 0)),
        }, calls { { "call_1", "f", "123" } } },
        { "have an id and a name that grow", {
            piece(whole("call", "get", "1", 0)), piece(whole("call_1", "get_x", "2", 0)),
            piece '{"index":0,"function":{"name":"other","arguments":"3"}}',
        }, calls { { "call_1", "get_x", "123" } } },
        { "get their id late", {
            piece '{"index":0,"function":{"name":"f","arguments":"1"}}', piece(whole("a", "f", "2", 0)),
        }, calls { { "a", "f", "12" } } },
        { "without an index go by the id (Ollama)", {
            piece(whole("a", "f", "1") .. "," .. whole("b", "g", "2")), piece(whole("c", "h", "3")),
        }, calls { { "a", "f", "1" }, { "b", "g", "2" }, { "c", "h", "3" } } },
        { "without an index go on with the same id", {
            piece(whole("a", "f", "1")), piece(whole("b", "g", "2")), piece(whole("a", "", "1")),
        }, calls { { "a", "f", "11" }, { "b", "g", "2" } } },
        { "without index and id go on with the last", {
            piece(whole("a", "f", "1")), piece '{"function":{"arguments":"2"}}',
            piece '{"id":null,"function":{"arguments":"3"}}',
            piece '{"id":"","function":{"name":"f","arguments":"4"}}',
        }, calls { { "a", "f", "1234" } } },
        { "without index and id are new where they have another name, or stand beside one", {
            piece '{"id":"","function":{"name":"f","arguments":"1"}},{"id":"","function":{"name":"f","arguments":"2"}}',
            piece '{"id":"","function":{"name":"g","arguments":"3"}}',
        }, calls { { "", "f", "1" }, { "", "f", "2" }, { "", "g", "3" } } },
        { "all with index 0 differ by their ids (Ollama)", {
            piece(whole("a", "f", "1", 0) .. "," .. whole("b", "f", "2", 0)), piece(whole("c", "f", "3", 0)),
            piece '{"index":0,"function":{"arguments":"3"}}', piece(whole("a", "f", "1", 0)),
        }, calls { { "a", "f", "11" }, { "b", "f", "2" }, { "c", "f", "33" } } },
        { "have a negative index (Bedrock)", {
            piece(whole("a", "f", "1", -1)), piece '{"index":-1,"function":{"arguments":"2"}}',
            piece '{"index":0,"function":{"arguments":"3"}}',
        }, calls { { "a", "f", "123" } } },
        { "have a huge index", {
            piece(whole("b", "g", "2", 1000000000)), piece(whole("c", "h", "3", 9007199254740993)),
            piece(whole("a", "f", "1", 5)), piece '{"index":1000000000,"function":{"arguments":"2"}}',
        }, calls { { "a", "f", "1" }, { "b", "g", "22" }, { "c", "h", "3" } } },
        { "have an index that is none", {
            piece(whole("a", "f", "1", '"x"')), piece(whole("a", "f", "2", "1.5")), piece(whole("a", "f", "3", "null")),
        }, calls { { "a", "f", "123" } } },
        { "have arguments that are a table", {
            piece '{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":{"x":[1,{}]}}}',
        }, calls { { "a", "f", '{"x":[1,{}]}' } } },
        { "have arguments and a type even where none came", {
            piece '{"index":0,"id":"a","function":{"name":"f"}}',
        }, calls { { "a", "f", "" } } },
        { "stand beside text", { delta '"content":"Look: "', piece(whole("a", "f", "1", 0)) },
            message('"content":"Look: ","tool_calls":[' .. whole("a", "f", "1") .. "]") },
        { "leave null of an empty text", { delta '"content":""', piece(whole("a", "f", "1", 0)) },
            calls { { "a", "f", "1" } } },
        { "are not there where the list is empty", { delta '"content":"x","tool_calls":[]' }, message '"content":"x"' },
        { "may be no functions", {
            piece '{"index":0,"id":"a","type":"custom","custom":{"name":"sh","input":"l"}}',
            piece '{"index":0,"custom":{"input":"s"}}',
        }, message '"content":null,"tool_calls":[{"id":"a","type":"custom","custom":{"name":"sh","input":"ls"}}]' },
    }
end)

describe("an answer", function()
    it("keeps the fields around the choices", function()
        local result = collector {
            '{"id":"","object":"","created":0,"model":"","prompt_filter_results":[{"x":1}],"choices":[]}',
            [[{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":"fp_1",
                "usage":null,"obfuscation":"xyz","provider":"p","citations":["a"],"n":1,
                "choices":[{"index":0,"delta":{"content":"a"}}]}]],
            [[{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","system_fingerprint":null,"n":0,
                "citations":["a","b"],"obfuscation":"u","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}]],
            '{"id":"","object":"","created":0,"model":"","choices":[],"usage":{"total_tokens":3}}',
        }:result()
        assert_json([=[{"id":"c1","object":"chat.completion","created":7,"model":"m","system_fingerprint":"fp_1",
            "provider":"p","n":0,"prompt_filter_results":[{"x":1}],"citations":["a","b"],"usage":{"total_tokens":3},
            "choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}]=], result)
    end)

    it("has the last usage of a server that sends it in every chunk (vLLM)", function()
        local result = collector {
            '{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":{"total_tokens":5}}',
            '{"choices":[{"index":0,"delta":{"reasoning":"r"}}],"usage":{"total_tokens":6}}',
            [[{"choices":[{"index":0,"delta":{"content":"x"},"stop_reason":9,"finish_reason":"stop"}],
                "usage":{"total_tokens":7}}]],
            '{"choices":[],"usage":null}',
        }:result()
        assert_json([=[{"object":"chat.completion","usage":{"total_tokens":7},"choices":[{"index":0,"stop_reason":9,
            "message":{"role":"assistant","content":"x","reasoning":"r"},"finish_reason":"stop"}]}]=], result)
    end)

    it("keeps what the content filter says beside the text (Azure)", function()
        local result = collector {
            '{"id":"","object":"","choices":[],"prompt_filter_results":[]}',
            delta '"role":"assistant"', delta '"content":"a"',
            [[{"id":"","object":"","choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{"end_offset":1},
                "content_filter_results":{"hate":{"filtered":false}}}]}]],
            [[{"id":"","object":"","choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{"end_offset":2},
                "content_filter_results":null}]}]],
            delta('', '"stop"'),
        }:result()
        assert.equal("c1", result.id)
        assert_json([[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop",
            "content_filter_offsets":{"end_offset":2},"content_filter_results":{"hate":{"filtered":false}}}]],
            result.choices[1])
    end)

    it("keeps the error that ends a stream (OpenRouter)", function()
        local new = collector {
            delta '"role":"assistant","content":"a"',
            [[{"error":{"code":502,"message":"m"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error",
                "native_finish_reason":"x"}]}]],
        }
        assert.equal(502, new:result().error.code)
        assert_json([[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"error",
            "native_finish_reason":"x"}]], new:result().choices[1])
    end)

    it("does not double a message that comes whole in every chunk (Perplexity)", function()
        local function chunk(new, all, finish_reason)
            return ([[{"object":"chat.completion","choices":[{"index":0,"finish_reason":%s,
                "delta":{"role":"assistant","content":"%s"},
                "message":{"role":"assistant","content":"%s","extra":1}}]}]]):format(finish_reason, new, all)
        end
        local new = collector { chunk("Hel", "Hel", "null"), chunk("lo", "Hello", "null") }
        assert.is_false(new:is_finished())
        new:add(decode(chunk("", "Hello", '"stop"')))
        assert.is_true(new:is_finished())
        assert_json(message('"content":"Hello","extra":1', '"stop"'), new:result().choices[1])
        new:add(decode(delta '"content":"!"'))
        assert.equal("Hello!", new:result().choices[1].message.content)
    end)

    it("is what the last whole message says where the deltas say nothing", function()
        local part = [[{"object":"chat.completion.chunk","choices":[{"message":{"content":"%s"}%s}]}]]
        local new = collector { part:format("Hel", "") }
        assert.is_false(new:is_finished())
        new:add(decode(part:format("Hello", ',"finish_reason":"stop"')))
        assert_json(message('"content":"Hello"', '"stop"'), new:result().choices[1])
    end)

    it("has several choices, which take turns", function()
        local function chunk(index, inside, finish_reason)
            return ('{"choices":[{"index":%s,"delta":{%s},"finish_reason":%s}]}'):format(index, inside,
                finish_reason or "null")
        end
        local new = collector {
            chunk(1, '"content":"b"'), chunk(0, '"content":"a"'), chunk(1, '"content":"B"', '"stop"'),
            '{"choices":[{"index":0,"delta":{"content":"A"}},{"index":1,"delta":{"content":"!"}}]}',
        }
        assert.is_false(new:is_finished())
        assert.is_false(new:is_finished(2))
        new:add(decode(chunk(0, "", '"length"')))
        assert.is_true(new:is_finished())
        assert.is_true(new:is_finished(2))
        assert.is_false(new:is_finished(3))
        local choices = new:result().choices
        assert.is_true(json.is_array(choices))
        assert_json('[' .. message('"content":"aA"', '"length"') .. ','
            .. message('"content":"bB!"', '"stop"'):gsub('"index":0', '"index":1') .. ']', choices)
    end)

    it("has choices with an index that is none at the end", function()
        local function chunk(index, text)
            return ('{"choices":[{"index":%s,"delta":{"content":"%s"}}]}'):format(index, text)
        end
        local indexes = { "1e300", "4000000000", "-1", '"x"', "1.5", "{}", "18446744073709551616", "1", "0.0" }
        local new = chat.collector()
        for _ = 1, 2 do
            for _, index in ipairs(indexes) do
                new:add(decode(chunk(index, index == '"x"' and "x" or index)))
            end
        end
        new:add { choices = { { index = 0 / 0, delta = { content = "nan" } } } }
        local texts = {}
        assert.equal("integer", math.type(new:result().choices[1].index))
        for i, member in ipairs(new:result().choices) do
            texts[i] = member.message.content
        end
        assert.same({
            "0.00.0", "11", "1e3001e300", "40000000004000000000", "-1-1", "xx", "1.51.5", "{}{}",
            "1844674407370955161618446744073709551616", "nan",
        }, texts)
    end)

    it("is a completion where the choices have texts", function()
        local new = collector {
            [[{"id":"t","object":"text_completion","model":"m","choices":[{"index":0,"text":"a","finish_reason":null,
                "logprobs":{"tokens":["a"],"text_offset":[0]}}]}]],
            [[{"id":"t","object":"text_completion","model":"m","choices":[{"index":1,"text":"x"},{"index":0,"text":"b",
                "logprobs":{"tokens":["b"],"text_offset":[1]}}]}]],
            '{"object":"text_completion","choices":[{"index":0,"text":"","finish_reason":"stop"}]}',
        }
        assert.is_false(new:is_finished())
        assert_json([=[{"id":"t","object":"text_completion","model":"m","choices":[
            {"index":0,"text":"ab","finish_reason":"stop","logprobs":{"tokens":["a","b"],"text_offset":[0,1]}},
            {"index":1,"text":"x","finish_reason":null}]}]=], new:result())
        new:add(decode '{"choices":[{"index":1,"text":"y","finish_reason":"length"}],"usage":{"total_tokens":2}}')
        assert.is_true(new:is_finished())
        assert.equal("xy", new:result().choices[2].text)
    end)

    it("is a completion of MLflow's gateway too", function()
        local first = '{"object":"text_completion_chunk","choices":[{"index":0,"finish_reason":null,"text":"a"}]}'
        assert_json('{"object":"text_completion","choices":[{"index":0,"text":"a","finish_reason":null}]}',
            collector { first }:result())
        assert.equal("text_completion", collector { '{"object":"text_completion","choices":[]}' }:result().object)
        assert.equal("text_completion", collector { choice '"text":"a"' }:result().object)
        assert.equal("chat.completion", collector {
            '{"object":"text_completion","choices":[{"index":0,"delta":{"content":"a"}}]}',
        }:result().object)
    end)

    it("that is whole already is returned as it is", function()
        local whole = decode [[{"object":"chat.completion","choices":[{"index":0,"finish_reason":null,"logprobs":null,
            "message":{"role":"assistant","content":null,"refusal":null}}]}]]
        local new = chat.collector()
        new:add(whole)
        assert.equal(whole, new:result())
        assert.is_true(new:is_finished())
        new:add(decode '{"choices":[],"usage":{"total_tokens":1}}')
        assert.equal(1, new:result().usage.total_tokens)
        assert_json(message '"content":null', new:result().choices[1])
    end)

    it("of another kind is kept", function()
        local other = { predictions = { 1, 2 } }
        local new = chat.collector()
        new:add(other)
        assert.equal(other, new:result())
        assert.is_false(new:is_finished())
        new:add { predictions = { 3 }, x = json.null, y = 1 }
        assert.same({ predictions = { 3 }, y = 1 }, new:result())
        new:add(decode(delta '"content":"a"'))
        assert.equal("a", new:result().choices[1].message.content)
    end)

    it("is nil before the first chunk, and no chunk is none", function()
        local new = chat.collector()
        assert.is_nil(new:result())
        for _, value in ipairs { json.null, 1, "x", true, print } do
            new:add(value)
        end
        new:add(nil)
        assert.is_nil(new:result())
        assert.is_false(new:is_finished())
    end)

    it("can be had in the middle, twice, and does not change what it was made of", function()
        local texts = {
            delta '"role":"assistant","content":"a","audio":{"id":"1","data":"x"},"list":[{"index":0,"text":"t"}]',
            delta '"content":"b","audio":{"id":"1","data":"y"},"list":[{"index":0,"text":"u"}]',
            delta '"content":[{"type":"text","text":"c"},{"type":"image"}],"tool_calls":[{"index":0,"id":"c1"}]',
        }
        local new, chunks, before = chat.collector(), {}, nil
        for i, text in ipairs(texts) do
            chunks[i] = decode(text)
            new:add(chunks[i])
            local result = new:result()
            assert.equal(canonical(result), canonical(new:result()))
            assert.are_not.equal(before, canonical(result))
            before = canonical(result)
            result.choices[1].message.audio.data, result.choices[1].message.list[1] = "spoilt", nil
            assert.equal(before, canonical(new:result()))
        end
        for i, text in ipairs(texts) do
            assert_json(text, chunks[i])
        end
        assert.equal("xy", new:result().choices[1].message.audio.data)
    end)

    it("does not grow with the chunks that come after it", function()
        local new = collector { choice '"delta":{"list":[1]},"logprobs":{"content":[1]}' }
        local result = new:result()
        local before = canonical(result)
        new:add(decode(choice '"delta":{"content":"a","list":[2]},"logprobs":{"content":[2]},"x":1'))
        assert.equal(before, canonical(result))
        assert.same({ 1, 2 }, new:result().choices[1].logprobs.content)
    end)

    it("is finished only with a choice that has a finish_reason", function()
        assert.is_false(collector { '{"choices":[]}' }:is_finished())
        assert.is_false(collector { '{"choices":[]}' }:is_finished(0))
        assert.is_false(collector { delta('"content":"a"', '""') }:is_finished())
        assert.is_true(collector { delta('"content":"a"', '"stop"') }:is_finished())
        assert.is_true(collector { delta('"content":"a"', '"stop"') }:is_finished(1))
        assert.is_false(collector { delta('"content":"a"', '"stop"') }:is_finished(2))
    end)

    it("stands any two chunks behind each other", function()
        local values = {
            "null", "true", "7", '"x"', "[]", "{}", "[1]", "[[]]", "[null]", '[{"type":"text","text":"t"}]',
            '[{"index":0}]', '{"index":0,"type":7,"id":[]}', '{"name":"f","arguments":[]}', '[{"id":7,"function":"f"}]',
            '[{"index":{},"function":{"name":{}}}]', '[{"function":{"name":"f","arguments":{"x":1}}}]',
            '[{"index":0,"id":"a","function":[1]}]',
        }
        local names = {
            "choices", "type", "object", "usage", "choice", "delta", "message", "logprobs", "text", "finish_reason",
            "index", "content", "role", "tool_calls", "function_call", "refusal", "other",
        }
        local texts = {}
        for i, name in ipairs(names) do
            local form = i <= 4 and '{"%s":%s}' or i <= 11 and choice '"%s":%s' or choice '"delta":{"%s":%s}'
            for _, value in ipairs(values) do
                texts[#texts + 1] = form:format(name == "choice" and "choices" or name, value)
            end
        end
        for i, first in ipairs(texts) do
            -- A step that has no divisor in common with the number of values: each follows on each.
            for j = i % 5 + 1, #texts, 5 do
                local new = collector { first, texts[j] }
                local result = new:result()
                local encoded, err = json.encode(result)
                assert(result == nil or encoded, ("%s %s: %s"):format(first, texts[j], err))
                new:is_finished()
                chat.text(result)
            end
        end
    end)

    it("of a hundred thousand chunks takes ten times what one of ten thousand takes", function()
        local function run(n)
            local new = chat.collector()
            local chunk = decode(delta '"content":"ab","tool_calls":[{"index":0,"function":{"arguments":"cd"}}]')
            local start = os.clock()
            for _ = 1, n do
                new:add(chunk)
            end
            local result = new:result().choices[1].message
            local seconds = os.clock() - start
            assert.equal(2 * n, #result.content)
            assert.equal(2 * n, #result.tool_calls[1]["function"].arguments)
            return seconds
        end
        run(1000)
        local short = math.min(run(10000), run(10000), run(10000))
        local long = math.min(run(100000), run(100000))
        assert.is_true(long < 40 * short, ("%g s and %g s"):format(short, long))
    end)
end)

describe("chat.collect", function()
    local TEXTS = { delta '"content":"a"', delta '"content":"b"', delta('', '"stop"') }

    local function chunks()
        local list = {}
        for i, text in ipairs(TEXTS) do
            list[i] = decode(text)
        end
        return list
    end

    --- What predict_stream returns: an iterator that collects by itself. Notes what happens to it.
    local function stream(list, log)
        local own, position = chat.collector(), 0
        return setmetatable({
            collected = function()
                log[#log + 1] = "collected"
                return own
            end,
        }, {
            __call = function()
                position = position + 1
                local chunk = list[position]
                if type(chunk) == "string" then
                    error(chunk, 0)
                elseif chunk then
                    own:add(chunk)
                else
                    log[#log + 1] = "end"
                end
                return chunk
            end,
            __close = function()
                log[#log + 1] = "closed"
            end,
        })
    end

    it("takes a list", function()
        assert.equal("ab", chat.collect(chunks()).choices[1].message.content)
        assert.equal("ab", chat.collect(json.array(chunks())).choices[1].message.content)
        assert.is_nil(chat.collect {})
    end)

    it("takes an iterator", function()
        local answer = chat.collect(coroutine.wrap(function()
            for _, chunk in ipairs(chunks()) do
                coroutine.yield(chunk)
            end
        end))
        assert.equal("ab", answer.choices[1].message.content)
        assert.equal("stop", answer.choices[1].finish_reason)
        assert.is_nil(chat.collect(function() end))
    end)

    it("takes the values of a for loop", function()
        local list, log = chunks(), {}
        local closing = setmetatable({}, {
            __close = function()
                log[#log + 1] = "closed"
            end,
        })
        local previous, position = {}, 0
        local function following(state, chunk)
            previous[position], position = chunk, position + 1
            return state[position]
        end
        assert.equal("ab", chat.collect(following, list, nil, closing).choices[1].message.content)
        assert.same({ "closed" }, log)
        assert.equal(list[1], previous[1])
    end)

    it("leaves a stream that collects to itself", function()
        local log = {}
        assert.equal("ab", chat.collect(stream(chunks(), log)).choices[1].message.content)
        assert.same({ "end", "closed", "collected" }, log)
        assert.is_nil(chat.collect(stream({}, log)))
    end)

    it("takes any other table that can be called", function()
        local list = chunks()
        local answer = chat.collect(setmetatable({}, {
            __call = function()
                return table.remove(list, 1)
            end,
        }))
        assert.equal("ab", answer.choices[1].message.content)
    end)

    it("passes on what the stream raises, and closes it", function()
        local log, list = {}, chunks()
        list[2] = "boom"
        local ok, err = pcall(chat.collect, stream(list, log))
        assert.is_false(ok)
        assert.equal("boom", err)
        assert.same({ "closed" }, log)
    end)

    it("refuses what is none of these", function()
        local wrong = {
            false, 1, "x", json.null, { choices = {} }, decode(TEXTS[1]), setmetatable({ a = 1 }, {}), io.stdout,
        }
        for i = 1, #wrong + 1 do
            local err = usage_error(function()
                chat.collect(wrong[i])
            end)
            assert.matches("^chat.collect takes a stream, an iterator or a list of chunks, got ", err.message)
        end
        assert.matches("got nil$", usage_error(function() chat.collect() end).message)
    end)
end)
