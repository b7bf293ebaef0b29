local json = require "moonflow.json"

local tests = debug.getinfo(1, "S").source:match("^@(.*)spec/[^/]*$") or "tests/"
local hostile = dofile(tests .. "json/hostile.lua")

--- The value of a text that has to be JSON.
local function decode(text)
    local value, err = json.decode(text)
    assert.is_nil(err, tostring(err))
    return value
end

local function assert_refused(kind, words, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind)
    assert.truthy(err.message:find(words, 1, true), err.message)
end

--- assert.equal for loops of many rounds: luassert takes its time.
local function same(expected, value, about)
    if expected ~= value then
        assert.equal(expected, value, about)
    end
end

--- What string.format and tonumber say about the shortest of 15, 16 and 17 digits.
local function shortest(value)
    for digits = 15, 17 do
        local text = ("%." .. digits .. "g"):format(value)
        if tonumber(text) == value or digits == 17 then
            return text:find("[.e]") and text or text .. ".0"
        end
    end
end

describe("json.decode", function()
    for _, case in ipairs(hostile.refused) do
        local name, text, byte, words = table.unpack(case)
        it("refuses: " .. name, function()
            assert_refused("decode", words, json.decode(text))
            local _, err = json.decode(text)
            assert.equal(("invalid JSON at byte %d: "):format(byte), err.message:match("^.-: "))
        end)
    end

    for _, case in ipairs(hostile.taken) do
        local name, text, expected = table.unpack(case)
        it("takes: " .. name, function()
            local encoded = assert(json.encode(decode(text)))
            if expected then
                assert.equal(expected, encoded)
            else
                assert.same(decode(text), decode(encoded))
            end
        end)
    end

    it("refuses a document that is cut anywhere", function()
        local text = '{"a":[1,-2.5e+3,true,false,null,"\\u00e9\\ud83d\\ude00é\\n"],"b":{"c":{}}} '
        decode(text)
        for n = 0, #text - 2 do
            local value, err = json.decode(text:sub(1, n))
            assert.is_nil(value, "cut at " .. n)
            assert.equal("decode", err.kind)
            local byte = tonumber(err.message:match("at byte (%d+)"))
            assert.is_true(byte >= 1 and byte <= n + 1, err.message)
        end
    end)

    it("refuses every byte that a string can not hold, at every place in a word", function()
        for place = 0, 17 do
            for _, byte in ipairs { 0x00, 0x0A, 0x1F, 0x80, 0xC1, 0xFF } do
                local text = '"' .. ("x"):rep(place) .. string.char(byte) .. ("y"):rep(9) .. '"'
                local _, err = json.decode(text)
                assert.equal(place + 2, tonumber(err.message:match("at byte (%d+)")))
            end
            for _, byte in ipairs { 0x20, 0x21, 0x23, 0x2F, 0x5B, 0x5D, 0x7E, 0x7F } do
                local text = ("x"):rep(place) .. string.char(byte) .. ("y"):rep(9)
                assert.equal(text, decode('"' .. text .. '"'))
            end
        end
    end)

    it("knows every character from bytes that are none", function()
        for c = 0x80, 0x10FFFF, 61 do
            local text = utf8.char(c)
            local value, err = json.decode('"' .. text .. '"')
            if c >= 0xD800 and c <= 0xDFFF then -- utf8.char writes surrogates too
                assert_refused("decode", "UTF-8", value, err)
            else
                same(text, value)
            end
        end
    end)

    it("tells integers from floats", function()
        local values = decode("[1,1.0,1e0,-0,0,9223372036854775807,-9223372036854775808]")
        local types = {}
        for i, value in ipairs(values) do
            types[i] = math.type(value)
        end
        assert.same({ "integer", "float", "float", "float", "integer", "integer", "integer" }, types)
        assert.equal(math.maxinteger, values[6])
        assert.equal(math.mininteger, values[7])
        assert.equal(-math.huge, 1 / values[4])
    end)

    it("keeps the digits of integers beyond int64", function()
        for _, digits in ipairs { "9223372036854775808", "-9223372036854775809", "18446744073709551616",
            "10000000000000000000", "99999999999999999999", "-" .. ("7"):rep(300) } do
            local value = decode(digits)
            assert.equal("userdata", type(value))
            assert.equal(digits, tostring(value))
            assert.equal(digits, assert(json.encode(value)))
            assert.is_true(value == decode(digits))
            assert.is_false(value == decode(digits .. "0"))
            assert.equal(tonumber(digits .. ".0"), tonumber(tostring(value)))
        end
    end)

    it("reads the same doubles as Lua", function()
        math.randomseed(7)
        for _ = 1, 20000 do
            local value = string.unpack("<d", string.pack("<i8", math.random(0)))
            if value == value and math.abs(value) ~= math.huge then
                for digits = 14, 22, 2 do
                    local text = ("%." .. digits .. "e"):format(value)
                    same(tonumber(text), json.decode(text), text)
                end
            end
            local text = ("%s%d.%0" .. math.random(19) .. "de%d"):format(math.random(2) == 1 and "-" or "",
                math.random(0) >> math.random(1, 63), math.random(0) >> math.random(1, 63), math.random(-60, 60))
            same(tonumber(text), json.decode(text), text)
        end
    end)

    it("marks arrays, and only them", function()
        local value = decode('[[],{},[{"a":[]}]]')
        assert.is_true(json.is_array(value))
        assert.is_true(json.is_array(value[1]))
        assert.is_false(json.is_array(value[2]))
        assert.is_true(json.is_array(value[3][1].a))
        assert.equal(getmetatable(value), getmetatable(json.array()))
    end)

    it("gives null as the value that cjson gives", function()
        assert.equal(json.null, decode("null"))
        assert.equal(json.null, decode('{"a":null}').a)
        local found, cjson = pcall(require, "cjson")
        if found then
            assert.equal(cjson.null, json.null)
        end
    end)

    it("reads arrays and objects of any size", function()
        for _, n in ipairs { 1, 15, 16, 17, 255, 5000, 20000 } do
            local elements, fields = {}, {}
            for i = 1, n do
                elements[i] = tostring(i)
                fields[i] = ('"k%d":%d'):format(i, i)
            end
            local array = decode("[" .. table.concat(elements, ",") .. "]")
            assert.equal(n, #array)
            local object = decode("{" .. table.concat(fields, ",") .. "}")
            for i = 1, n do
                same(i, array[i])
                same(i, object["k" .. i])
            end
        end
    end)

    it("takes the last of repeated keys, near and far", function()
        local fields = {}
        for i = 1, 20000 do
            fields[i] = ('"k%d":%d'):format(i % 7000, i)
        end
        local object = decode("{" .. table.concat(fields, ",") .. "}")
        for i = 13001, 20000 do
            same(i, object["k" .. i % 7000])
        end
    end)

    it("does not overflow Lua's stack where every level is full", function()
        local parts = {}
        for level = 1, 200 do
            parts[level] = "[" .. ("0,"):rep(5000)
        end
        local value = decode(table.concat(parts) .. "0" .. ("]"):rep(200))
        for _ = 1, 199 do
            assert.equal(5001, #value)
            value = value[5001]
        end
    end)

    it("has a limit of size", function()
        assert_refused("decode", "limit", json.decode((" "):rep(64 * 1024 * 1024) .. "1"))
    end)

    it("raises where the argument is no text", function()
        for _, value in ipairs { 1, true, {}, print } do
            local raised, err = pcall(json.decode, value)
            assert.is_false(raised)
            assert.equal("usage", err.kind)
        end
        assert.is_false((pcall(json.decode)))
    end)
end)

describe("json.encode", function()
    it("writes each kind of value", function()
        local cases = {
            { true, "true" }, { false, "false" }, { json.null, "null" }, { 0, "0" }, { -7, "-7" },
            { math.maxinteger, "9223372036854775807" }, { math.mininteger, "-9223372036854775808" },
            { 1.0, "1.0" }, { -0.0, "-0.0" }, { 0.1, "0.1" }, { 1e15, "1e+15" }, { 123456.789, "123456.789" },
            { 1234567890123456.0, "1234567890123456.0" }, { 0.30000000000000004, "0.30000000000000004" },
            { "", '""' }, { "a", '"a"' }, { {}, "{}" }, { json.array(), "[]" }, { json.array {}, "[]" },
            { { 1, 2 }, "[1,2]" }, { { a = 1 }, '{"a":1}' }, { { {} }, "[{}]" }, { { ["1"] = 1 }, '{"1":1}' },
        }
        for _, case in ipairs(cases) do
            assert.equal(case[2], assert(json.encode(case[1])))
        end
    end)

    it("escapes what JSON forbids in a string, and nothing else", function()
        local text, expected = {}, {}
        local short = {
            [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r", [34] = '\\"', [92] = "\\\\",
        }
        for byte = 0, 0x7F do
            text[#text + 1] = string.char(byte)
            expected[#expected + 1] = short[byte] or byte < 0x20 and ("\\u%04x"):format(byte) or string.char(byte)
        end
        text = table.concat(text) .. "é\u{2028}\u{1F600}"
        expected = '"' .. table.concat(expected) .. "é\u{2028}\u{1F600}" .. '"'
        assert.equal(expected, json.encode(text))
        assert.equal("{" .. expected .. ":1}", json.encode { [text] = 1 })
    end)

    it("writes the shortest of 15, 16 and 17 digits that reads back", function()
        math.randomseed(11)
        local function check(value)
            local text = assert(json.encode(value))
            same(value, json.decode(text), text)
            same("float", math.type(json.decode(text)), text)
            if value ~= math.floor(value) or math.abs(value) >= 1e15 then
                same(shortest(value), text)
            end
        end
        for _ = 1, 20000 do
            local value = string.unpack("<d", string.pack("<i8", math.random(0)))
            if value == value and math.abs(value) ~= math.huge then
                check(value)
            end
            check((math.random() - 0.5) * 10.0 ^ math.random(-6, 18))
            check(math.random(0) / 10.0 ^ math.random(0, 22))
            check(math.random(1000000) / 10.0 ^ math.random(1, 9))
        end
        for power = -8, 24 do
            local value = tonumber("1e" .. power)
            local bits = string.unpack("<i8", string.pack("<d", value))
            for step = -3, 3 do
                check((string.unpack("<d", string.pack("<i8", bits + step))))
            end
        end
    end)

    it("reads and writes a point whatever the locale", function()
        local texts = { "0.5", "-1234.5678", "1.7976931348623157e+308", "2.2250738585072014e-308", "1e-05",
            "1.2345678901234568e+17", "1234567890123456.0", "0.30000000000000004" }
        local tried = 0
        for _, name in ipairs { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "ps_AF.UTF-8" } do
            if os.setlocale(name, "numeric") then
                tried = tried + 1
                local ok, failure = pcall(function()
                    for _, text in ipairs(texts) do
                        assert.equal(text, json.encode(decode(text)))
                    end
                end)
                os.setlocale("C", "numeric")
                assert.is_true(ok, tostring(failure))
            end
        end
        if tried == 0 then
            pending("no locale with a decimal comma is installed")
        end
    end)

    it("takes a table with the keys 1..n as an array, however it was filled", function()
        local reversed = {}
        for i = 50, 1, -1 do
            reversed[i] = i
        end
        local grown = { [4] = 4, [3] = 3 }
        grown[1], grown[2] = 1, 2
        assert.equal("[1,2,3,4]", json.encode(grown))
        assert.equal(table.concat(reversed, ","), json.encode(reversed):sub(2, -2))
        assert.equal("[1,2,3,4]", json.encode(json.array(grown)))
    end)

    it("sorts keys by their bytes where asked", function()
        local value = { b = 1, a = { ["é"] = 1, z = 2, Z = 3, [""] = 4, zz = 5, ["z\0"] = 6 }, aa = 3 }
        local text = '{"a":{"":4,"Z":3,"z":2,"z\\u0000":6,"zz":5,"é":1},"aa":3,"b":1}'
        assert.equal(text, json.encode(value, { sort = true }))
        assert.same(value, decode(json.encode(value, { sort = false })))
    end)

    it("refuses what has no JSON form, and names the place", function()
        local loop = {}
        loop.self = { loop }
        local deep = {}
        for _ = 1, 200 do
            deep = { deep }
        end
        local cases = {
            { nil, "$: nil" },
            { print, "$: a function" },
            { { messages = { { content = "a" }, { content = print } } }, "$.messages[2].content: a function" },
            { { coroutine.create(print) }, "$[1]: a thread" },
            { { io.stdout }, "$[1]: a userdata" },
            { { a = 0 / 0 }, "$.a: NaN" },
            { { a = { -math.huge } }, "$.a[1]: infinity" },
            { { ["a-b"] = { ["c\n"] = print } }, '$["a-b"]["c?"]: a function' },
            { { 1, nil, 3 }, "$: an array with holes: 2 elements, the last is [3]" },
            { { x = { [3] = 1 } }, "$.x: an array with holes" },
            { json.array { [2] = 1 }, "$: an array with holes" },
            { { 1, 2, a = 3 }, "$: a table with both names and numbers" },
            { json.array { a = 1 }, "$: a table with both names and numbers" },
            { { [0] = 1 }, "$: an array with a key that is not one of 1, 2, 3" },
            { { 1, [1.5] = 2 }, "$: an array with a key that is not one of 1, 2, 3" },
            { { [true] = 1 }, "$: a key that is a boolean" },
            { { [1.5] = 1 }, "$: a key that is a number" },
            { loop, "nested deeper than 200 levels" },
            { deep, "nested deeper than 200 levels" },
            { { a = "x\xFF" }, "$.a: a string that is not valid UTF-8 at its byte 2" },
            { { a = { ["\xC0\x80"] = 1 } }, "$.a: a key that is not valid UTF-8 at its byte 1" },
            { { "\xED\xA0\x80" }, "$[1]: a string that is not valid UTF-8 at its byte 1" },
        }
        for _, case in ipairs(cases) do
            assert_refused("usage", case[2], json.encode(case[1]))
            assert_refused("usage", case[2], json.encode(case[1], { sort = true }))
        end
        local mixed = { a = 1, b = 2, [7] = 3, [8] = 4 }
        assert_refused("usage", "$: a", json.encode(mixed))
    end)

    it("names a very deep place only in part", function()
        local value = { print }
        for _ = 1, 150 do
            value = { ["a long key, to fill the message"] = value }
        end
        local _, err = json.encode(value)
        assert.truthy(err.message:find("...: a function has no JSON form", 1, true), err.message)
    end)

    it("encodes what decode takes, down to the deepest level", function()
        local text = ("["):rep(200) .. ("]"):rep(200)
        assert.equal(text, json.encode(decode(text)))
    end)

    it("stays usable after a failure, and within itself", function()
        assert.is_nil((json.encode { a = print }))
        assert.equal("[1]", json.encode { 1 })
        local inner
        local guard = setmetatable({}, { __gc = function() inner = json.encode { "inner" } end })
        assert.is_table(guard)
        guard = nil -- luacheck: ignore
        local list = {}
        for i = 1, 20000 do
            list[i] = "element " .. i
        end
        local text = json.encode(list)
        collectgarbage()
        assert.equal('["inner"]', inner)
        assert.same(list, decode(text))
    end)

    it("does not call metamethods", function()
        local proxy = setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error })
        assert.equal('{"a":1}', json.encode(proxy))
    end)

    it("raises on misuse", function()
        for _, arguments in ipairs { {}, { 1, 2 }, { 1, { sorted = true } }, { 1, { 1 } } } do
            local raised, err = pcall(json.encode, table.unpack(arguments))
            assert.is_false(raised)
            assert.equal("usage", err.kind)
        end
    end)
end)

describe("json.array", function()
    it("marks a table and returns it", function()
        local list = {}
        assert.equal(list, json.array(list))
        assert.is_true(json.is_array(list))
        assert.equal(list, json.array(list))
        assert.equal("[]", json.encode(list))
        assert.is_true(json.is_array(json.array()))
    end)

    it("does not take another metatable away", function()
        assert.is_false((pcall(json.array, setmetatable({}, {}))))
        assert.is_false((pcall(json.array, 1)))
    end)

    it("is asked by is_array, of any value", function()
        assert.is_false(json.is_array({}))
        assert.is_false(json.is_array({ 1 }))
        assert.is_false(json.is_array("[]"))
        assert.is_false(json.is_array(nil))
        assert.is_false(json.is_array(setmetatable({}, {})))
    end)
end)
