--- Embeddings of the backend openai: vectors in base64 or as numbers, and long lists of inputs in
-- several requests.
local base64 = require "moonflow.base64"
local json = require "moonflow.json"
local openai = require "support.openai"

local VECTOR = { 0.25, -0.5, 1.5 } -- numbers that 32 bits hold exactly

local function packed(vector)
    local bytes = {}
    for i, number in ipairs(vector) do
        bytes[i] = ("<f"):pack(number)
    end
    return base64.encode(table.concat(bytes))
end

--- As a server of OpenAI's form answers: the vector of an input is its number in the list, and its length.
local function serve(request)
    local body = json.decode(request.body)
    local inputs = type(body.input) == "table" and body.input or { body.input }
    local data = json.array {}
    for i, input in ipairs(inputs) do
        local vector = { tonumber(input) or #input, #input }
        local is_text = body.encoding_format == "base64"
        data[i] = { object = "embedding", index = i - 1, embedding = is_text and packed(vector) or vector }
    end
    return { json = {
        object = "list", model = body.model, data = data,
        usage = { prompt_tokens = #inputs, total_tokens = 2 * #inputs },
    } }
end

--- Numbers from `from` to `to` as texts.
local function texts(from, to)
    local list = {}
    for i = from, to do
        list[#list + 1] = tostring(i)
    end
    return list
end

describe("embeddings", function()
    local world, client

    local function open(answers, options)
        world, client = openai.open(type(answers) == "function" and { answers } or answers, nil, options)
        -- one part after the other
        package.loaded["moonflow.task"].map = function(list, fn)
            local results = {}
            for i, item in ipairs(list) do
                results[i] = fn(item, i)
            end
            return results
        end
    end

    after_each(function()
        world:close()
    end)

    local function embed(input, more)
        local inputs = { input = input }
        for name, value in pairs(more or {}) do
            inputs[name] = value
        end
        return client:predict { endpoint = "m", inputs = inputs }
    end

    local function failure(...)
        local ok, err = pcall(embed, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    --- What each request asked for.
    local function formats()
        local list = {}
        for i, request in ipairs(world.requests) do
            list[i] = json.decode(request.body).encoding_format or "none"
        end
        return list
    end

    local function answer(embedding, more)
        local item = { object = "embedding", index = 0, embedding = embedding }
        for name, value in pairs(more or {}) do
            item[name] = value
        end
        return { json = { object = "list", data = { item }, model = "m", usage = { prompt_tokens = 1 } } }
    end

    describe("in base64", function()
        it("are asked for, and become the numbers they stand for", function()
            open(answer(packed(VECTOR)))
            local result = embed "x"
            assert.same({ object = "embedding", index = 0, embedding = VECTOR }, result.data[1])
            assert.same({ prompt_tokens = 1 }, result.usage)
            assert.same({ "base64" }, formats())
            assert.equal("[0.25,-0.5,1.5]", json.encode(result.data[1].embedding))
        end)

        it("are the same as numbers", function()
            open(serve)
            local as_text, as_numbers = embed({ "a", "bcd" }), embed({ "a", "bcd" }, { encoding_format = "float" })
            assert.same(as_numbers, as_text)
        end)

        it("may come as numbers all the same", function()
            open(answer(VECTOR))
            assert.same(VECTOR, embed("x").data[1].embedding)
            assert.equal(1, #world.requests)
        end)

        it("may be empty", function()
            open(answer "")
            assert.equal("[]", json.encode(embed("x").data[1].embedding))
        end)

        for _, text in ipairs { "AAA", "AAAAAAA=", "!!!!", "AACAPw==\n", "-_-_-_==" } do
            it(("are not %q"):format(text), function()
                open(answer(text))
                local err = failure "x"
                assert.equal("decode", err.kind)
                assert.matches("vector 1 of the server's answer is not base64 of 32-bit numbers", err.message, 1, true)
                assert.same({ "base64" }, formats())
            end)
        end

        it("stay as they are where the caller says which form", function()
            for _, format in ipairs { "base64", "float", "int8" } do
                open(answer(packed(VECTOR)))
                assert.equal(packed(VECTOR), embed("x", { encoding_format = format }).data[1].embedding)
                assert.same({ format }, formats())
                world:close()
            end
            open { { status = 400 } }
            assert.equal(400, failure("x", { encoding_format = "base64" }).http_status)
            assert.same({ "base64" }, formats())
        end)

        it("go with dimensions and all other inputs", function()
            open(answer(packed(VECTOR)))
            embed("x", { dimensions = 3, user = "u" })
            assert.same({ model = "m", input = "x", dimensions = 3, user = "u", encoding_format = "base64" },
                json.decode(world.requests[1].body))
        end)
    end)

    describe("of a server that knows no base64", function()
        for _, status in ipairs { 400, 422, 500 } do
            it(("come as numbers after a %d, and are asked for as such from then on"):format(status), function()
                open({ { status = status }, answer(VECTOR), answer(VECTOR) }, { max_retries = 0 })
                assert.same(VECTOR, embed("x").data[1].embedding)
                assert.same(VECTOR, embed("y").data[1].embedding)
                assert.same({ "base64", "float", "float" }, formats())
            end)
        end

        it("are asked for once where the server fails with 500", function()
            open { { status = 500 } }
            assert.equal(500, failure("x").http_status)
            assert.same({ "base64", "base64", "base64", "float" }, formats())
            world:close()
            open { { status = 500 } }
            local options = { max_retries = 1, headers = { ["x-a"] = "b" } }
            local args = { endpoint = "m", inputs = { input = "x" }, options = options }
            assert.is_false(pcall(client.predict, client, args))
            assert.same({ "base64", "base64", "float" }, formats())
            assert.equal("b", world.requests[3].headers["x-a"])
            assert.equal(1, options.max_retries)
        end)

        it("are remembered for its URL alone", function()
            open({ { status = 400 }, answer(VECTOR), answer(packed(VECTOR)), answer(VECTOR) })
            embed "x"
            local first = client
            client = world.deployments.get_deploy_client("openai:http://localhost:8000/v1")
            embed "x"
            client = first
            embed "x"
            assert.same({ "base64", "float", "base64", "float" }, formats())
        end)

        for _, status in ipairs { 401, 403, 404, 413, 429, 503 } do
            it(("are not asked for again after a %d"):format(status), function()
                open({ { status = status } }, { max_retries = 0 })
                assert.equal(status, failure("x").http_status)
                assert.same({ "base64" }, formats())
            end)
        end

        it("are asked for in base64 the next time where the inputs were at fault", function()
            open { { status = 400, body = "one" }, { status = 400, body = "two" }, answer(packed(VECTOR)) }
            assert.matches("two", failure("x").message)
            embed "x"
            assert.same({ "base64", "float", "base64" }, formats())
        end)

        it("are repeated as all requests are", function()
            open { { status = 503 }, answer(packed(VECTOR)) }
            embed "x"
            assert.same({ "base64", "base64" }, formats())
        end)
    end)

    describe("of many inputs", function()
        --- How many inputs each request had.
        local function sizes()
            local list = {}
            for i, request in ipairs(world.requests) do
                list[i] = #json.decode(request.body).input
            end
            return list
        end

        it("come in as many requests as needed, in order", function()
            open(serve)
            local result = embed(texts(1, 5000), { dimensions = 2 })
            assert.same({ 2048, 2048, 904 }, sizes())
            assert.equal(5000, #result.data)
            for i, item in ipairs(result.data) do
                assert(item.index == i - 1 and item.embedding[1] == i, i)
            end
            assert.same({ prompt_tokens = 5000, total_tokens = 10000 }, result.usage)
            assert.equal("list", result.object)
            assert.equal("m", result.model)
            assert.equal(2, json.decode(world.requests[3].body).dimensions)
        end)

        it("are split at the limits and not before", function()
            --- inputs, sizes of the requests
            local cases = {
                { texts(1, 2048), { 2048 } },
                { texts(1, 2049), { 2048, 1 } },
                { { ("x"):rep(150000), ("x"):rep(150000) }, { 2 } },
                { { ("x"):rep(150000), ("x"):rep(150001) }, { 1, 1 } },
                { { ("x"):rep(400000), "y", ("x"):rep(400000) }, { 1, 1, 1 } },
            }
            for _, case in ipairs(cases) do
                open(serve)
                assert.equal(#case[1], #embed(case[1]).data)
                assert.same(case[2], sizes())
                world:close()
            end
            open(serve)
        end)

        it("that are lists of tokens are split as well", function()
            open(serve)
            local tokens, list = {}, {}
            for i = 1, 1000 do
                tokens[i] = i
            end
            for i = 1, 301 do
                list[i] = tokens
            end
            assert.equal(301, #embed(list).data)
            assert.same({ 300, 1 }, sizes())
        end)

        it("may be one input of many tokens, which is not split", function()
            open(answer(packed(VECTOR)))
            local tokens = {}
            for i = 1, 5000 do
                tokens[i] = i
            end
            embed(tokens)
            assert.same({ 5000 }, sizes())
        end)

        it("ask a server that knows no base64 once", function()
            open(function(request)
                return json.decode(request.body).encoding_format == "base64" and { status = 400 } or serve(request)
            end)
            world.answers[2], world.answers[3], world.answers[4] = serve, serve, serve
            assert.equal(5000, #embed(texts(1, 5000)).data)
            assert.same({ "base64", "float", "float", "float" }, formats())
        end)

        it("keep the caller's form", function()
            open(serve)
            local result = embed(texts(1, 2049), { encoding_format = "base64" })
            assert.equal(packed { 2049, 4 }, result.data[2049].embedding)
            assert.same({ "base64", "base64" }, formats())
        end)

        --- what the second of two parts, of two inputs, is answered with
        local ITEM = { object = "embedding", index = 0, embedding = VECTOR }
        local function item(index)
            return { object = "embedding", index = index, embedding = VECTOR }
        end
        local WRONG = {
            { "too few vectors", { ITEM }, "answered 1 vectors to 2 inputs" },
            { "too many vectors", { item(0), item(1), item(2) }, "answered 3 vectors to 2 inputs" },
            { "none", {}, "answered 0 vectors to 2 inputs" },
            { "one of them twice", { item(1), item(1) }, "has a vector with the index 1" },
            { "an index beyond", { item(0), item(2) }, "has a vector with the index 2" },
            { "an index below", { item(-1), item(0) }, "has a vector with the index -1" },
            { "something else", { 5, "x" }, "has something else in place of a vector" },
            { "nulls", { json.null, json.null }, "has something else in place of a vector" },
            { "no list", 5, "has no list \"data\"" },
        }
        for _, case in ipairs(WRONG) do
            it("are not answered with " .. case[1], function()
                open { serve, { json = { data = type(case[2]) == "table" and json.array(case[2]) or case[2] } } }
                local err = failure(texts(1, 2050))
                assert.equal("decode", err.kind)
                assert.matches(case[3], err.message, 1, true)
            end)
        end

        it("are put in order by their index, or without one as they come", function()
            open { serve, { json = { data = { item(1), item(0) } } } }
            local result = embed(texts(1, 2050))
            assert.same({ 2048, 2049 }, { result.data[2049].index, result.data[2050].index })
            world:close()
            open { serve, { json = { data = { item(), item(json.null) } } } }
            result = embed(texts(1, 2050))
            assert.same({ 2048, 2049 }, { result.data[2049].index, result.data[2050].index })
        end)

        it("fail where a part of them fails", function()
            open({ serve, { status = 404 } }, { max_retries = 0 })
            assert.equal(404, failure(texts(1, 5000)).http_status)
            assert.equal(2, #world.requests)
        end)

        it("are what the caller gave, unchanged", function()
            open(serve)
            local list = texts(1, 2049)
            embed(list)
            assert.equal(2049, #list)
        end)
    end)

    for _, body in ipairs { "{}", "[]", "5", '{"data":5}', '{"data":null}' } do
        it("are not what is answered: " .. body, function()
            open { { body = body } }
            local err = failure "x"
            assert.equal("decode", err.kind)
            assert.matches("no list \"data\"", err.message, 1, true)
        end)
    end

    for _, format in ipairs { "float", "base64" } do
        it("are nothing else in the caller's form either: " .. format, function()
            for _, body in ipairs { "{}", "5", '{"data":null}', '{"data":"x"}' } do
                for _, input in ipairs { "x", { "x" }, texts(1, 2050) } do
                    open { { body = body } }
                    local err = failure(input, { encoding_format = format })
                    assert.equal("decode", err.kind)
                    assert.matches("no list \"data\"", err.message, 1, true)
                    world:close()
                end
            end
            open(serve)
        end)
    end

    describe("of a few inputs", function()
        it("are in the order of the inputs, beside all other fields", function()
            open { { json = {
                data = { { index = 1, embedding = packed { 1 } }, { index = 0, embedding = packed { 2 } } },
                extra = true,
            } } }
            assert.same({ data = { { index = 0, embedding = { 2 } }, { index = 1, embedding = { 1 } } }, extra = true },
                embed { "a", "b" })
        end)

        it("are in the order of the answer where they have no index", function()
            open { { json = { data = { { embedding = { 1 } }, { embedding = { 2 } } } } } }
            assert.same({ { index = 0, embedding = { 1 } }, { index = 1, embedding = { 2 } } }, embed { "a", "b" }.data)
        end)

        local function item(index)
            return { index = index, embedding = VECTOR }
        end
        for words, data in pairs {
            ["answered 1 vectors to 2 inputs"] = { item(0) },
            ["answered 3 vectors to 2 inputs"] = { item(0), item(1), item(2) },
            ["a vector with the index 1"] = { item(1), item(1) },
            ["a vector with the index 2"] = { item(0), item(2) },
            ["something else in place of a vector"] = { 5, 5 },
        } do
            it("are not what is answered: " .. words, function()
                for _, format in ipairs { "float", false } do
                    open { { json = { data = data } } }
                    local err = failure({ "a", "b" }, { encoding_format = format or nil })
                    assert.equal("decode", err.kind)
                    assert.matches(words, err.message, 1, true)
                    world:close()
                end
                open(serve)
            end)
        end
    end)

    it("are as the server sent them where there is one input", function()
        local data = { { index = 7, embedding = packed { 1 } }, { index = 7, embedding = packed { 2 } } }
        for _, input in ipairs { "a", { 1, 2, 3 } } do
            open { { json = { data = data, extra = true } } }
            assert.same({ data = { { index = 7, embedding = { 1 } }, { index = 7, embedding = { 2 } } }, extra = true },
                embed(input))
            world:close()
        end
        open(serve)
    end)

    describe("have one time for the whole call", function()
        --- The time that each request had left.
        local function left()
            local list = {}
            for i, request in ipairs(world.requests) do
                list[i] = request.total_timeout
            end
            return list
        end

        it("with the numbers in place of base64", function()
            open({ { status = 400, takes = 7 }, answer(VECTOR) }, { total_timeout = 10 })
            embed "x"
            assert.same({ 10, 3 }, left())
        end)

        it("with all parts", function()
            local function slow(request)
                local reply = serve(request)
                reply.takes = 4
                return reply
            end
            open({ slow }, { total_timeout = 10 })
            embed(texts(1, 5000))
            assert.same({ 10, 6, 2 }, left())
        end)

        it("of the call's own options", function()
            open({ { status = 400, takes = 1 }, answer(VECTOR) }, { total_timeout = 10 })
            client:predict { endpoint = "m", inputs = { input = "x" }, options = { total_timeout = 3 } }
            assert.same({ 3, 2 }, left())
        end)
    end)
end)

describe("embeddings over the wire", function()
    local deployments = require "moonflow.deployments"
    local probe = require "support.probe"
    local raw = require "support.raw"
    local sys = require "moonflow.sys"
    local task = require "moonflow.task"

    local lines, variables

    before_each(function()
        lines, variables = probe.listen(), openai.hide_environment()
    end)

    after_each(function()
        lines:close()
        variables:close()
    end)

    local function connect(server, options)
        return deployments.get_deploy_client("openai:" .. server.url .. "/v1", options)
    end

    it("are decoded", function()
        local server <close> = raw.listen { raw.reply { json = { data = { { embedding = packed(VECTOR) } } } } }
        local result = connect(server):predict { endpoint = "m", inputs = { input = "x" } }
        assert.same(VECTOR, result.data[1].embedding)
        assert.same({ model = "m", input = "x", encoding_format = "base64" }, json.decode(server:requests()[1].body))
    end)

    it("of several requests come together", function()
        -- all parts of the same size, as it is not known which of them comes first
        local PART = 2048
        local data = json.array {}
        for i = 1, PART do
            data[i] = { index = i - 1, embedding = packed { i } }
        end
        local server <close> = raw.listen { raw.reply { json = { data = data, usage = { total_tokens = PART } } } }
        local result = connect(server):predict { endpoint = "m", inputs = { input = texts(1, 3 * PART) } }
        assert.equal(3, #server:requests())
        assert.equal(3 * PART, #result.data)
        assert.equal(3 * PART, result.usage.total_tokens)
        for i, item in ipairs(result.data) do
            assert(item.index == i - 1 and item.embedding[1] == (i - 1) % PART + 1, i)
        end
    end)

    it("end all parts when one fails", function()
        local data = json.array {}
        for i = 1, 2048 do
            data[i] = { index = i - 1, embedding = { 1 } }
        end
        local server <close> = raw.listen {
            raw.reply { json = { data = data } }, raw.reply { stall = 0 }, raw.reply { stall = 0 },
            raw.reply { status = 404, wait = 0.1 },
        }
        local started = sys.monotonic()
        local client = connect(server)
        local err = probe.failure(client.predict, client, {
            endpoint = "m", inputs = { input = texts(1, 9000), encoding_format = "float" },
        })
        assert.equal(404, err.http_status)
        assert.is_true(sys.monotonic() - started < 5)
        assert.equal(5, #server:requests())
        task.sleep(0.1)
        local connections, open = server:connections(), 0
        for _, connection in ipairs(connections) do
            open = open + (connection.open and 1 or 0)
        end
        assert.is_true(open <= #connections - 2, ("%d of %d open"):format(open, #connections))
    end)
end)
