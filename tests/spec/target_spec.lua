local target = require "moonflow.target"

describe("moonflow.target", function()
    local names = {
        { "databricks", "databricks" },
        { "databricks://scope:prefix", "databricks", "scope:prefix" },
        { "databricks:/x", "databricks", "/x" },
        { "HTTP://X", "http", "X" },
        { "localhost:5000", "localhost", "5000" },
        { "1.2.3.4:80", "1.2.3.4:80" },
        { "my_target:/x", "my_target:/x" },
        { "//host/p", "/p" },
    }
    for _, row in ipairs(names) do
        it(("reads %q"):format(row[1]), function()
            assert.same({ name = row[2], uri = row[1], rest = row[3] }, target.parse(row[1]))
        end)
    end

    for _, uri in ipairs { "", "  ", "?q", "//host" } do
        it(("refuses %q with MLflow's message"):format(uri), function()
            local parsed, err = target.parse(uri)
            assert.is_nil(parsed)
            assert.equal("config", err.kind)
            assert.equal("INTERNAL_ERROR", err.error_code)
            assert.equal("Not a proper deployment URI: " .. uri .. ". Deployment URIs must be of the form "
                .. "'target' or 'target:/suffix'", err.message)
        end)
    end

    it("refuses control bytes and raises for what is no string", function()
        assert.is_nil((target.parse("data\nbricks")))
        assert.is_nil((target.parse("a\0b")))
        assert.has_error(function() target.parse(nil) end)
    end)
end)
