#!/usr/bin/env python3
"""Records what Python's clients of Databricks Model Serving send, and what they return, in every case of
databricks_cases.json: MLflow's `DatabricksDeploymentClient`, and `databricks-sdk` for what that has not.

    databricks_client.py CONTROL-URL     of a raw server (tests/servers/raw.py); JSON on standard output:

    [{"name", "requests": [{"method", "path", "query", "headers", "body"}],
      "result", or "http_status" of the error, or "error" (its class) where it has no status}]

`headers` are those of HEADERS below that were sent. `result` is what the method returned, a list of the
chunks of a stream; of databricks-sdk it is the object's own `as_dict()`.
databricks-sdk asks a workspace for its metadata before the first request, in MLflow's client twice: here
that look-up fails at once, so that the requests are those of the methods.

A case has beside what recorder.py reads
    client   "mlflow", or "sdk": databricks-sdk's WorkspaceClient
    call     the method; for "sdk" one of `serving_endpoints`
    args     its arguments
    types    for "sdk": the classes of databricks.sdk.service.serving that arguments are made of, by
             argument; of each item, where it is a list
    stream   the result is a stream, to be read to its end
    ours     the same call in moonflow, where it is another: method, args; not read here
"""

import logging
import os
import warnings

import recorder

HEADERS = ("authorization", "content-type", "accept", "x-databricks-endpoints-api-client")
PREFIXES = ("MLFLOW_", "DATABRICKS_", "AZURE_", "ARM_")
VARIABLES = {
    "DATABRICKS_TOKEN": "dapi0123456789abcdef",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "5",
}


def call_mlflow(case, result):
    # not before the recorder has switched its telemetry off
    from mlflow.deployments import get_deploy_client

    answer = getattr(get_deploy_client("databricks"), case["call"])(**case.get("args", {}))
    if not case.get("stream"):
        result["result"] = answer
        return
    result["result"] = []
    for chunk in answer:
        result["result"].append(chunk)


def no_metadata(host, client=None):
    raise ValueError(f"no metadata of {host} in this record")


def typed(case):
    from databricks.sdk.service import serving

    args = dict(case.get("args", {}))
    for name, kind in case.get("types", {}).items():
        make = getattr(serving, kind).from_dict
        args[name] = [make(one) for one in args[name]] if isinstance(args[name], list) else make(args[name])
    return args


def call_sdk(case, result):
    from databricks.sdk import WorkspaceClient

    answer = getattr(WorkspaceClient().serving_endpoints, case["call"])(**typed(case))
    answer = getattr(answer, "response", answer)  # of a Wait
    result["result"] = answer.as_dict() if hasattr(answer, "as_dict") else answer
    contents = getattr(answer, "contents", None)  # of what is no JSON
    if contents is not None:
        result["result"] = contents.read().decode()


def outcome(case, url):
    from databricks.sdk import config
    from databricks.sdk.errors import DatabricksError
    from databricks.sdk.errors.platform import STATUS_CODE_MAPPING
    from requests import HTTPError

    logging.disable(logging.WARNING)
    config.get_host_metadata = no_metadata
    os.environ["DATABRICKS_HOST"] = url
    warnings.simplefilter("ignore")
    result = {}
    try:
        (call_mlflow if case["client"] == "mlflow" else call_sdk)(case, result)
    except HTTPError as error:  # passes through MLflow's client as it is
        result["http_status"] = error.response.status_code
    except DatabricksError as error:
        result["http_status"] = next(status for status, kind in STATUS_CODE_MAPPING.items() if isinstance(error, kind))
    except Exception as error:  # each class is part of the record
        result["error"] = type(error).__name__
    return result


if __name__ == "__main__":
    recorder.record("databricks_cases.json", outcome, HEADERS, PREFIXES, VARIABLES)
