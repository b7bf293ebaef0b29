--- Ordinary chunks are added in C (moonflow._chat), all others in Lua: both give the same answers. Random
--- chunks, most of them nearly ordinary, go through both.
local chat = require "moonflow.chat"
local json = require "moonflow.json"

local STREAMS, SEED = 2000, 20251125

--- moonflow.chat with its C part left out.
local function without_c()
    local names = {
        "moonflow._chat", "moonflow.chat", "moonflow.collector", "moonflow.delta", "moonflow.responses_api",
    }
    local saved = {}
    for _, name in ipairs(names) do
        saved[name], package.loaded[name] = package.loaded[name], nil
    end
    local function nothing() end
    package.loaded["moonflow._chat"] = { add = nothing, text = nothing }
    local module = require "moonflow.chat"
    for _, name in ipairs(names) do
        package.loaded[name] = saved[name]
    end
    return module
end

local null = json.null
local random = math.random

local function one_of(...)
    return (select(random(select("#", ...)), ...))
end

local function random_delta()
    if random() < 0.6 then
        return { content = one_of("a", "b", "", null), refusal = one_of(nil, null) }
    end
    return {
        content = one_of("a", "b", "", "zz", null, 5, nil, json.array { { type = "text", text = "x" } }),
        role = one_of(nil, nil, nil, "assistant", "", null),
        reasoning_content = one_of(nil, nil, nil, nil, "r", null),
        refusal = one_of(nil, nil, nil, nil, nil, "no", null),
        tool_calls = one_of(nil, nil, nil, nil, nil, nil, json.array { { index = 0, ["function"] = { name = "f" } } }),
        extra = one_of(nil, nil, nil, nil, nil, nil, 1, true, { a = 1 }),
    }
end

local function random_choice()
    if random() < 0.6 then
        return { index = 0, delta = random_delta(), finish_reason = null, logprobs = one_of(nil, null) }
    end
    local choice = {
        index = one_of(0, 0, 0, 0, 1, 0.0, 0.5, null, "0", nil),
        delta = one_of(random_delta(), random_delta(), random_delta(), null, nil),
        finish_reason = one_of(null, null, null, nil, "stop"),
        logprobs = one_of(null, null, nil, { content = json.array { { token = "t" } } }),
        stop_reason = one_of(nil, nil, nil, null, "eos"),
    }
    return one_of(choice, choice, choice, choice, choice, choice, null, 3)
end

local function random_chunk()
    local choices = json.array {}
    for i = 1, one_of(0, 1, 1, 1, 1, 1, 2) do
        choices[i] = random_choice()
    end
    return {
        id = one_of("i", "i", "i", "j", ""), object = "chat.completion.chunk", created = one_of(1, 1, 1, 0, 1.0),
        model = one_of("m", "m", null), usage = one_of(nil, null, { total_tokens = random(9) }),
        extra = one_of(nil, nil, nil, 1, "x", false, null), choices = one_of(choices, choices, choices, choices, nil),
    }
end

local function text_of(value)
    return value and assert(json.encode(value, { sort = true }))
end

describe("chunks added in C and in Lua", function()
    it("are one answer", function()
        local plain = without_c()
        local fast = 0
        math.randomseed(SEED)
        local add = require("moonflow._chat").add
        for _ = 1, STREAMS do
            local mixed, lua = chat.collector(), plain.collector()
            for _ = 1, random(8) do
                local chunk = random_chunk()
                local before = text_of(chunk)
                assert.equal(plain.text(chunk), chat.text(chunk), before)
                local probe = chat.collector()
                probe:add { choices = { { index = 0, delta = { content = "" } } } }
                fast = fast + (add(probe.top, probe.by_index, chunk) and 1 or 0)
                mixed:add(chunk)
                lua:add(chunk)
                assert.equal(before, text_of(chunk))
            end
            assert.equal(text_of(lua:result()), text_of(mixed:result()))
            assert.equal(lua:is_finished(), mixed:is_finished())
        end
        -- else this would compare Lua with Lua
        assert.is_true(fast > STREAMS / 2, ("%d ordinary chunks only"):format(fast))
    end)
end)
