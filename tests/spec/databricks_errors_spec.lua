--- Every form that errors of Databricks have (spec/databricks.md 2.4), and answers that are texts.
local databricks = require "support.databricks"

local failure, serve = databricks.failure, databricks.serve

local environment

before_each(function()
    environment = databricks.hide_environment()
end)

after_each(function()
    getmetatable(environment).__close(environment)
end)

local HTML = "<html><head><title>Error 400</title></head><body><pre> Invalid <b>path</b></pre></body></html>"

--- What it is: the answer; its error_code; a part of the message; other fields.
local CASES = {
    ["the usual one"] = {
        { status = 404, json = { error_code = "RESOURCE_DOES_NOT_EXIST", message = "no such endpoint" } },
        "RESOURCE_DOES_NOT_EXIST", "404 Scripted: no such endpoint",
    },
    ["an empty body"] = { { status = 403, reason = "Forbidden", body = "" }, "PERMISSION_DENIED", "403 Forbidden" },
    ["a number for a code"] = {
        { status = 403, json = { error_code = 403, message = "JWT has expired" } }, "PERMISSION_DENIED",
        "JWT has expired",
    },
    ["a code that is not of the status"] = {
        { status = 400, json = { error_code = "RESOURCE_EXHAUSTED", message = "full" } }, "RESOURCE_EXHAUSTED", "full",
    },
    ["API 1.2"] = { { status = 400, json = { error = "no cluster" } }, "BAD_REQUEST", "no cluster" },
    ["SCIM"] = {
        {
            status = 409,
            json = { schemas = { "urn:x" }, detail = "user exists", status = "409", scimType = "uniqueness" },
        },
        "SCIM_409", "uniqueness user exists",
    },
    ["SCIM without words"] = {
        { status = 500, json = { schemas = { "urn:x" }, detail = "null", status = "500" } }, "SCIM_500",
        "SCIM API Internal Error",
    },
    ["OpenAI's"] = {
        { status = 400, json = { error = { message = "bad model", type = "invalid_request_error" } } }, "BAD_REQUEST",
        "bad model (invalid_request_error)",
    },
    ["a text with a code"] = {
        { status = 403, body = "PERMISSION_DENIED: you may not" }, "PERMISSION_DENIED", "403 Scripted: you may not",
    },
    ["a text"] = { { status = 400, body = "Error: so it is" }, "BAD_REQUEST", "Error: so it is" },
    ["a page"] = {
        { status = 400, headers = { ["Content-Type"] = "text/html" }, body = HTML }, "BAD_REQUEST",
        'an HTML page, title "Error 400": Invalid path',
    },
    ["a private link"] = {
        {
            status = 302,
            headers = { Location = "https://x.test/login.html?o=1&error=private-link-validation-error:1" },
            body = "",
        },
        "PRIVATE_LINK_VALIDATION_ERROR", "takes requests only over its private network", { kind = "auth" },
    },
    ["details with a request id"] = {
        {
            status = 400,
            json = {
                error_code = "INVALID_PARAMETER_VALUE", message = "no",
                details = { { ["@type"] = "type.googleapis.com/google.rpc.RequestInfo", request_id = "r-1" }, 7 },
            },
        },
        "INVALID_PARAMETER_VALUE", "no", { request_id = "r-1" },
    },
    ["a request id in a header"] = {
        { status = 400, headers = { ["x-request-id"] = "r-2" }, json = { message = "no" } }, "BAD_REQUEST", "no",
        { request_id = "r-2" },
    },
    ["a rate limit of nothing"] = {
        {
            status = 403,
            json = { error_code = "PERMISSION_DENIED", message = "disabled due to a Databricks-set rate limit of 0." },
        },
        "PERMISSION_DENIED", "rate limit of 0", { attempts = 1, retryable = false },
    },
}

describe("an error of Databricks:", function()
    for name, case in pairs(CASES) do
        it(name, function()
            local reply, code, message, fields = table.unpack(case, 1, 4)
            local server, client = serve({ reply }, { max_retries = 0 })
            local _ <close> = server
            local err = failure(client.get_endpoint, client, "e")
            assert.equal(fields and fields.kind or "http", err.kind)
            assert.equal(code, err.error_code)
            assert.equal(reply.status, err.http_status)
            assert.matches(message, err.message, 1, true)
            for field, value in pairs(fields or {}) do
                assert.equal(value, err[field])
            end
        end)
    end
end)

describe("an answer that is a text", function()
    it("is returned as it is", function()
        local metrics = '# TYPE cpu gauge\ncpu{endpoint="e"} 1.5\n'
        local server, client = serve { { headers = { ["Content-Type"] = "text/plain" }, body = metrics } }
        local _ <close> = server
        assert.equal(metrics, client:get_endpoint_metrics("e"))
        local request = server:requests()[1]
        assert.equal("/api/2.0/serving-endpoints/e/metrics", request.target)
        assert.equal("text/plain", request.header "Accept")
    end)

    it("is an error where its status says so", function()
        local server, client = serve { { status = 404, json = { message = "no such endpoint" } } }
        local _ <close> = server
        assert.equal(404, failure(client.get_endpoint_metrics, client, "e").http_status)
    end)
end)
