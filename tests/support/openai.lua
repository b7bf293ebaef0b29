--- Clients of the backend openai for tests: in a world without a network, or against a server, with
-- none of the user's own variables.
local env = require "moonflow.env"
local fake = require "support.fake"

local openai = {}

openai.KEY = "sk-proj-0123456789abcdef"
openai.CHAT = { messages = { { role = "user", content = "Hello!" } } }

-- Nothing listens there: where Entra ID is asked for a token, no machine's identity may be found.
local NOWHERE = "http://127.0.0.1:1"

--- A client in a fake world.
---@param answers table one answer, or a list of them; see support.fake
---@param target? string default "openai"
---@param options? table of the client
---@param environ? table all variables; default: the key alone
---@param random? number
---@return table world to be closed
---@return table client
function openai.open(answers, target, options, environ, random)
    local world = fake.world {
        answers = answers[1] and answers or { answers },
        environ = environ or { OPENAI_API_KEY = openai.KEY },
        random = random,
    }
    return world, world.deployments.get_deploy_client(target or "openai", options)
end

local function is_own(name)
    return name:find("^OPENAI_") or name:find("^AZURE_") or name:find("^IDENTITY_")
end

local function forget(saved)
    for name, value in pairs(env) do
        if is_own(name) then
            env[name] = nil
            saved[name] = value
        end
    end
end

--- Takes the user's own variables away, until `close`; sets others in their place.
---@param variables? table
---@return table guard
function openai.hide_environment(variables)
    local saved = {}
    forget(saved)
    env.AZURE_POD_IDENTITY_AUTHORITY_HOST = NOWHERE
    for name, value in pairs(variables or {}) do
        env[name] = value
    end
    return {
        close = function()
            forget {}
            for name, value in pairs(saved) do
                env[name] = value
            end
        end,
    }
end

return openai
