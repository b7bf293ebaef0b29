local base64 = require "moonflow.base64"
local error_object = require "moonflow.error"

--- The text of 32-bit numbers, given by their bits.
local function of_bits(...)
    local bytes = {}
    for i, bits in ipairs { ... } do
        bytes[i] = ("<I4"):pack(bits)
    end
    return base64.encode(table.concat(bytes))
end

local function refused(fn, text, words)
    local value, err = fn(text)
    assert.is_nil(value)
    assert.is_true(error_object.is(err))
    assert.equal("decode", err.kind)
    assert.matches(words, err.message, 1, true)
end

describe("moonflow.base64", function()
    local VECTORS = {
        [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
        ["\0\0\0"] = "AAAA", ["\xFB\xFF\xFE"] = "+//+", ["\xFF"] = "/w==",
    }

    it("encodes and decodes the vectors of RFC 4648, with padding and without", function()
        for bytes, text in pairs(VECTORS) do
            assert.equal(text, base64.encode(bytes))
            assert.equal(bytes, base64.decode(text))
            assert.equal(bytes, base64.decode((text:gsub("=", ""))))
        end
    end)

    for _, text in ipairs {
        "Z", "Zm9vY", "=", "==", "====", "Zg=", "Zm9v=", "Zm8==", "Zg==Zg==", "Zm9v\n", " Zm9v", "Zm 9", "Zm9\0",
        "Zm9\xFF", "-__-", "Zh==", "Zm9=", "Zv", "Zm/",
    } do
        it(("does not decode %q"):format(text), function()
            refused(base64.decode, text, "not base64 of bytes")
            refused(base64.floats, text, "not base64 of 32-bit numbers")
        end)
    end

    it("takes back random bytes of every length", function()
        math.randomseed(1)
        for length = 0, 200 do
            local bytes = {}
            for i = 1, length do
                bytes[i] = string.char(math.random(0, 255))
            end
            bytes = table.concat(bytes)
            local text = base64.encode(bytes)
            assert.equal((length + 2) // 3 * 4, #text)
            assert.equal(bytes, base64.decode(text))
        end
    end)

    it("takes a megabyte", function()
        local bytes = ("\0\1\254\255moon"):rep(131072)
        assert.equal(bytes, base64.decode(base64.encode(bytes)))
    end)

    it("wants text", function()
        for _, fn in ipairs { base64.encode, base64.decode, base64.floats } do
            assert.is_false((pcall(fn)))
            assert.is_false((pcall(fn, {})))
        end
    end)

    describe("floats", function()
        it("are the numbers of 32 bits, the lowest byte first", function()
            local cases = {
                [0x3F800000] = 1, [0xBF800000] = -1, [0x00000000] = 0, [0x3DCCCCCD] = 0.10000000149011612,
                [0x7F7FFFFF] = 3.4028234663852886e38, [0xFF7FFFFF] = -3.4028234663852886e38,
                [0x00800000] = 1.1754943508222875e-38, -- the least normal one
                [0x00000001] = 1.401298464324817e-45,  -- the least of all
                [0x807FFFFF] = -1.1754942106924411e-38,
                [0x7F800000] = math.huge, [0xFF800000] = -math.huge,
            }
            for bits, number in pairs(cases) do
                local list = base64.floats(of_bits(bits))
                assert.equal(1, #list)
                assert.equal(number, list[1])
                assert.equal("float", math.type(list[1]))
            end
            assert.equal("AACAPwAAAMA=", of_bits(0x3F800000, 0xC0000000))
            assert.same({ 1, -2 }, base64.floats "AACAPwAAAMA=")
        end)

        it("may be no number, and minus zero", function()
            for _, bits in ipairs { 0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF } do
                local number = base64.floats(of_bits(bits))[1]
                assert.is_true(number ~= number)
            end
            assert.equal(-math.huge, 1 / base64.floats(of_bits(0x80000000))[1])
        end)

        it("may be none", function()
            assert.same({}, base64.floats "")
        end)

        it("are the same as string.unpack reads", function()
            math.randomseed(2)
            local bytes, numbers = {}, {}
            for i = 1, 3072 do
                bytes[i] = ("<f"):pack((math.random() - 0.5) * 10.0 ^ math.random(-30, 30))
                numbers[i] = ("<f"):unpack(bytes[i])
            end
            local text = base64.encode(table.concat(bytes))
            assert.same(numbers, base64.floats(text))
            assert.same(numbers, base64.floats((text:gsub("=+$", ""))))
        end)

        it("have four bytes each", function()
            for length = 1, 11 do
                if length % 4 ~= 0 then
                    refused(base64.floats, base64.encode(("x"):rep(length)), "not base64 of 32-bit numbers")
                end
            end
        end)
    end)
end)
