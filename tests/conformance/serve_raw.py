"""Requests that no client makes, or that a client shows too little of. See serve_clients.py."""

import json

import requests
from serve_clients import Cases

cases = Cases("raw")

HEADERS = ("content-type", "allow", "location", "retry-after", "cache-control", "www-authenticate")
CHAT = "/gateway/chat/invocations"
COMPLETIONS = "/gateway/completions/invocations"
JSON = {"Content-Type": "application/json"}
ASKED = {"messages": [{"role": "user", "content": "hi"}]}


def events(text):
    """The events of a stream, their data decoded; what is no event is shown as it is."""
    shown = []
    for event in text.split("\n\n"):
        data = event.removeprefix("data: ")
        shown.append(json.loads(data) if event.startswith("data: {") else event)
    return shown


def shown_body(answer):
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/json") and answer.content:
        return answer.json()
    return events(answer.content.decode()) if kind.startswith("text/event-stream") else answer.text


def request(url, method, path, body=None, headers=None):
    """Without keeping the connection: the gateway closes one behind a 500."""
    headers = {"Connection": "close", **(headers or {})}
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    with requests.request(
            method, url + path, data=data, headers=headers, allow_redirects=False, timeout=20) as answer:
        seen = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        return {"status": answer.status_code, "headers": seen, "body": shown_body(answer)}


def post(url, path, body, headers=None):
    return request(url, "POST", path, body, JSON if headers is None else headers)


for asked in (
        "GET /health", "HEAD /health", "POST /health", "DELETE /health", "GET /health/", "GET /health?a=b", "GET /",
        "GET /nobody", "POST /nobody", "GET /api/2.0/endpoints", "GET /api/2.0/endpoints/", "POST /api/2.0/endpoints/",
        "GET /api/2.0/endpoints/chat", "GET /api/2.0/endpoints/chat/", "DELETE /api/2.0/endpoints/chat",
        "GET /api/2.0/endpoints/ch%61t", "GET /api/2.0/endpoints/a%2Fb", "GET /api/2.0/endpoints/%ff",
        "GET /api/2.0/endpoints//chat", "GET //health", "GET /API/2.0/endpoints/", "PUT /api/2.0/endpoints/chat",
        "GET /api/2.0/endpoints/limits/chat", "GET /api/2.0/gateway/limits/chat", "GET /api/2.0/gateway/routes/",
        "GET /api/2.0/gateway/routes/chat", "GET /api/2.0/gateway/routes/nobody",
        "GET /api/3.0/gateway/endpoint/chat", "GET /api/3.0/gateway/endpoint/nobody",
        "GET /api/3.0/gateway/route/nobody", "GET /endpoints/chat/invocations", "PUT " + CHAT, "OPTIONS " + CHAT,
        "GET /gateway/nobody/invocations", "POST /gateway/chat", "POST /endpoints/nobody/invocations",
        "POST /gateway/chat/invocations/", "GET /v1/chat/completions", "GET /v1/nobody", "POST /v1/models",
        "GET /v1/models/"):
    cases.add(asked, request, *asked.split(" "))

for limited in ("/api/2.0/endpoints/limits/", "/api/2.0/gateway/limits/"):
    cases.add("POST " + limited, post, limited, {"route": "chat", "limits": []})
    cases.add(f"POST {limited} of nothing", post, limited, {})

