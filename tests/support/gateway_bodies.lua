--- Bodies for the gateway, right and wrong ones: what MLflow's gateway says to them is its behaviour as moonflow
-- has to have it.
local bodies = {}

local MESSAGES = '"messages":[{"role":"user","content":"hi"}]'

--- No JSON, or no object.
bodies.broken = {
    "", "[]", "null", "1", '"x"', "true", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{a:1}", "{'a':1}",
    "[1", "[1,", "[1,]", "nul", "tru", "truex", "-", "1.", "01", "1e", "1e+", '"abc', '"a\\x"', '"a\\u12"', '"a\nb"',
    "{} x", "{}{}", " ", "\n\n {\n \"messages\": [}", '"\xc3\xa9" x', '{"a":1 "b"}', '{"a" 1}', "{1:2}", "[1 2]",
    "{" .. MESSAGES .. ",}", '{"a":"\1"}', '"\\', '{"', "[", '{"a":[{"b":}]}', "+1", ".5", "\f{}", "[1,,2]", "{,}",
    "-x", '"\\uZZZZ"', '"\\uD83D\\u00"', '"\\u1234', '{"a":tru}', '{"a":\0}', '{"messages":"\xff"}', "[[1],[2,{}]]]",
    '{"a":{"b":[1,{"c":2 ]}}', "\xef\xbb\xbf{}", '{"a":"\\"}', "[\"a\\tb\",\"c\\d\"]", '{"a":1,"b"}', "[}", "{]",
    '{"\xe6\x97\xa5\xe6\x9c\xac": x}',
}

--- What stands for the messages of a chat.
bodies.messages = {
    "[]", "null", '"x"', "{}", "[1]", "[null]", '["x"]', "[[]]", "[{}]", '[{"role":"user"}]', '[{"role":1}]',
    '[{"role":null,"content":"x"}]', '[{"content":"x"}]', '[{"role":"nobody","content":"x"}]',
    '[{"role":"u","content":1}]', '[{"role":"u","content":true}]', '[{"role":"u","content":{}}]',
    '[{"role":"u","content":[]}]', '[{"role":"u","content":["x"]}]', '[{"role":"u","content":[{}]}]',
    '[{"role":"u","content":[{"type":"x"}]}]', '[{"role":"u","content":[{"type":1}]}]',
    '[{"role":"u","content":[{"type":null}]}]', '[{"role":"u","content":[{"type":true}]}]',
    '[{"role":"u","content":[{"type":"text"}]}]', '[{"role":"u","content":[{"type":"text","text":1}]}]',
    '[{"role":"u","content":[{"type":"text","text":"a","x":1}]}]', '[{"role":"u","content":[{"type":"image_url"}]}]',
    '[{"role":"u","content":[{"type":"image_url","image_url":"x"}]}]',
    '[{"role":"u","content":[{"type":"image_url","image_url":{}}]}]',
    '[{"role":"u","content":[{"type":"image_url","image_url":{"url":"x","detail":"y"}}]}]',
    '[{"role":"u","content":[{"type":"image_url","image_url":{"url":"x","detail":"low"}}]}]',
    '[{"role":"u","content":[{"type":"image_url","image_url":{"url":"x","detail":null}}]}]',
    '[{"role":"u","content":[{"type":"input_audio","input_audio":{"data":1,"format":"ogg"}}]}]',
    '[{"role":"u","content":[{"type":"input_audio","input_audio":{"data":"x","format":"wav"}}]}]',
    '[{"role":"u","content":[{"type":"reasoning"}]}]',
    '[{"role":"u","content":[{"type":"reasoning","summary":[{"type":"x","text":1}],"id":3}]}]',
    '[{"role":"u","content":[{"type":"reasoning","summary":null}]}]',
    '[{"role":"u","content":null,"tool_calls":null,"refusal":null,"name":"bob"}]',
    '[{"role":"u","content":"x","refusal":1,"tool_call_id":2}]', '[{"role":"a","tool_calls":[]}]',
    '[{"role":"a","tool_calls":[{}]}]', '[{"role":"a","tool_calls":{}}]',
    '[{"role":"a","tool_calls":[{"id":1,"function":{"name":1,"arguments":{}}}]}]',
    '[{"role":"a","tool_calls":[{"id":"1","type":null,"function":null}]}]',
    '[{"role":"a","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}]',
    '[{"role":"a","tool_calls":[{"id":"1","type":"function","function":{"name":"f"},"thought_signature":"t"}]}]',
    '[{"role":"u","content":"hi"},1,{}]',
}

