local fake = require "support.fake"

describe("moonflow.deployments", function()
    local world, deployments

    local function open(environ)
        environ = environ or {}
        environ.HOME = environ.HOME or "/nonexistent"
        world = fake.world { environ = environ }
        deployments = world.deployments
    end

    before_each(function()
        open()
    end)

    after_each(function()
        world:close()
    end)

    local function failure(fn, ...)
        local ok, err = pcall(fn, ...)
        assert.is_false(ok)
        assert.is_true(world.error.is(err), tostring(err))
        return err
    end

    describe("get_deploy_client", function()
        it("builds a client without a network", function()
            local client = deployments.get_deploy_client("http://localhost:5000", { timeout = 3 })
            assert.equal('MlflowDeploymentClient("http://localhost:5000")', tostring(client))
            assert.equal("http://localhost:5000", client.target_uri)
            assert.equal(3, client.config.timeout)
            assert.equal(0, #world.requests)
        end)

        it("knows http and https in any letter case", function()
            for _, uri in ipairs { "http://h", "https://h", "HTTP://H", "http://h/prefix/" } do
                assert.equal(uri, deployments.get_deploy_client(uri).target_uri)
            end
        end)

        local bad = {
            { "http://", "usage" }, { "http:/x", "usage" }, { "http://user:pw@h", "usage" }, { "http://h?x=1",
                "usage" },
            { "http://h:99999", "usage" }, { "http://h\\@evil", "usage" },
        }
        for _, case in ipairs(bad) do
            it("refuses " .. case[1], function()
                local err = failure(deployments.get_deploy_client, case[1])
                assert.equal(case[2], err.kind)
                assert.not_matches("pw", tostring(err))
            end)
        end

        it("refuses what is no URI, as MLflow does", function()
            local err = failure(deployments.get_deploy_client, "  ")
            assert.equal("config", err.kind)
            assert.equal("INTERNAL_ERROR", err.error_code)
            assert.matches("Not a proper deployment URI", err.message)
        end)

        it("refuses what is no text", function()
            assert.matches("a target must be a string, got 5", failure(deployments.get_deploy_client, 5).message)
        end)

        it("names the known targets where it knows none", function()
            local err = failure(deployments.get_deploy_client, "nowhere://x")
            assert.equal("RESOURCE_DOES_NOT_EXIST", err.error_code)
            assert.equal("config", err.kind)
            assert.matches('^No plugin found for managing model deployments to "nowhere"\n', err.message)
            assert.matches("known targets: databricks, http, https, openai", err.message, 1, true)
            assert.matches("searched: .*/moonflow/plugins", err.message)
        end)

        it("guesses what was meant", function()
            assert.equal('did you mean "http"?', failure(deployments.get_deploy_client, "htp://h").hint)
            assert.equal("http://localhost:5000", failure(deployments.get_deploy_client, "localhost:5000").hint)
            assert.equal("http://1.2.3.4:80", failure(deployments.get_deploy_client, "1.2.3.4:80").hint)
        end)

        it("passes wrong options on", function()
            assert.matches('"tken" is not an option', failure(deployments.get_deploy_client, "http://h",
                { tken = "x" }).message)
        end)
    end)

    describe("the target where none is named", function()
        local function target(environ, chosen)
            world:close()
            open(environ)
            if chosen then
                deployments.set_deployments_target(chosen)
            end
            return deployments.get_deploy_client().target_uri, deployments.get_deploy_client("").target_uri
        end

        it("is what set_deployments_target said", function()
            assert.equal("http://a", (target({ MLFLOW_DEPLOYMENTS_TARGET = "http://b" }, "http://a")))
        end)

        it("or MLFLOW_DEPLOYMENTS_TARGET, or its other spelling", function()
            assert.equal("http://b", (target { MLFLOW_DEPLOYMENTS_TARGET = "http://b" }))
            assert.equal("http://c", (target { MLFLOW_DEPLOYMENT_TARGET = "http://c" }))
            assert.equal("http://c", (target { MLFLOW_DEPLOYMENTS_TARGET = "", MLFLOW_DEPLOYMENT_TARGET = "http://c" }))
            assert.same({}, world.lines)
        end)

        it("is warned of once where the spellings differ", function()
            assert.equal("http://b", (target { MLFLOW_DEPLOYMENTS_TARGET = "http://b",
                MLFLOW_DEPLOYMENT_TARGET = "http://c" }))
            assert.equal(1, #world.lines)
            assert.matches("differ", world.lines[1])
            target { MLFLOW_DEPLOYMENTS_TARGET = "http://b", MLFLOW_DEPLOYMENT_TARGET = "http://b" }
            assert.same({}, world.lines)
        end)

        it("is databricks inside Databricks", function()
            world:close()
            open { DATABRICKS_RUNTIME_VERSION = "15.4" }
            assert.equal("databricks", deployments.get_deployments_target())
            world:close()
            open { DATABRICKS_RUNTIME_VERSION = "" }
            assert.is_false(pcall(deployments.get_deployments_target))
        end)

        it("else is an error that says what was looked at", function()
            for _, call in ipairs { deployments.get_deploy_client, deployments.get_deployments_target } do
                local err = failure(call)
                assert.equal("config", err.kind)
                assert.equal("INTERNAL_ERROR", err.error_code)
                assert.matches("^No deployments target has been set\n", err.message)
                for _, name in ipairs {
                    "set_deployments_target", "MLFLOW_DEPLOYMENTS_TARGET", "MLFLOW_DEPLOYMENT_TARGET",
                    "DATABRICKS_RUNTIME_VERSION",
                } do
                    assert.matches(name, err.message, 1, true)
                end
            end
        end)
    end)

    describe("set_deployments_target", function()
        for _, uri in ipairs { "http://localhost", "https://h:1/p", "databricks", "databricks://profile" } do
            it("takes " .. uri, function()
                deployments.set_deployments_target(uri)
                assert.equal(uri, deployments.get_deployments_target())
            end)
        end

        for _, uri in ipairs { "localhost", "", "sagemaker:/us-west-2", "http", "http://", 5 } do
            it(("refuses %q"):format(uri), function()
                local err = failure(deployments.set_deployments_target, uri)
                assert.matches("^The target provided is not a valid uri or 'databricks'\n", err.message)
                assert.equal("INVALID_PARAMETER_VALUE", err.error_code)
                assert.is_false(pcall(deployments.get_deployments_target))
            end)
        end
    end)

    describe("run_local", function()
        it("is not offered by gateways", function()
            local err = failure(deployments.run_local, "http://h", "n", "models:/m")
            assert.equal("unsupported", err.kind)
            assert.equal("run_local", err.operation)
        end)

        it("checks its arguments", function()
            assert.matches('needs the argument "name"', failure(deployments.run_local, "http://h").message)
            assert.matches('did you mean "model_uri"', failure(deployments.run_local, { model_url = "m" }).hint)
        end)
    end)

    it("has help for each target", function()
        assert.matches("an MLflow AI Gateway", deployments.target_help("http://h"))
        assert.equal("config", failure(deployments.target_help, "nowhere").kind)
    end)

    it("lists the targets", function()
        local names = {}
        for _, entry in ipairs(deployments.list_targets()) do
            names[entry.name] = entry
        end
        assert.is_true(names.http.builtin and names.https.builtin)
    end)

    it("has the classes", function()
        assert.is_true(world.client.is_class(deployments.BaseDeploymentClient))
        assert.equal("MlflowDeploymentClient", deployments.MlflowDeploymentClient.name)
        assert.is_nil(deployments.NoSuchClient)
        assert.equal("http://h", deployments.MlflowDeploymentClient("http://h").target_uri)
    end)

    it("is reached through require \"moonflow\"", function()
        local moonflow = require "moonflow"
        assert.equal(deployments, moonflow.deployments)
        assert.is_nil(moonflow.nothing)
    end)
end)
