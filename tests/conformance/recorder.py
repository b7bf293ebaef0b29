"""What the recorders of this directory share: each case is run against a scripted raw server
(tests/servers/raw.py), and what that server received becomes the record.

A case has a `name`, `replies` (objects with `status`, `headers`, and `json` or `body`; the last one
repeats) and `env`. The text SERVER_URL in the values of `env` stands for the server's URL. In the
record that URL is written http://SERVER, as its port is another one each time.
"""

import base64
import contextlib
import json
import os
import pathlib
import sys
import urllib.request

SERVER = "http://SERVER"
PLACEHOLDER = "SERVER_URL"
OWN_VARIABLES = {
    # a home without credential files, and no proxy between the two programs of this test
    "HOME": "/nonexistent",
    "NO_PROXY": "*",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def control(url, method, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as answer:
        return json.load(answer)


def steps(reply):
    headers = dict(reply.get("headers", {}))
    if "json" in reply:
        body = json.dumps(reply["json"]).encode()
        headers = {"Content-Type": "application/json", "Content-Length": len(body), **headers}
    else:
        body = reply.get("body", "").encode()
        headers = {"Content-Length": len(body), **headers}
    lines = [f"HTTP/1.1 {reply.get('status', 200)} Scripted", *(f"{n}: {v}" for n, v in headers.items())]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return [{"send64": base64.b64encode(data).decode()}]


def shown_request(request, headers):
    path, _, query = request["target"].partition("?")
    sent = {name.lower(): value for name, value in request["headers"]}
    shown = {
        "method": request["method"],
        "path": path,
        "query": query,
        "headers": {name: sent[name] for name in headers if name in sent},
    }
    body = base64.b64decode(request["body64"])
    if body:
        shown["body"] = json.loads(body)
    elif "content-length" in sent:
        shown["headers"]["content-length"] = sent["content-length"]
    return shown


@contextlib.contextmanager
def environment(variables):
    saved = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def run(case, base, outcome, headers):
    listener = control(f"{base}/listeners", "POST", {"requests": [steps(r) for r in case["replies"]]})
    url = f"http://127.0.0.1:{listener['port']}"
    with environment({n: v.replace(PLACEHOLDER, url) for n, v in case.get("env", {}).items()}):
        result = outcome(case, url)
    requests = control(f"{base}/listeners/{listener['id']}", "GET")["requests"]
    control(f"{base}/listeners/{listener['id']}", "DELETE")
    shown = {"name": case["name"], "requests": [shown_request(r, headers) for r in requests], **result}
    return json.loads(json.dumps(shown).replace(url, SERVER))


def record(file, outcome, headers, prefixes, variables=None):
    """Prints the record of every case of `file`, run by `outcome(case, url)`, which returns what is
    put beside the requests: `result`, or what failed.

    `headers`: those to record; `prefixes`: of the environment variables that the user's own are
    hidden of; `variables`: set for all cases beside OWN_VARIABLES.
    """
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        del os.environ[name]
    os.environ.update(OWN_VARIABLES, **(variables or {}))
    cases = json.loads(pathlib.Path(__file__).with_name(file).read_text(encoding="utf-8"))
    json.dump([run(case, sys.argv[1], outcome, headers) for case in cases], sys.stdout, indent=1)
    print()
