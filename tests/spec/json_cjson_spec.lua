-- lua-cjson as a second opinion. It prints where the two differ on this machine, and checks that
-- they agree wherever lua-cjson is exact.

local found, cjson = pcall(require, "cjson")
if not found then
    io.write("SKIPPED: lua-cjson is not installed, nothing to compare moonflow.json with\n")
    return
end

local json = require "moonflow.json"
cjson = cjson.new() -- settings of its own

--- What a codec makes of a text: the text after decode and encode, or that it refuses.
local function through(decode, encode, text)
    local decoded, value, err = pcall(decode, text)
    if not decoded or err then
        return "refused"
    end
    local encoded, again, failure = pcall(encode, value)
    if not encoded or failure then
        return "can not encode it again"
    end
    return #again > 40 and again:sub(1, 37) .. "..." or again
end

--- Both see the same: numbers by value, tables by their fields.
local function agree(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, value in pairs(a) do
        if not agree(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end

-- Each line: what it is about, the text, and whether the two are expected to differ.
local CASES = {
    { "empty array", "[]", true },
    { "empty object", "{}", false },
    { "integer", "[1]", false },
    { "whole float", "[1.0]", true },
    { "2^53 + 1", "[9007199254740993]", true },
    { "largest int64", "[9223372036854775807]", true },
    { "beyond int64", "[18446744073709551616]", true },
    { "15 digits", "[0.123456789012345]", true },
    { "17 digits", "[0.30000000000000004]", true },
    { "minus zero", "[-0.0]", true },
    { "1e400", "[1e400]", true },
    { "NaN", "[NaN]", true },
    { "Infinity", "[-Infinity]", true },
    { "hexadecimal", "[0x10]", true },
    { "leading zero", "[01]", true },
    { "plus", "[+1]", true },
    { "point last", "[1.]", true },
    { "null", "[null]", false },
    { "slash", '["a/b"]', true },
    { "DEL", '["\x7F"]', true },
    { "escapes", [==[["\"\\\b\f\n\r\t\u0001"]]==], false },
    { "surrogate pair", [==[["\ud83d\ude00"]]==], false },
    { "lone surrogate", [==[["\ud800"]]==], false },
    { "bad UTF-8", '["\xFF"]', true },
    { "overlong UTF-8", '["\xC0\xAF"]', true },
    { "raw control character", '["\t"]', true },
    { "NUL and more behind", "[1]\0garbage", true },
    { "byte order mark", "\xEF\xBB\xBF[1]", false },
    { "trailing comma", "[1,]", false },
    { "two values", "[1] [2]", false },
    { "repeated key", '{"a":1,"a":2}', false },
    { "nested 300 deep", ("["):rep(300) .. "1" .. ("]"):rep(300), true },
}

describe("lua-cjson " .. tostring(cjson._VERSION), function()
    it("differs from moonflow.json where its limits are, and only there", function()
        print(("\n%-22s %-24s %-40s %s"):format("", "text", "moonflow.json", "lua-cjson"))
        for _, case in ipairs(CASES) do
            local name, text, expected = table.unpack(case)
            local ours = through(json.decode, json.encode, text)
            local theirs = through(cjson.decode, cjson.encode, text)
            if ours ~= theirs then
                local shown = ("%q"):format(text):sub(2, -2):gsub("\\\n", "\\n"):gsub('\\"', '"'):sub(1, 24)
                print(("%-22s %-24s %-40s %s"):format(name, shown, ours, theirs))
            end
            -- Another build of lua-cjson may have repaired a fault; it must not have a new one.
            if not expected then
                assert.equal(theirs, ours, name)
            end
        end
    end)

    it("agrees on whatever it can hold exactly", function()
        math.randomseed(20260102)
        local function random_string()
            local letters = {}
            for i = 1, math.random(0, 30) do
                local c = math.random(20) == 1 and math.random(0xE000, 0x10FFFF) or math.random(0, 0x7E)
                letters[i] = utf8.char(c)
            end
            return table.concat(letters)
        end
        local function random_value(depth)
            local kind = math.random(depth > 0 and 9 or 6)
            if kind == 1 then
                return math.random(-2 ^ 46 // 1 | 0, 2 ^ 46 // 1 | 0)
            elseif kind == 2 then
                return math.random(-9999999, 9999999) / 1000 -- 14 digits hold it
            elseif kind <= 4 then
                return random_string()
            elseif kind == 5 then
                return math.random(2) == 1
            elseif kind == 6 then
                return json.null
            end
            local value = {}
            for i = 1, math.random(1, 8) do
                value[kind == 7 and i or random_string()] = random_value(depth - 1)
            end
            return value
        end
        for _ = 1, 1000 do
            local value = random_value(3)
            local theirs, ours = cjson.encode(value), assert(json.encode(value))
            for _, text in ipairs { theirs, ours } do
                local read, err = json.decode(text)
                assert.is_nil(err)
                assert.is_true(agree(read, cjson.decode(text)), text:sub(1, 200))
                assert.is_true(agree(read, value), text:sub(1, 200))
            end
        end
    end)

    it("shares null with moonflow.json, in both directions", function()
        assert.equal(cjson.null, json.null)
        assert.equal("[null]", json.encode { cjson.null })
        assert.equal("[null]", cjson.encode { json.null })
    end)

    it("can encode what moonflow.json decoded", function()
        local value = assert(json.decode '{"a":[1,{"b":null}],"c":"d"}')
        assert.is_true(agree(cjson.decode(cjson.encode(value)), value))
    end)
end)
