--- What the gateway says to bodies that are wrong, and what it makes of those that are right.
local bodies = require "support.gateway_bodies"
local gateway = require "moonflow.gateway"
local json = require "moonflow.json"
local json_fault = require "moonflow.gateway.json_fault"
local reference = require "support.gateway_reference"
local schema = require "moonflow.gateway.schema"

local HI = '"messages":[{"role":"user","content":"hi"}]'

local function read(body, face, kind)
    return schema.read(face or "mlflow", "llm/v1/" .. (kind or "chat"), body)
end

--- The one fault of a body.
local function fault(body, face, kind)
    local inputs, status, detail = read(body, face, kind)
    assert.is_nil(inputs)
    assert.equal(422, status)
    assert.equal(1, #detail)
    return detail[1]
end

--- What MLflow fills in. A handler finds what the client gave, and no more.
local FILLED_IN = { n = true, type = true, summary = true, strict = true }

local function may_lack(key)
    return FILLED_IN[key] ~= nil
end

--- The inputs that MLflow's gateway handed to its provider.
local function inputs_of(answer)
    local body = json.decode(answer.body)
    if body.data then
        return json.decode(body.data[1].embedding)
    end
    local choice = body.choices[1]
    return json.decode(choice.text or choice.message.content)
end

describe("schema", function()
    it("finds what MLflow's gateway finds, field by field", function()
        local list, requests = bodies.all(), {}
        for i, case in ipairs(list) do
            requests[i] = {
                method = "POST", path = "/gateway/" .. case[1] .. "/invocations", body = case[2],
                headers = { ["content-type"] = "application/json" },
            }
        end
        local heard
        local served = gateway.new(reference.endpoints(function(inputs)
            heard = inputs
        end))
        local wrong, count = {}, { [200] = 0, [422] = 0 }
        for i, theirs in ipairs(reference.ask(requests)) do
            local ours, lines = reference.play(served, requests[i]), {}
            count[theirs.status] = (count[theirs.status] or 0) + 1
            reference.differ(theirs.status, ours.status, "status", lines)
            if theirs.status == 200 and ours.status == 200 then
                reference.differ(inputs_of(theirs), heard, "inputs", lines, may_lack, true)
            else
                reference.differ(json.decode(theirs.body), json.decode(ours.body), "body", lines)
            end
            if #lines > 0 then
                wrong[#wrong + 1] = list[i][1] .. " " .. list[i][2] .. "\n    " .. table.concat(lines, "\n    ")
            end
        end
        assert(#wrong == 0, ("%d of %d differ:\n%s"):format(#wrong, #list, table.concat(wrong, "\n")))
        assert.is_true(count[200] > 100 and count[422] > 300)
    end)

    -- Where both can not be the same:
    --   body                      MLflow             moonflow
    --   NaN, Infinity             500                422: it is no JSON
    --   "\ud800" (half a letter)  500                400: it is no JSON
    --   a number above 1e308      500 or 422         400: it is no JSON
    --   UTF-16, UTF-32            read               400: JSON is UTF-8
    --   over 100 faults           all are named      the first 100
    --   a large wrong input       shown whole        cut to 4096 bytes
    --   fields that are not known dropped in nested  kept: the handler may know them
    --                             objects
    for body, expected in pairs {
        ["NaN"] = 0, ['{"a":-Infinity}'] = 5, ["{" .. HI .. ',"temperature":NaN}'] = 59,
    } do
        it("refuses " .. body:sub(-12) .. ", which is no JSON", function()
            local found = fault(body)
            assert.equal("json_invalid", found.type)
            assert.equal("Expecting value", found.ctx.error)
            assert.same(json.array { "body", expected }, found.loc)
        end)
    end

    for name, body in pairs {
        ["half of a surrogate"] = '"\\ud800"', ["UTF-16"] = "\xff\xfe{\0}\0", ["a number too large"] = "1e400",
        ["201 levels"] = ("["):rep(201) .. ("]"):rep(201), ["a level without end"] = ("["):rep(100000),
    } do
        it("refuses " .. name, function()
            local inputs, status, detail = read(body)
            assert.is_nil(inputs)
            assert.equal(400, status)
            assert.equal("There was an error parsing the body", detail)
        end)
    end

    it("names 100 faults and no more", function()
        local _, _, detail = read('{"messages":[' .. ("1,"):rep(5000) .. "1]}")
        assert.equal(100, #detail)
        assert.same(json.array { "body", "messages", 99 }, detail[100].loc)
        _, _, detail = read('{"input":[' .. ("null,"):rep(5000) .. "1]}", "mlflow", "embeddings")
        assert.equal(100, #detail)
    end)

    it("shows no more than a part of a large input", function()
        local found = fault('{"messages":"' .. ("x"):rep(100000) .. '"}')
        assert.equal("list_type", found.type)
        assert.is_true(#found.input < 4200)
        found = fault('{"a":[' .. ('"abc",'):rep(50000) .. '"d"]}')
        assert.equal("missing", found.type)
        assert.is_true(#json.encode(found.input) < 10000)
        assert.equal("abc", found.input.a[1])
    end)

    it("cuts a tag, and a name in a place", function()
        local part = '{"messages":[{"role":"u","content":[{"type":"%s"}]}]}'
        local _, _, detail = read(part:format(("t"):rep(5000)))
        assert.equal("union_tag_invalid", detail[2].type)
        assert.is_true(#detail[2].msg < 400)
        local tools = '{%s,"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"%s":1}}}}]}'
        local found = fault(tools:format(HI, ("p"):rep(5000)))
        assert.is_true(#found.loc[#found.loc] < 300)
    end)

    it("makes numbers and booleans of texts, and takes null out", function()
        local inputs = read("{" .. HI
            .. ',"n":"2","max_tokens":3.0,"temperature":"0.5","stream":"no","stop":null,"user":null}')
        assert.equal(2, inputs.n)
        assert.equal("integer", math.type(inputs.max_tokens))
        assert.equal(0.5, inputs.temperature)
        assert.is_false(inputs.stream)
        assert.is_nil(inputs.stop)
        assert.is_nil(inputs.user)
    end)

    it("leaves a body that is wrong as it was, so that the fault shows what the client sent", function()
        assert.same({ n = "2", stop = json.null }, fault('{"n":"2","stop":null}').input)
    end)

    it("keeps what it does not know", function()
        local inputs = read('{"messages":[{"role":"u","content":"x","name":"bob"}],"foo":{"a":null}}')
        assert.equal("bob", inputs.messages[1].name)
        assert.equal(json.null, inputs.foo.a)
    end)

    for _, fields in ipairs {
        '"stop":"x"', '"n":null', '"tools":[{"type":"custom"}]', '"tool_choice":{"type":"custom"}',
        '"response_format":{"type":"grammar"}',
    } do
        it("takes " .. fields .. " on OpenAI's face only", function()
            local body = "{" .. HI .. "," .. fields .. "}"
            assert.is_nil(read(body))
            assert.is_table(read(body, "openai"))
        end)
    end

    it("takes every kind of prompt on OpenAI's face", function()
        for _, prompt in ipairs { '"x"', '["a","b"]', "[1,2]", "[[1],[2]]" } do
            assert.is_table(read('{"prompt":' .. prompt .. "}", "openai", "completions"))
        end
        assert.is_nil(read('{"prompt":["a","b"]}', "mlflow", "completions"))
    end)

    for body, expected in pairs {
        ["{}"] = { "messages: Field required", "messages" },
        ['{"messages":[{"content":"x"},1]}'] = { "messages[0].role: Field required (and 1 more)", "messages[0].role" },
        ['{"messages":[{"role":"u","content":1}]}'] = {
            "messages[0].content: Input should be a valid string (and 1 more)", "messages[0].content",
        },
        ["[]"] = { "Input should be a valid dictionary or object to extract fields from" },
        [""] = { "Field required" },
        ['{"a":}'] = { "the body is no JSON: Expecting value, at character 5" },
        ['"\\ud800"'] = { "There was an error parsing the body" },
    } do
        it(("describes what is wrong with %q"):format(body), function()
            local _, _, detail = read(body, "openai")
            local message, place = schema.describe(detail)
            assert.equal(expected[1], message)
            assert.equal(expected[2], place)
        end)
    end

    it("checks the body of limits", function()
        assert.is_table(schema.read_limits '{"route":"x","limits":[{}]}')
        local _, status, detail = schema.read_limits '{"route":1,"limits":[1]}'
        assert.equal(422, status)
        assert.equal("string_type", detail[1].type)
        assert.equal("dict_type", detail[2].type)
    end)
end)

describe("json_fault", function()
    it("counts characters, not bytes", function()
        local message, position = json_fault.find '{"\xe6\x97\xa5": x}'
        assert.equal("Expecting value", message)
        assert.equal(6, position)
    end)

    it("finds nothing in JSON", function()
        for _, text in ipairs { "{}", "[]", ' {"a": [1, -2.5e3, "\\u00e9", true, null, {}]} ', '"x"', "0" } do
            assert.is_nil(json_fault.find(text))
        end
    end)

    it("agrees with moonflow.json on every beginning of a text", function()
        local text = '{"a": [1.5e3, "b\\n\\u00e9", {"c": null, "d": [true, false]}, [], {}], "e": -0}'
        for last = 1, #text - 1 do
            local part = text:sub(1, last)
            assert.is_nil(json.decode(part))
            local message, position = json_fault.find(part)
            assert.is_string(message, part)
            assert.is_true(position <= last)
        end
    end)
end)
