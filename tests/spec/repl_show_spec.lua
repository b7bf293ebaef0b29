--- How the session prints values.
local json = require "moonflow.json"
local show = require "moonflow.show"

local function decoded(text)
    return assert(json.decode(text))
end

local cycle = { name = "c" }
cycle.self = cycle

-- Each: value, what is shown, options.
local CASES = {
    { nil, "nil" },
    { true, "true" },
    { 12, "12" },
    { 0.5, "0.5" },
    { "plain", '"plain"' },
    { 'a "quoted" \\ text', [["a \"quoted\" \\ text"]] },
    { "line\nnext\tcell\r", [["line\nnext\tcell\r"]] },
    { "\27[31mred\27[0m", [["\x1B[31mred\x1B[0m"]] },
    { "C1 \xC2\x9B31m", [["C1 \u{9B}31m"]] },
    { "\xE2\x80\xAEright to left", [["\u{202E}right to left"]] },
    { "no UTF-8: \xFF\xC3", [["no UTF-8: \xFF\xC3"]] },
    { "h\xC3\xA9llo \xE6\x97\xA5", "\"h\xC3\xA9llo \xE6\x97\xA5\"" },
    { "nul\0del\127", [["nul\x00del\x7F"]] },
    { ("x"):rep(30), '"' .. ("x"):rep(10) .. '"... (30 bytes)', { text = 10 } },
    { ("\xC3\xA9"):rep(10), '"' .. ("\xC3\xA9"):rep(2) .. '"... (20 bytes)', { text = 5 } },
    { json.null, "null" },
    { {}, "{}" },
    { decoded "[]", "[]" },
    { decoded "[1, null, [], {}]", "[1, null, [], {}]" },
    { { 1, 2, name = "x" }, '{ 1, 2, name = "x" }' },
    { { ["a b"] = 1, ["end"] = 2, [true] = 3, [10] = 4 }, '{ [10] = 4, ["a b"] = 1, ["end"] = 2, [true] = 3 }' },
    { cycle, '{ name = "c", self = <cycle> }' },
    { { { { { 1 } } } }, "{ { {...} } }", { depth = 2 } },
    { { 1, 2, 3, 4 }, "{ 1, 2, ... 2 more }", { items = 2 } },
    { { a = 1, b = 2, c = 3 }, "{ a = 1, ... 2 more }", { items = 1 } },
    { { a = { b = { "deep" } } }, '{\n  a = {\n    b = { "deep" }\n  }\n}', { width = 19 } },
    { { 100, 200, 300, 400, 500 }, "{\n  100, 200,\n  300, 400,\n  500\n}", { width = 14 } },
    { print, "<function>" },
    { require("moonflow.auth").secret("a-secret-of-some-length"), "<redacted>" },
    { { key = "a-secret-of-some-length" }, '{ key = "<redacted>" }' },
    { setmetatable({}, { __tostring = function() return "spoken\27[0m" end }), "spoken\\x1B[0m" },
    { setmetatable({}, { __index = error, __len = error, __pairs = error, __name = "x" }), "{}" },
}

describe("show.value", function()
    for i, case in ipairs(CASES) do
        it(("writes value %d as %s"):format(i, (case[2]:gsub("%s+", " "))), function()
            assert.equal(case[2], show.value(case[1], case[3]))
        end)
    end

    it("survives a __tostring that fails", function()
        local mute = setmetatable({}, { __tostring = function() error("inside", 0) end })
        assert.equal("<table that can not be shown: inside>", show.value(mute))
        assert.equal("<table that can not be shown: its __tostring fails>",
            show.value(setmetatable({}, { __tostring = function() error({}) end })))
    end)

    it("says where a function is", function()
        assert.matches("^<function .*repl_show_spec.lua:%d+>$", show.value(function() end))
    end)

    it("ends, whatever there is to be shown", function()
        local wide = {}
        for i = 1, 40 do
            wide[i] = {}
            for j = 1, 40 do
                wide[i][j] = { ("x"):rep(2000), { ("y"):rep(2000), { ("z"):rep(2000) } } }
            end
        end
        assert.is_true(#show.value({ wide, wide, wide }) < 1000000)
    end)

    it("paints where that is wanted", function()
        assert.equal("{ a = \27[36m1\27[0m }", show.value({ a = 1 }, { color = true }))
    end)
end)

describe("show.text", function()
    it("keeps lines and quotes, and nothing that a terminal obeys", function()
        assert.equal('one "two"\n\tthree \\ \\x1B[2J\\u{9D}', show.text('one "two"\n\tthree \\ \27[2J\xC2\x9D'))
    end)
end)