local NUMBERS = {
    "null", "0", "1", "-1", "2", "3", "0.5", "2.5", "1.0", "true", "false", '"1"', '"x"', '"1.0"', '"0.5"', '" 1 "',
    '"1_0"', '""', '"+1"', '"1e2"', '"true"', "[]", "{}", "1000000000000000000000000000000",
    "-1000000000000000000000000000000", "1e300", '"111111111111111111111111111111"', '"0x1"', '"\xd9\xa1"', '"-0"',
    '"1."', '"0001"', '"1.5"', '"inf"', '"nan"', '"Infinity"', '"-inf"', '"-1"', '"2.1"', '".5"', '"1e400"', '"_1"',
    '"1__0"', '"1_"', "9223372036854775807", "9223372036854775808", '"."', '"-"', '"1 2"',
}

local BOOLEANS = {
    "null", "false", "0", "2", "0.0", "0.5", '"FALSE"', '"no"', '"off"', '"f"', '"n"', '"0"', '"2"', '"x"', '""',
    '" false"', "[]", "{}", "-1",
}

local function tool(fields)
    return '[{"type":"function","function":{"name":"f",' .. fields .. "}}]"
end

local function properties(fields)
    return tool('"parameters":{"properties":' .. fields .. "}")
end

--- Values of the fields of a chat.
bodies.fields = {
    n = NUMBERS, max_tokens = NUMBERS, max_completion_tokens = NUMBERS, top_k = NUMBERS, temperature = NUMBERS,
    top_p = NUMBERS, presence_penalty = NUMBERS, frequency_penalty = NUMBERS,
    stream = BOOLEANS,
    stop = { "null", "[]", '"x"', '["a"]', "[1]", '["a",null]', "{}", "1", '["a","b"]' },
    stream_options = { "null", "{}", "[]", '"x"', '{"include_usage":true}', "1" },
    model = { "null", '"m"', "1", '""', "[]", "true" },
    response_format = {
        "null", "{}", '"x"', '{"type":"x"}', '{"type":"text"}', '{"type":"json_object","x":1}', '{"type":1}',
        '{"type":"json_schema"}', '{"type":"json_schema","json_schema":{}}', '{"type":"json_schema","json_schema":"x"}',
        '{"type":"json_schema","json_schema":{"name":1,"schema":[],"strict":"x"}}',
        '{"type":"json_schema","json_schema":{"name":"a","schema":{},"strict":null}}',
        '{"type":"json_schema","json_schema":{"name":"a","schema":{"a":1},"strict":"no","z":1}}',
    },
    tools = {
        "null", "[]", "{}", '"x"', "[1]", "[{}]", '[{"type":"x"}]', '[{"type":"function"}]',
        '[{"type":"uc_function","uc_function":{"name":"a"},"z":1}]', '[{"type":"uc_function","uc_function":{}}]',
        '[{"type":"function","function":{}}]', '[{"type":"function","function":1}]',
        '[{"type":"function","function":null}]', tool '"description":1,"strict":"x","parameters":1',
        tool '"parameters":{}', tool '"parameters":null,"strict":null', tool '"strict":"yes"', properties "[]",
        properties '{"a":1}',
        tool '"parameters":{"type":"x","properties":{},"required":1,"additionalProperties":{}}',
        tool '"parameters":{"type":null,"properties":{},"required":["a",1]}',
        properties '{"a":{"type":"string","description":"d","enum":["a",1,1.5,true],"format":"x"}}',
        properties '{"a":{"type":"x"}}', properties '{"a":{"type":["string","null"]}}', properties '{"a":{"type":1}}',
        properties '{"a":{"type":["string","x"]}}', properties '{"a":{"type":[]}}', properties '{"a b":{"type":null}}',
        properties '{"a":{"enum":[null,{}]}}', properties '{"a":{"enum":1}}', properties '{"a":{"items":1}}',
        properties '{"a":{"type":"array","items":{"type":"array","items":{"type":"x"}}}}',
        properties '{"a":{"items":{"type":"array","items":{"type":"string","z":1}}}}',
    },
    tool_choice = {
        "null", '"none"', '"auto"', '"required"', '"x"', "1", "{}", "[]", '{"type":"function"}',
        '{"type":"function","function":{}}', '{"type":"function","function":{"name":"f"},"z":1}',
        '{"type":"x","function":{"name":1}}', '{"type":"function","function":null}',
    },
    foo = { "null", '{"b":[1,null]}' },
}

