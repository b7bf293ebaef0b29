#!/usr/bin/env python3
"""Drives the Databricks face of `moonflow serve` through databricks-sdk, MLflow's Databricks client and the
openai package, and tells what each of them saw.

    serve_databricks.py BASE-URL

The server has the endpoints and the rules of tests/gateway/serve_databricks.lua. Prints a line for each case, as
serve_clients.py does: {"case", "result"} or {"case", "error"}. The clients sleep a twentieth of what they want to.
"""

import os
import sys
import time

import serve_clients
from serve_clients import Cases, plain, run

cases = Cases("databricks")

SECRET = "sk-live-0123456789abcdef"
HI = [{"role": "user", "content": "hi"}]


def workspace(url, **login):
    from databricks.sdk import WorkspaceClient

    return WorkspaceClient(host=url, **(login or {"token": "any"}))


def custom(version="1"):
    from databricks.sdk.service.serving import ServedEntityInput

    return [ServedEntityInput(name="m", entity_name="main.default.m", entity_version=version,
                              workload_size="Small", scale_to_zero_enabled=True)]


def external():
    return {"name": "a", "external_model": {
        "name": "gpt-4o-mini", "provider": "openai", "task": "llm/v1/chat",
        "openai_config": {"openai_api_key_plaintext": SECRET},
    }}


def config_of(name, entities):
    from databricks.sdk.service.serving import EndpointCoreConfigInput

    return EndpointCoreConfigInput(name=name, served_entities=entities)


def seen(endpoint):
    """What a life looks like from outside."""
    state, pending = endpoint.state, endpoint.pending_config
    return [state.ready.value, state.config_update.value,
            endpoint.config and endpoint.config.config_version, pending and pending.config_version]


def failure(call, *args, **named):
    try:
        call(*args, **named)
    except Exception as error:  # pylint: disable=broad-except # each of them is what is asked for
        return [type(error).__name__, getattr(error, "error_code", None), str(error)]
    return None


def life(url, name, **login):
    """An endpoint from its creation to its deletion."""
    from databricks.sdk.service.serving import AiGatewayRateLimit, AiGatewayRateLimitRenewalPeriod, EndpointTag

    api, shown = workspace(url, **login).serving_endpoints, {}
    wait = api.create(name, config=config_of(name, custom()))
    shown["made"] = seen(wait.response)
    shown["waited"] = seen(wait.result())
    shown["updating"] = seen(api.update_config(name, served_entities=custom("2")).response)
    shown["conflict"] = failure(api.update_config, name, served_entities=custom("3"))
    shown["meanwhile"] = api.query(name, dataframe_records=[{"a": 1, "b": 2}]).predictions
    shown["updated"] = seen(api.wait_get_serving_endpoint_not_updating(name))
    shown["again"] = seen(api.update_config_and_wait(name, served_entities=custom("3")))
    shown["tags"] = api.patch(name, add_tags=[EndpointTag(key="team", value="moon")]).as_dict()
    limit = AiGatewayRateLimit(calls=1, renewal_period=AiGatewayRateLimitRenewalPeriod.MINUTE)
    shown["gateway"] = api.put_ai_gateway(name, rate_limits=[limit]).as_dict()
    endpoint = api.get(name)
    shown["levels"] = len(api.get_permission_levels(endpoint.id).permission_levels)
    shown["permissions"] = api.get_permissions(endpoint.id).object_type
    shown["logs"] = api.build_logs(name, "m").logs
    shown["metrics"] = api.export_metrics(name).contents.read().decode()
    shown["listed"] = [one.name for one in api.list()]
    api.delete(name)
    shown["gone"] = failure(api.get, name)
    return shown


cases.add("life, by a token", life, "sdk-token", token="any")
cases.add("life, by an application", life, "sdk-machine", client_id="app", client_secret="secret")


