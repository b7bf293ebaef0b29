#!/usr/bin/env python3
"""Drives a server through the clients that others wrote, and tells what each call gave.

    serve_clients.py BASE-URL [GROUP...]

GROUP is one of deployments, pages, openai, raw (what a gateway with the endpoints of
tests/gateway/tests.yaml can be asked), handlers (those of tests/gateway/serve_handlers.lua); without
one, deployments, openai and raw. Prints a line for each case:

    {"case": "deployments: get chat", "result": ...}
    {"case": "deployments: get nobody", "error": {"class", "status", "message", ...}}

The address of the server is written http://SERVER, as its port is another one each time; so are the
identities and times that aimock and the handlers make anew. Nothing else is changed: where answers are
made of the question, two servers must give the same lines.
"""

import importlib
import json
import os
import sys
import time

GROUPS = ("deployments", "pages", "openai", "raw", "handlers")
DEFAULT = ("deployments", "openai", "raw")
SERVER = "http://SERVER"
ANSWERS = ("chat.completion", "chat.completion.chunk", "text_completion", "text_completion_chunk")


class Cases:
    """The cases of a group: a list of (name, function), made by the decorator `case`."""

    def __init__(self, group):
        self.group = group
        self.all = []

    def case(self, name):
        def keep(function):
            self.all.append((f"{self.group}: {name}", function))
            return function

        return keep

    def add(self, name, function, *args, **named):
        self.all.append((f"{self.group}: {name}", lambda url: function(url, *args, **named)))


def plain(value):
    """A client's objects as JSON has them."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def without_identity(value):
    """The same where an answer's identity and time are made anew: "chatcmpl-*", "now"."""
    if isinstance(value, list):
        return [without_identity(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {name: without_identity(one) for name, one in value.items()}
    if isinstance(out.get("id"), str) and out.get("object") in ANSWERS:
        out["id"] = out["id"].split("-")[0] + "-*"
    if isinstance(out.get("created"), int) and abs(out["created"] - time.time()) < 60:
        out["created"] = "now"
    return out


def decoded(text):
    """The order of an object's names is no difference."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def described(error):
    """What a program that catches the error can see of it."""
    response = getattr(error, "response", None)
    message, marked, text = str(error).partition(" Response text: ")
    seen = {
        "class": type(error).__name__,
        "status": getattr(response, "status_code", None),
        "message": message,
    }
    if marked:
        seen["text"] = decoded(text)
    for name in ("error_code", "code", "param", "type", "body"):  # of MLflow's, and of the openai package's
        if getattr(error, name, None) is not None:
            seen[name] = plain(getattr(error, name))
    return seen


def run(name, function, url):
    try:
        result = plain(function(url))
        shown = {"case": name, "result": without_identity(result) if "aimock" in name else result}
    except Exception as error:  # pylint: disable=broad-except # each of them is what is asked for
        shown = {"case": name, "error": described(error)}
    line = json.dumps(shown, ensure_ascii=False, sort_keys=True, default=str)
    print(line.replace(url, SERVER), flush=True)


def prepare():
    """No setting, credential or proxy of the user's; and an error is an error at the first attempt."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "OPENAI_", "AZURE_", "DATABRICKS_")):
            del os.environ[name]
    os.environ.update({
        "HOME": "/nonexistent",
        "NO_PROXY": "*",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    })
    sys.stdout.reconfigure(encoding="utf-8")


def main():
    url, groups = sys.argv[1].rstrip("/"), sys.argv[2:] or DEFAULT
    for group in groups:
        if group not in GROUPS:
            sys.exit(f"no group {group!r}: {', '.join(GROUPS)}")
    prepare()
    for group in groups:
        for name, function in importlib.import_module("serve_" + group).cases.all:
            run(name, function, url)


if __name__ == "__main__":
    sys.modules["serve_clients"] = sys.modules["__main__"]
    main()