--- Whole bodies, by the name of the endpoint.
bodies.whole = {
    { "chat", "{}" },
    { "chat", '{"n":0,"temperature":3,"stop":[],"messages":[]}' },
    { "chat", '{"stop":[1],"foo":1}' },
    { "chat", '{"n":"2","max_tokens":null}' },
    { "chat", '{"stream":true}' },
    { "chat", '{"stream":"yes"}' },
    { "completions", "{}" },
    { "completions", "[]" },
    { "completions", '{"prompt":"x","model":"m"}' },
    { "completions", '{"prompt":"x","n":0,"stop":[],"max_tokens":0,"suffix":"s","echo":true}' },
    { "completions", '{"prompt":"x","temperature":2.5,"messages":[]}' },
    { "completions", '{"prompt":"x","tools":1,"tool_choice":2}' },
    { "completions", '{"n":0}' },
    { "embeddings", "" },
    { "embeddings", "{}" },
    { "embeddings", "[1]" },
    { "embeddings", '{"input":"x","model":"m"}' },
    { "embeddings", '{"input":"x","model":1}' },
    { "embeddings", '{"input":"x","model":null}' },
    { "embeddings", '{"input":"x","encoding_format":"float","dimensions":"a","user":null}' },
}

for _, prompt in ipairs { "null", "1", '"x"', '""', "[]", '["a"]', "[1]", "{}", "true" } do
    table.insert(bodies.whole, { "completions", '{"prompt":' .. prompt .. "}" })
end

for _, input in ipairs {
    "null", "1", "1.5", '"x"', '""', "[]", '["a"]', "[1]", "[[1,2],[3]]", "[[]]", '[["a"]]', '["a",1]', '[1,"a"]',
    "[1.5]", "[1.0]", "[true]", '["1"]', "[null]", "[[1],2]", "[[1.5]]", "{}", "true", '["a",null]', '[[1],["2"]]',
    '[[1],["x"]]', '["1",2]', "[[[1]]]",
} do
    table.insert(bodies.whole, { "embeddings", '{"input":' .. input .. "}" })
end

--- All of them, as {name of the endpoint, body}.
---@return table[]
function bodies.all()
    local list = {}
    for _, body in ipairs(bodies.broken) do
        list[#list + 1] = { "chat", body }
    end
    for _, messages in ipairs(bodies.messages) do
        list[#list + 1] = { "chat", '{"messages":' .. messages .. "}" }
    end
    for name, values in pairs(bodies.fields) do
        for _, value in ipairs(values) do
            list[#list + 1] = { "chat", ('{%s,"%s":%s}'):format(MESSAGES, name, value) }
        end
    end
    return table.move(bodies.whole, 1, #bodies.whole, #list + 1, list)
end

return bodies
