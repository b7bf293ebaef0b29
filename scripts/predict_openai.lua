#!/usr/bin/env moonflow
-- A query to a model of OpenAI's, as in MLflow's documentation. The key of the environment is used;
-- without one, write yours below. OPENAI_BASE_URL names another server.
--
--     moonflow scripts/predict_openai.lua [MODEL]
local deployments = require "moonflow.deployments"
local env = require "moonflow.env"

env.OPENAI_API_KEY = env.OPENAI_API_KEY or "write your key here"

local client = deployments.get_deploy_client("openai")
local reply = client:predict {
    endpoint = arg[1] or "gpt-4o-mini",
    inputs = {
        messages = { { role = "user", content = "Hello!" } },
        max_tokens = 64, -- every input is sent
    },
}
print(reply.choices[1].message.content)
