local fake = require "support.fake"

describe("moonflow.env", function()
    local world, env

    before_each(function()
        world = fake.world { environ = { HOME = "/home/x", EMPTY = "" } }
        env = world.env
    end)

    after_each(function()
        world:close()
    end)

    it("reads the environment", function()
        assert.equal("/home/x", env.HOME)
        assert.equal("", env.EMPTY)
        assert.is_nil(env.NO_SUCH_VARIABLE)
    end)

    it("keeps what is assigned, and forgets what is set to nil", function()
        env.HOME = "/elsewhere"
        env.NEW = "1"
        assert.equal("/elsewhere", env.HOME)
        assert.equal("1", env.NEW)
        env.HOME = nil
        assert.is_nil(env.HOME)
    end)

    it("leaves the process's own environment alone", function()
        env.PATH = "changed"
        assert.not_equal("changed", os.getenv("PATH"))
    end)

    it("lists everything in order with pairs", function()
        env.B = "2"
        env.EMPTY = nil
        local names = {}
        for name, value in pairs(env) do
            names[#names + 1] = name .. "=" .. value
        end
        assert.same({ "B=2", "HOME=/home/x" }, names)
    end)

    it("allows assignments while it is listed", function()
        local count = 0
        for name in pairs(env) do
            env[name] = nil
            count = count + 1
        end
        assert.equal(2, count)
        assert.is_nil(env.HOME)
    end)

    local refused = {
        { "a number", "X", 5 },
        { "a boolean", "X", false },
        { "a NUL in the value", "X", "a\0b" },
        { "a NUL in the name", "a\0b", "x" },
        { "a name with =", "A=B", "x" },
        { "an empty name", "", "x" },
        { "a name that is no string", 1, "x" },
    }
    for _, case in ipairs(refused) do
        it("refuses " .. case[1], function()
            local ok, err = pcall(function()
                env[case[2]] = case[3]
            end)
            assert.is_false(ok)
            assert.equal("usage", err.kind)
            assert.matches("env_spec.lua:%d+$", err.where)
        end)
    end
end)
