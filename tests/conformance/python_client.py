#!/usr/bin/env python3
"""Records what MLflow's own Python client sends, and what it returns, in every case of cases.json.

    python_client.py CONTROL-URL     of a raw server (tests/servers/raw.py); JSON on standard output:

    [{"name", "requests": [{"method", "path", "query", "headers", "body"}],
      "result" or "http_status" of the error}]

`headers` are those of HEADERS below that were sent, and the content-length where there is no body;
`body` is the decoded JSON, absent when nothing was sent.
The address of the server is written http://SERVER, as its port is another one each time.
"""

import base64
import json
import os
import pathlib
import sys
import urllib.request

HEADERS = ("authorization", "content-type")
SERVER = "http://SERVER"
OWN_VARIABLES = {
    # a home without credential files, and no proxy between the two programs of this test
    "HOME": "/nonexistent",
    "NO_PROXY": "*",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def control(url, method, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as answer:
        return json.load(answer)


def steps(reply):
    body = json.dumps(reply["json"]).encode()
    headers = {"Content-Type": "application/json", "Content-Length": len(body), **reply.get("headers", {})}
    lines = [f"HTTP/1.1 {reply.get('status', 200)} Scripted", *(f"{n}: {v}" for n, v in headers.items())]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return [{"send64": base64.b64encode(data).decode()}]


def shown_request(request):
    path, _, query = request["target"].partition("?")
    sent = {name.lower(): value for name, value in request["headers"]}
    shown = {
        "method": request["method"],
        "path": path,
        "query": query,
        "headers": {name: sent[name] for name in HEADERS if name in sent},
    }
    body = base64.b64decode(request["body64"])
    if body:
        shown["body"] = json.loads(body)
    elif "content-length" in sent:
        shown["headers"]["content-length"] = sent["content-length"]
    return shown


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


def run(case, base):
    listener = control(f"{base}/listeners", "POST", {"requests": [steps(r) for r in case["replies"]]})
    url = f"http://127.0.0.1:{listener['port']}"
    os.environ.update(case.get("env", {}))
    try:
        result = outcome(case, url)
    finally:
        for name in case.get("env", {}):
            del os.environ[name]
    requests = control(f"{base}/listeners/{listener['id']}", "GET")["requests"]
    control(f"{base}/listeners/{listener['id']}", "DELETE")
    shown = {"name": case["name"], "requests": [shown_request(r) for r in requests], **result}
    return json.loads(json.dumps(shown).replace(url, SERVER))


def main():
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(OWN_VARIABLES)
    cases = json.loads(pathlib.Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
    json.dump([run(case, sys.argv[1]) for case in cases], sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
