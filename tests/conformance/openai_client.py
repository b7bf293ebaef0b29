#!/usr/bin/env python3
"""Records what the Python clients of OpenAI send, and what they return, in every case of
openai_cases.json: MLflow's `OpenAIDeploymentClient`, and the `openai` package under it.

    openai_client.py CONTROL-URL     of a raw server (tests/servers/raw.py); JSON on standard output:

    [{"name", "requests": [{"method", "path", "query", "headers", "body"}],
      "result", or "http_status" of the error, or "error" (its class) where it has no status}]

`headers` are those of HEADERS below that were sent. `result` is a dict; a list of chunks of a stream,
also beside the error that ended it; a list of models. MLflow's client returns every field of the
schema, null where the answer has none: the record is without those nulls.

A case has beside what recorder.py reads
    client   "mlflow", or "openai" or "azure": the class OpenAI or AzureOpenAI of the package
    options  arguments of that class
    call     the method: for "mlflow" a name, else the path to it, as ["chat", "completions", "create"]
    args     its arguments
    stream   the result is a stream, to be read to its end
    ours     the same call in moonflow: target, env, method, args; not read here
"""

import functools

import openai
import recorder

HEADERS = ("authorization", "api-key", "content-type", "accept", "openai-organization", "openai-project")
PREFIXES = ("MLFLOW_", "OPENAI_", "AZURE_")
CLIENTS = {"openai": openai.OpenAI, "azure": openai.AzureOpenAI}


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def plain(value):
    # no warnings: an embedding in base64 is not of the type that the schema has
    return value.to_dict(warnings=False)


def call_mlflow(case, result):
    # not before the recorder has switched its telemetry off
    from mlflow.deployments import get_deploy_client

    method = getattr(get_deploy_client("openai"), case["call"])
    result["result"] = without_nulls(method(**case["args"]))


def call_package(case, result):
    with CLIENTS[case["client"]](**{"max_retries": 0, **case.get("options", {})}) as client:
        method = functools.reduce(getattr, case["call"], client)
        if case.get("stream"):
            chunks = method(stream=True, **case["args"])
            result["result"] = []
            for chunk in chunks:
                result["result"].append(plain(chunk))
            return
        answer = method(**case["args"])
        paged = isinstance(answer, openai.pagination.SyncPage)
        result["result"] = [plain(one) for one in answer] if paged else plain(answer)


def outcome(case, _url):
    result = {}
    try:
        (call_mlflow if case["client"] == "mlflow" else call_package)(case, result)
    except openai.APIStatusError as error:
        result["http_status"] = error.status_code
    except openai.APIError as error:
        result["error"] = type(error).__name__
    return result


if __name__ == "__main__":
    recorder.record("openai_cases.json", outcome, HEADERS, PREFIXES)
