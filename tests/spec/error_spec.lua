-- Error objects: what they are made of, where they say they come from, and how they read.
local error_object = require "moonflow.error"

local here = debug.getinfo(1, "S").short_src

--- The line of the caller, and what `fn` raises there.
local function raised(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    return err
end

describe("error.new", function()
    it("makes the table itself an error object", function()
        local fields = { kind = "usage", message = "m", extra = 1 }
        local err = error_object.new(fields)
        assert.equal(fields, err)
        assert.is_true(error_object.is(err))
        assert.equal(1, err.extra)
    end)

    it("chooses the code by status, then by kind, and keeps a given one", function()
        local cases = {
            { { kind = "http", http_status = 404 }, "ENDPOINT_NOT_FOUND" },
            { { kind = "http", http_status = 429 }, "RESOURCE_EXHAUSTED" },
            { { kind = "http", http_status = 418 }, "INTERNAL_ERROR" },
            { { kind = "usage" }, "INVALID_PARAMETER_VALUE" },
            { { kind = "config" }, "INVALID_PARAMETER_VALUE" },
            { { kind = "auth" }, "UNAUTHENTICATED" },
            { { kind = "network" }, "TEMPORARILY_UNAVAILABLE" },
            { { kind = "timeout" }, "DEADLINE_EXCEEDED" },
            { { kind = "unsupported" }, "NOT_IMPLEMENTED" },
            { { kind = "cancelled" }, "CANCELLED" },
            { { kind = "http", http_status = 404, error_code = "RESOURCE_DOES_NOT_EXIST" }, "RESOURCE_DOES_NOT_EXIST" },
        }
        for _, case in ipairs(cases) do
            assert.equal(case[2], error_object.new(case[1]).error_code)
        end
    end)

    it("refuses a kind that there is none of", function()
        for _, fields in ipairs { {}, { kind = "strange" }, { kind = 1 } } do
            assert.equal("usage", raised(error_object.new, fields).kind)
        end
        assert.has_error(function() error_object.new("text") end)
    end)
end)

describe("error.is", function()
    it("knows its own, and nothing else", function()
        assert.is_true(error_object.is(error_object.new { kind = "usage" }))
        for _, value in ipairs { "text", 1, {}, setmetatable({}, {}), print } do
            assert.is_false(error_object.is(value))
        end
    end)
end)

describe("error.raise", function()
    it("names the file and line of the user's code", function()
        local line = debug.getinfo(1, "l").currentline + 1
        local err = raised(function() error_object.raise { kind = "usage", message = "m" } end)
        assert.equal(("%s:%d"):format(here, line), err.where)
    end)

    it("keeps a place that is known already, and the object", function()
        local first = error_object.new { kind = "usage", message = "m", where = "a.lua:1" }
        local err = raised(error_object.raise, first)
        assert.equal(first, err)
        assert.equal("a.lua:1", err.where)
    end)
end)

describe("the text of an error", function()
    it("is its place and first line, then why, then what to try", function()
        local err = error_object.new {
            kind = "network", message = "no answer\nfirst fact\nsecond fact", hint = "this\nor that", where = "a.lua:3",
        }
        assert.equal("a.lua:3: no answer\n  why: first fact\n       second fact\n  try: this\n       or that",
            tostring(err))
        assert.equal("error: " .. tostring(err), error_object.format(err))
    end)

    it("holds without a message, a reason or a hint", function()
        assert.equal("m", tostring(error_object.new { kind = "usage", message = "m" }))
        assert.equal("(no message)", tostring(error_object.new { kind = "usage" }))
    end)

    it("of another value has the frames of the user's code", function()
        local text = error_object.format("boom", "stack traceback:\n\t[C]: in function 'error'\n"
            .. "\ta.lua:3: in function 'f'\n\tmoonflow/client.lua:9: in function 'g'\n\ta.lua:7: in main chunk")
        assert.equal("error: boom\n  at:  a.lua:3: in function 'f'\n       a.lua:7: in main chunk", text)
    end)

    it("is there for a value that can not be shown", function()
        local value = setmetatable({}, { __tostring = function() error("no", 0) end })
        assert.matches("^error: a table that can not be shown", error_object.format(value))
    end)
end)

describe("codes", function()
    it("map to statuses and exit codes", function()
        assert.equal(404, error_object.status_from_code("RESOURCE_DOES_NOT_EXIST"))
        assert.equal(500, error_object.status_from_code("UNHEARD_OF"))
        assert.equal("PERMISSION_DENIED", error_object.code_from_status(403))
        local cases = {
            { "a text", 1 }, { { kind = "usage" }, 2 }, { { kind = "config" }, 2 },
            { { kind = "http", http_status = 404 }, 3 }, { { kind = "auth" }, 4 },
            { { kind = "http", http_status = 401 }, 4 }, { { kind = "http", http_status = 403 }, 4 },
            { { kind = "http", http_status = 422 }, 5 },
            { { kind = "unsupported" }, 5 }, { { kind = "http", http_status = 503 }, 6 }, { { kind = "decode" }, 6 },
            { { kind = "http", http_status = 429 }, 7 }, { { kind = "network" }, 8 }, { { kind = "timeout" }, 9 },
            { { kind = "plugin" }, 10 }, { { kind = "cancelled" }, 130 },
        }
        for _, case in ipairs(cases) do
            local value = type(case[1]) == "table" and error_object.new(case[1]) or case[1]
            assert.equal(case[2], error_object.exit_code(value))
        end
    end)
end)
