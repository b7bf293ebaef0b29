local client = require "moonflow.client"
local auth = require "moonflow.auth"
local error = require "moonflow.error"

local Base = client.BaseDeploymentClient

--- Calls and returns the error object that was raised.
local function failure(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(error.is(err), tostring(err))
    return err
end

local seen
local Recorder = Base:extend {
    name = "Recorder",
    predict = function(self, args)
        seen = args
        return args.inputs, self
    end,
    create_deployment = function(_, args)
        seen = args
    end,
    list_endpoints = function(_, args)
        seen = args
        return {}
    end,
}

describe("moonflow.client", function()
    describe("signatures", function()
        -- MLflow's order; "?" marks what may be left out
        local mlflow = {
            "create_deployment name model_uri flavor? config? endpoint?",
            "update_deployment name model_uri? flavor? config? endpoint?",
            "delete_deployment name config? endpoint?",
            "list_deployments endpoint?",
            "get_deployment name endpoint?",
            "predict deployment_name? inputs? endpoint?",
            "predict_stream deployment_name? inputs? endpoint?",
            "explain deployment_name? df? endpoint?",
            "create_endpoint name config?",
            "update_endpoint endpoint config?",
            "delete_endpoint endpoint",
            "list_endpoints",
            "get_endpoint endpoint",
        }

        it("are those of MLflow's base class", function()
            local ours = {}
            for i, signature in ipairs(client.signatures) do
                local words = { signature.name }
                for _, param in ipairs(signature.params) do
                    words[#words + 1] = param.name .. (param.required and "" or "?")
                end
                ours[i] = table.concat(words, " ")
            end
            assert.same(mlflow, ours)
        end)

        it("are documented, each and every parameter", function()
            for _, signature in ipairs(client.signatures) do
                assert.matches("%a", signature.doc)
                for _, param in ipairs(signature.params) do
                    assert.matches("%a", param.doc)
                end
            end
        end)
    end)

    describe("arguments", function()
        local recorder = Recorder("test:")

        it("are one table of names", function()
            local inputs = { 1 }
            assert.equal(inputs, (recorder:predict { endpoint = "e", inputs = inputs }))
            assert.same({ endpoint = "e", inputs = inputs }, seen)
        end)

        it("or stand in MLflow's order", function()
            recorder:predict(nil, "in", "e")
            assert.same({ inputs = "in", endpoint = "e" }, seen)
            recorder:create_deployment("n", "models:/m", "python")
            assert.same({ name = "n", model_uri = "models:/m", flavor = "python" }, seen)
        end)

        it("may be missing altogether", function()
            recorder:list_endpoints()
            assert.same({}, seen)
            recorder:list_endpoints {}
            assert.same({}, seen)
        end)

        it("are copied: a method can not change the caller's table", function()
            local given = { endpoint = "e" }
            recorder:predict(given)
            assert.not_equal(given, seen)
        end)

        it("are refused with the nearest name", function()
            local err = failure(recorder.predict, recorder, { endpont = "e" })
            assert.equal("usage", err.kind)
            assert.equal('"endpont" is not an argument of predict', err.message)
            assert.equal('did you mean "endpoint"?', err.hint)
        end)

        it("are refused with all names where none is near", function()
            local err = failure(recorder.predict, recorder, { x = 1 })
            assert.equal("known: deployment_name, inputs, endpoint, options", err.hint)
        end)

        it("are refused at the caller's line", function()
            local err = failure(function()
                recorder:predict { x = 1 }
            end)
            assert.matches("client_spec.lua:%d+$", err.where)
        end)

        local wrong = {
            { "a wrong type", "predict", { endpoint = 5 }, '"endpoint" must be a string, got 5' },
            { "a table for a text", "predict", { endpoint = {} }, "got a table" },
            { "one that is missing", "create_deployment", { name = "n" },
                'create_deployment needs the argument "model_uri"' },
            { "no table for config", "create_deployment", { name = "n", model_uri = "m", config = "c" }, "a table" },
            { "options that are none", "predict", { options = { tiemout = 5 } },
                '"tiemout" is not an option of a call' },
            { "a timeout of 0", "predict", { options = { timeout = 0 } }, "a number of seconds above 0" },
            { "a timeout without end", "predict", { options = { timeout = math.huge } },
                "a number of seconds above 0" },
            { "half a retry", "predict", { options = { max_retries = 0.5 } }, "an integer of at least 0" },
            { "headers that are no texts", "predict", { options = { headers = { A = 1 } } },
                "a table from header names" },
            { "a client's option in a call", "predict", { options = { token = "t" } },
                '"token" is not an option of a call' },
        }
        for _, case in ipairs(wrong) do
            it("are refused: " .. case[1], function()
                local err = failure(recorder[case[2]], recorder, case[3])
                assert.equal("usage", err.kind)
                assert.matches(case[4], err.message, 1, true)
            end)
        end

        it("are refused where there are too many of them", function()
            local err = failure(recorder.predict, recorder, nil, "in", "e", {}, 5)
            assert.matches("at most 4 arguments, got 5", err.message)
        end)

        it("need a colon before the method", function()
            local err = failure(recorder.predict, { endpoint = "e" })
            assert.matches("call predict with a colon", err.message)
        end)
    end)

    describe("base class", function()
        local base = Base("test:")
        local texts = {
            explain = "Computing model explanations is not yet supported for this deployment target",
            list_endpoints = "Method is unimplemented in base client. Implementation should be provided by specific "
                .. "target plugins.",
            predict = "predict is not implemented for this deployment target",
        }
        for method, text in pairs(texts) do
            it("says what it can not do: " .. method, function()
                local err = failure(base[method], base)
                assert.equal("unsupported", err.kind)
                assert.equal("NOT_IMPLEMENTED", err.error_code)
                assert.equal(text, err.message)
                assert.equal(method, err.operation)
                assert.equal("test:", err.target)
            end)
        end

        it("says what a target does offer", function()
            local err = failure(Recorder("test:").get_endpoint, Recorder("test:"), "e")
            assert.equal("test: offers create_deployment, predict, list_endpoints", err.hint)
        end)
    end)

    describe("extend", function()
        it("inherits methods, signatures and options", function()
            local Parent = Base:extend {
                signatures = { { name = "tag", params = { { name = "key", type = "string",
                    required = true, doc = "k" } } } },
                options = { { name = "region", type = "string", doc = "r" } },
                tag = function(_, args)
                    return "tag " .. args.key
                end,
            }
            local Child = Parent:extend {
                name = "Child",
                predict = function(self)
                    return self.config.region
                end,
            }
            local child = Child("test:", { region = "north" })
            assert.equal("tag x", child:tag "x")
            assert.equal("north", child:predict())
            assert.same({ "predict", "tag" }, client.offered(child))
            assert.matches('needs the argument "key"', failure(child.tag, child).message)
            assert.is_nil(Base.tag)
        end)

        it("refuses a method that is in no signature", function()
            local err = failure(Base.extend, Base, { preditc = function() end })
            assert.matches('"preditc" is neither a method', err.message)
            assert.equal('did you mean "predict"?', err.hint)
        end)

        it("keeps private functions as they are", function()
            local function helper() end
            assert.equal(helper, Base:extend({ _helper = helper })._helper)
        end)

        it("lets init look at a new client", function()
            local Picky = Base:extend {
                init = function(self)
                    if self.target_uri ~= "picky:" then
                        error.raise { kind = "config", message = "not mine" }
                    end
                    self._ready = true
                end,
            }
            assert.is_true(Picky("picky:")._ready)
            assert.equal("not mine", failure(Picky, "other:").message)
        end)
    end)

    describe("errors", function()
        local function raising(value)
            return Base:extend {
                predict = function()
                    _G.error(value, 0)
                end,
            }("http://user:pw@h/p")
        end

        it("get target, operation and the place in the script, and stay the same object", function()
            local object = error.new { kind = "network", message = "gone" }
            local c = raising(object)
            local err = failure(function()
                c:predict()
            end)
            assert.equal(object, err)
            assert.equal("http://h/p", err.target)
            assert.equal("predict", err.operation)
            assert.matches("client_spec.lua:%d+$", err.where)
        end)

        it("keep what they say already", function()
            local err = failure(raising(error.new { kind = "network", message = "m", target = "t",
                operation = "o" }).predict,
                Base("x:"))
            assert.equal("t", err.target)
            assert.equal("o", err.operation)
        end)

        it("that are none pass unchanged from built-in targets", function()
            local c = raising("plain")
            local ok, err = pcall(c.predict, c)
            assert.is_false(ok)
            assert.equal("plain", err)
        end)

        it("that are none become plugin errors in a plugin, with place and traceback", function()
            local Plugin = Base:extend {
                predict = function(_, args)
                    return args.inputs.field
                end,
            }
            Plugin.plugin = { name = "acme", file = "/p/acme.lua" }
            local err = failure(Plugin("acme:").predict, Plugin("acme:"))
            assert.equal("plugin", err.kind)
            assert.matches('plugin "acme" failed in predict\n.*client_spec.lua:%d+: attempt to index', err.message)
            assert.matches("stack traceback", err.cause)
            assert.matches("/p/acme.lua", err.hint, 1, true)
        end)
    end)

    describe("a client", function()
        it("has its target and its options, credentials as secrets", function()
            local c = Base("test:", { token = "tok-canary", timeout = 5 })
            assert.equal("test:", c.target_uri)
            assert.equal(5, c.config.timeout)
            assert.is_true(auth.is_secret(c.config.token))
            assert.equal("<redacted>", tostring(c.config.token))
        end)

        it("prints as its class and target, without a password in it", function()
            assert.equal('Recorder("http://h/p")', tostring(Recorder("http://user:pw@h/p")))
        end)

        it("prints no secret", function()
            assert.not_matches("canary", tostring(Base("test:", { token = "tok-canary" })))
        end)

        local refused = {
            { "an unknown option", { tokn = "x" }, '"tokn" is not an option of' },
            { "a token that is none", { token = 5 }, '"token" must be a string or a secret' },
            { "a user name alone", { username = "u" }, "belong together" },
            { "a password alone", { password = "p" }, "belong together" },
            { "two credentials", { username = "u", password = "p", token = "t" }, "give either" },
            { "a negative number of retries", { max_retries = -1 }, "an integer of at least 0" },
            { "allow_insecure_http as a text", { allow_insecure_http = "yes" }, "true or false" },
            { "options that are no table", 5, "options must be a table, got 5" },
        }
        for _, case in ipairs(refused) do
            it("is not built with " .. case[1], function()
                local err = failure(Base, "test:", case[2])
                assert.equal("usage", err.kind)
                assert.matches(case[3], err.message, 1, true)
            end)
        end

        it("is not built without a target", function()
            assert.matches("needs a target, got nil", failure(Base, nil).message)
            assert.matches("needs a target", failure(Base, "").message)
        end)
    end)
end)
