#!/usr/bin/env moonflow
-- All endpoints of a server, as in MLflow's documentation. Without a target:
-- http://localhost:5000, a gateway with one `chat` endpoint on gpt-3.5-turbo.
--
--     moonflow scripts/list_endpoints.lua [TARGET]
local deployments = require "moonflow.deployments"

local target = (arg[1] or "http://localhost:5000"):gsub("/$", "")
local client = deployments.get_deploy_client(target)
local endpoints = client:list_endpoints()

for _, endpoint in ipairs(endpoints) do
    print(("%s  %s  %s  %s"):format(endpoint.name, endpoint.endpoint_type, endpoint.model.name, endpoint.endpoint_url))
end

assert(#endpoints == 1, "one endpoint was expected")
local chat = endpoints[1]
assert(chat.name == "chat", "name")
assert(chat.endpoint_type == "llm/v1/chat", "endpoint_type")
assert(chat.model.name == "gpt-3.5-turbo" and chat.model.provider == "openai", "model")
assert(chat.endpoint_url == target .. "/gateway/chat/invocations", "endpoint_url")