BODIES = {
    "whole": json.dumps(ASKED).encode(),
    "with spaces around": b" \r\n\t" + json.dumps(ASKED).encode() + b"\n ",
    "with an escaped name": b'{"mess\\u0061ges":[{"role":"user","content":"\\ud83c\\udf19"}]}',
    "with a name twice": b'{"messages":[],"messages":[{"role":"user","content":"second"}]}',
    "empty": b"",
    "spaces": b"  ",
    "cut": b'{"messages": [{"role": "us',
    "cut behind a name": b'{"messages":',
    "with a comma too much": b'{"messages":[],}',
    "with single quotes": b"{'messages':[]}",
    "with more behind": b'{"messages":[]} {}',
    "of a word": b"hello",
    "of null": b"null",
    "of true": b"true",
    "of a number": b"7",
    "of a text": b'"hello"',
    "of a list": b"[]",
    "of a list with the object": b"[" + json.dumps(ASKED).encode() + b"]",
    "with NaN": b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
    "with Infinity": b'{"messages":[{"role":"user","content":"hi"}],"temperature":Infinity}',
    "with a control character": b'{"messages":[{"role":"user","content":"a\nb"}]}',
    "with a lone surrogate": b'{"messages":[{"role":"user","content":"\\ud83c"}]}',
    "not of UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "with a mark in front": b'\xef\xbb\xbf{"messages":[]}',
    "with a number that is too big":
        b'{"messages":[{"role":"user","content":"hi"}],"n":123456789012345678901234567890}',
}
for title, content in BODIES.items():
    cases.add("body " + title, post, CHAT, content)

for title, kind in {
        "with a charset": "application/json; charset=utf-8", "in capitals": "APPLICATION/JSON",
        "of a kind of JSON": "application/problem+json", "of text": "text/plain", "of a form":
        "application/x-www-form-urlencoded", "of nothing": "", "of nonsense": "nonsense",
        "of several": "application/json, text/plain"}.items():
    cases.add("content-type " + title, post, CHAT, ASKED, {"Content-Type": kind})
cases.add("content-type missing", post, CHAT, json.dumps(ASKED).encode(), {"Content-Type": None})
cases.add("name escaped in the path", post, "/endpoints/ch%61t/invocations", ASKED)
cases.add("a query behind the path", post, CHAT + "?stream=true", ASKED)
cases.add("an answer that is compressed", post, CHAT, ASKED, {**JSON, "Accept-Encoding": "gzip"})
cases.add("an Accept of text", post, CHAT, ASKED, {**JSON, "Accept": "text/html"})

for path in (CHAT, "/endpoints/chat/invocations"):
    cases.add(f"POST {path} as a stream", post, path, {**ASKED, "stream": True})
for options in (None, {}, {"include_usage": True}, {"include_usage": False}):
    cases.add(f"stream_options {options}", post, CHAT, {**ASKED, "stream": True, "stream_options": options})
cases.add("stream_options a text", post, CHAT, {**ASKED, "stream": True, "stream_options": "usage"})
cases.add("stream_options without stream", post, CHAT, {**ASKED, "stream_options": {"include_usage": True}})
cases.add("completion as a stream", post, COMPLETIONS, {"prompt": "hi", "stream": True})
cases.add("embedding as a stream", post, "/gateway/embeddings/invocations", {"input": "hi", "stream": True})
for name in ("refused", "unreachable"):
    cases.add(f"stream of {name}", post, f"/gateway/{name}/invocations", {**ASKED, "stream": True})
cases.add("stream of what is not valid", post, CHAT, {"messages": [], "stream": True})

V1 = "/v1/chat/completions"
cases.add("v1 chat", post, V1, {**ASKED, "model": "chat"})
cases.add("v1 chat as a stream", post, V1, {**ASKED, "model": "chat", "stream": True})
cases.add("v1 completion", post, "/v1/completions", {"prompt": "hi", "model": "completions"})
cases.add("v1 embedding", post, "/v1/embeddings", {"input": "hi", "model": "embeddings"})
cases.add("v1 embedding as base64", post, "/v1/embeddings",
          {"input": "hi", "model": "embeddings", "encoding_format": "base64"})
cases.add("v1 no model", post, V1, ASKED)
cases.add("v1 model null", post, V1, {**ASKED, "model": None})
cases.add("v1 model a number", post, V1, {**ASKED, "model": 7})
cases.add("v1 no such model", post, V1, {**ASKED, "model": "nobody"})
cases.add("v1 not a chat", post, V1, {**ASKED, "model": "embeddings"})
cases.add("v1 nothing", post, V1, {})
cases.add("v1 no JSON", post, V1, b'{"model":')
cases.add("v1 no body", post, V1, b"")
cases.add("v1 refused", post, V1, {**ASKED, "model": "refused"})
cases.add("v1 models", request, "GET", "/v1/models")
