--- All modules of moonflow, each loaded when it is first used: `require("moonflow").deployments`.
local moonflow = {}

local modules = {
    auth = true, base64 = true, chat = true, client = true, config = true, deployments = true, env = true, error = true,
    http = true, json = true, plugins = true, server = true, sys = true, target = true, task = true, url = true,
}

return setmetatable(moonflow, {
    __index = function(self, name)
        if modules[name] then
            self[name] = require("moonflow." .. name)
        end
        return rawget(self, name)
    end,
    __pairs = function(self)
        for name in pairs(modules) do
            self[name] = self[name]
        end
        return next, self
    end,
})