@cases.case("an update that fails")
def _broken(url):
    api = workspace(url).serving_endpoints
    api.create_and_wait("broken", config=config_of("broken", custom()))
    failed = failure(api.update_config_and_wait, "broken", served_entities=custom("2"))
    endpoint = api.get("broken")
    entity = endpoint.pending_config.served_entities[0].state
    return {"failed": failed, "seen": seen(endpoint), "message": entity.deployment_state_message,
            "answers": api.query("broken", instances=[[1, 2]]).predictions}


@cases.case("a refusal")
def _refused(url):
    return failure(workspace(url).serving_endpoints.create, "a b", config=config_of("a b", custom()))


@cases.case("a chat")
def _chat(url):
    from databricks.sdk.service.serving import ChatMessage, ChatMessageRole

    message = ChatMessage(role=ChatMessageRole.USER, content="hi")
    return workspace(url).serving_endpoints.query("chat", messages=[message]).choices[0].message.content


@cases.case("a chat of the openai package")
def _openai(url):
    from openai import OpenAI

    client = OpenAI(base_url=url + "/serving-endpoints", api_key="any", max_retries=0)
    stream = client.chat.completions.create(model="chat", messages=HI, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@cases.case("who I am")
def _me(url):
    return workspace(url, client_id="app", client_secret="secret").current_user.me().user_name


@cases.case("a route of its own")
def _data_plane(url):
    space = workspace(url, client_id="app", client_secret="secret")
    space.serving_endpoints.create_and_wait("routed", config=config_of("routed", custom()), route_optimized=True)
    return space.serving_endpoints_data_plane.query("routed", instances=[[1, 2]]).predictions


@cases.case("mlflow: a life")
def _mlflow(url):
    from mlflow.deployments import get_deploy_client

    os.environ.update(DATABRICKS_HOST=url, DATABRICKS_TOKEN="any")
    client, shown = get_deploy_client("databricks"), {}
    made = client.create_endpoint(config={"name": "mlflow", "config": {"served_entities": [external()]}})
    deadline = time.monotonic() + 60
    while client.get_endpoint(endpoint="mlflow").state.ready != "READY" and time.monotonic() < deadline:
        time.sleep(0.1)
    ready = client.get_endpoint(endpoint="mlflow")
    shown["states"] = [dict(made.state), dict(ready.state)]
    shown["secret"] = SECRET in str(made) + str(ready) + str(client.list_endpoints())
    shown["answer"] = client.predict(endpoint="mlflow", inputs={"messages": HI}).choices[0]["message"]["content"]
    chunks = list(client.predict_stream(endpoint="mlflow", inputs={"messages": HI}))
    shown["stream"] = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    shown["updated"] = dict(client.update_endpoint_config(
        endpoint="mlflow", config={"served_entities": [external()]}).state)
    shown["conflict"] = failure(client.update_endpoint_config, endpoint="mlflow",
                                config={"served_entities": [external()]})
    shown["tags"] = plain(client.update_endpoint_tags(endpoint="mlflow", config={"add_tags": [{"key": "k"}]}))
    shown["limits"] = plain(client.update_endpoint_rate_limits(
        endpoint="mlflow", config={"rate_limits": [{"calls": 9, "key": "user", "renewal_period": "minute"}]}))
    shown["gateway"] = plain(client.update_endpoint_ai_gateway(
        endpoint="mlflow", config={"usage_tracking_config": {"enabled": True}}))
    shown["listed"] = [one["name"] for one in client.list_endpoints()]
    client.delete_endpoint(endpoint="mlflow")
    shown["gone"] = failure(client.get_endpoint, endpoint="mlflow")
    shown["file"] = client.predict(endpoint="chat", inputs={"messages": HI}).choices[0]["message"]["content"]
    return shown


def main():
    serve_clients.prepare()
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds / 20)
    url = sys.argv[1].rstrip("/")
    for name, function in cases.all:
        run(name, function, url)


if __name__ == "__main__":
    main()
