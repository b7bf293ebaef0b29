#!/usr/bin/env moonflow
-- Clients for several targets, as in MLflow's documentation. A target is a URI: its scheme names
-- the backend or plugin. Building a client needs no network.
--
--     moonflow scripts/get_client.lua
local deployments = require "moonflow.deployments"

-- an MLflow AI Gateway
local gateway = deployments.get_deploy_client("http://localhost:5000")
print(gateway)

-- a plugin: the file echo.lua in a plugin directory
local echo = deployments.get_deploy_client("echo:")
print(echo, echo:predict{ endpoint = "echo", inputs = "hello" }.echo)

-- the target that the environment or set_deployments_target names
deployments.set_deployments_target("http://localhost:7000")
print(deployments.get_deploy_client())

assert(tostring(gateway) == 'MlflowDeploymentClient("http://localhost:5000")')
assert(deployments.get_deploy_client().target_uri == "http://localhost:7000")
