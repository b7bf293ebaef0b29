#!/usr/bin/env moonflow
-- A tour of a gateway with the endpoints `chat` and `embeddings`.
--
--     moonflow scripts/quickstart.lua [TARGET]
local deployments = require "moonflow.deployments"
local sys = require "moonflow.sys"
local task = require "moonflow.task"

local client = deployments.get_deploy_client(arg[1] or "http://localhost:5000")

local function ask(question)
    local reply = client:predict{
        endpoint = "chat",
        inputs = { messages = { { role = "user", content = question } } },
    }
    return reply.choices[1].message.content
end

print("endpoints of " .. client.target_uri)
for _, endpoint in ipairs(client:list_endpoints()) do
    print(("  %-12s %-18s %s"):format(endpoint.name, endpoint.endpoint_type, endpoint.model.name))
end

print("a chat")
print("  " .. ask("Say hello to the moon."))

print("an embedding")
local vector = client:predict{ endpoint = "embeddings", inputs = { input = "the moon" } }.data[1].embedding
print(("  %d numbers, the first is %g"):format(#vector, vector[1]))

print("eight chats at once")
local started, questions = sys.monotonic(), {}
for i = 1, 8 do
    questions[i] = "Tell me about moon number " .. i
end
local answers = task.map(questions, ask)
print(("  %d answers in %.2f s"):format(#answers, sys.monotonic() - started))

print("an error, handled")
local ok, err = pcall(client.predict, client, { endpoint = "no-such-endpoint", inputs = {} })
assert(not ok, "an endpoint that is not there answered")
print(("  kind %s, code %s, status %s"):format(err.kind, err.error_code, err.http_status))
