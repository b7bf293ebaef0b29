#!/usr/bin/env moonflow
-- An endpoint for a model of OpenAI's on Databricks, as in MLflow's documentation. DATABRICKS_HOST and
-- DATABRICKS_TOKEN say where; the key stays in a secret scope of the workspace.
--
--     moonflow scripts/create_endpoint.lua [NAME]
local deployments = require "moonflow.deployments"

local name = arg[1] or "chat"
local client = deployments.get_deploy_client("databricks")

client:create_endpoint {
    name = name,
    config = {
        served_entities = {
            {
                name = "test",
                external_model = {
                    name = "gpt-4",
                    provider = "openai",
                    task = "llm/v1/chat",
                    openai_config = { openai_api_key = "{{secrets/scope/key}}" },
                },
            },
        },
    },
}

local endpoint = client:wait_endpoint { endpoint = name, timeout = 600 }
print(("%s is %s"):format(endpoint.name, endpoint.state.ready))
