local fake = require "support.fake"

describe("moonflow.config", function()
    local world, config, env

    before_each(function()
        world = fake.world {}
        config, env = world.config, world.env
    end)

    after_each(function()
        world:close()
    end)

    local defaults = {
        MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT = 120,
        MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT = 600,
        MLFLOW_DEPLOYMENT_CLIENT_HTTP_REQUEST_TIMEOUT = 300,
        MLFLOW_HTTP_REQUEST_TIMEOUT = 120,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES = 7,
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR = 2,
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER = 1.0,
        MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER = true,
        MLFLOW_TRACKING_INSECURE_TLS = false,
        _MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT = 10,
        _MLFLOW_HTTP_REQUEST_MAX_BACKOFF_FACTOR_LIMIT = 120,
    }

    it("has MLflow's defaults", function()
        for name, value in pairs(defaults) do
            assert.equal(value, config.get(name), name)
        end
        assert.is_nil(config.get("MLFLOW_TRACKING_TOKEN"))
    end)

    local accepted = {
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3", 3 },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", " +3 ", 3 },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1", -1 },
        { "MLFLOW_HTTP_REQUEST_TIMEOUT", "007", 7 },
        { "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0.5", 0.5 },
        { "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "1e-1", 0.1 },
        { "MLFLOW_TRACKING_INSECURE_TLS", "TRUE", true },
        { "MLFLOW_TRACKING_INSECURE_TLS", "1", true },
        { "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "False", false },
        { "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "0", false },
        { "MLFLOW_TRACKING_TOKEN", "abc", "abc" },
    }
    for _, case in ipairs(accepted) do
        it(("reads %s=%q"):format(case[1], case[2]), function()
            env[case[1]] = case[2]
            assert.equal(case[3], config.get(case[1]))
        end)
    end

    it("takes an empty text for none", function()
        env.MLFLOW_TRACKING_TOKEN = ""
        assert.is_nil(config.get("MLFLOW_TRACKING_TOKEN"))
    end)

    local refused = {
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many", "an integer" },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1.5", "an integer" },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0x10", "an integer" },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "", "an integer" },
        { "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "99999999999999999999", "an integer" },
        { "MLFLOW_HTTP_REQUEST_TIMEOUT", "0", "seconds above 0" },
        { "MLFLOW_HTTP_REQUEST_TIMEOUT", "-5", "seconds above 0" },
        { "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "nan", "a number" },
        { "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1e999", "a number" },
        { "MLFLOW_TRACKING_INSECURE_TLS", "yes", "true, false, 1, 0" },
        { "MLFLOW_TRACKING_INSECURE_TLS", "", "true, false, 1, 0" },
    }
    for _, case in ipairs(refused) do
        it(("refuses %s=%q and says why"):format(case[1], case[2]), function()
            env[case[1]] = case[2]
            local ok, err = pcall(config.get, case[1])
            assert.is_false(ok)
            assert.equal("config", err.kind)
            assert.matches(case[1], err.message, 1, true)
            assert.matches(case[3], err.message, 1, true)
            assert.matches(("%q"):format(case[2]), err.message, 1, true)
        end)
    end

    it("does not show a secret that stands in the wrong variable", function()
        local auth = require "moonflow.auth"
        auth.secret("s3cret-canary-value")
        env.MLFLOW_HTTP_REQUEST_TIMEOUT = "s3cret-canary-value"
        local _, err = pcall(config.get, "MLFLOW_HTTP_REQUEST_TIMEOUT")
        assert.not_matches("canary", tostring(err))
    end)

    it("knows only its own variables", function()
        assert.has_error(function()
            config.get("NO_SUCH_VARIABLE")
        end)
    end)

    local unsupported = {
        { "MLFLOW_TRACKING_AWS_SIGV4", "true", true },
        { "MLFLOW_TRACKING_AWS_SIGV4", "false", false },
        { "MLFLOW_TRACKING_AUTH", "kerberos", true },
        { "MLFLOW_TRACKING_AUTH", "", false },
        { "MLFLOW_ALLOW_HTTP_REDIRECTS", "true", true },
        { "MLFLOW_ALLOW_HTTP_REDIRECTS", "false", false },
        { "MLFLOW_HTTP_POOL_MAXSIZE", "3", false },
    }
    for _, case in ipairs(unsupported) do
        it(("%s %s=%q"):format(case[3] and "refuses" or "accepts", case[1], case[2]), function()
            env[case[1]] = case[2]
            local ok, err = pcall(config.refuse_unsupported)
            assert.equal(not case[3], ok)
            if case[3] then
                assert.equal("config", err.kind)
                assert.equal("NOT_IMPLEMENTED", err.error_code)
                assert.matches(case[1], err.message, 1, true)
            end
        end)
    end

    local limits = {
        { 10, 2, "The configured max_retries value (10) is in excess of the maximum allowable retries (10)" },
        { -1, 2, "The max_retries value must be either 0 a positive integer. Got -1" },
        { 7, 120, "The configured backoff_factor value (120) is in excess of the maximum allowable backoff_factor "
            .. "limit (120)" },
        { 7, -0.5, "The backoff_factor value must be either 0 a positive integer. Got -0.5" },
    }
    for _, case in ipairs(limits) do
        it("says as MLflow: " .. case[3], function()
            local ok, err = pcall(config.check_retries, case[1], case[2])
            assert.is_false(ok)
            assert.equal(case[3], err.message)
            assert.equal("INVALID_PARAMETER_VALUE", err.error_code)
        end)
    end

    it("takes MLflow's limits from the environment", function()
        env._MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT = "20"
        config.check_retries(19, 2)
        env._MLFLOW_HTTP_REQUEST_MAX_RETRIES_LIMIT = "-1"
        local _, err = pcall(config.check_retries, 1, 2)
        assert.equal("The current maximum retry limit is invalid (-1). Cannot be negative.", err.message)
    end)
end)
