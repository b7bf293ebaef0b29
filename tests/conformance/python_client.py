#!/usr/bin/env python3
"""Records what MLflow's own Python client sends, and what it returns, in every case of cases.json.

    python_client.py CONTROL-URL     of a raw server (tests/servers/raw.py); JSON on standard output:

    [{"name", "requests": [{"method", "path", "query", "headers", "body"}],
      "result" or "http_status" of the error}]

`headers` are those of HEADERS below that were sent, and the content-length where there is no body;
`body` is the decoded JSON, absent when nothing was sent.
The address of the server is written http://SERVER, as its port is another one each time.
"""

import recorder

HEADERS = ("authorization", "content-type")
VARIABLES = {
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}


def plain(value):
    """Endpoint objects as plain tables; lists of them too."""
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


def outcome(case, url):
    from mlflow.deployments import get_deploy_client
    from requests import HTTPError

    try:
        method = getattr(get_deploy_client(url), case["method"])
        return {"result": plain(method(**case.get("args", {})))}
    except HTTPError as error:  # passes through MLflow's client as it is
        return {"http_status": error.response.status_code}


if __name__ == "__main__":
    recorder.record("cases.json", outcome, HEADERS, "MLFLOW_", VARIABLES)
