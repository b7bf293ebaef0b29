"""The clients against endpoints that are Lua functions, tests/gateway/serve_handlers.lua. See serve_clients.py."""

import json
import time

from serve_clients import Cases, plain, without_identity
from serve_deployments import TOOL, chat, predict
from serve_openai import USAGE, ask, ask_stream, client, complete, complete_stream, embed
from serve_raw import events, post

cases = Cases("handlers")


def add(name, call, *args, **named):
    """A stream's chunks must all be of one answer."""

    def run(url):
        given = plain(call(url, *args, **named))
        if isinstance(given, list) and len({chunk["id"] for chunk in given}) != 1:
            raise AssertionError("chunks of several identities")
        return without_identity(given)

    cases.add(name, run)


def mlflow(name, endpoint, inputs):
    add("mlflow: " + name, predict, endpoint, inputs)


CHATS = ("text", "partial", "message", "whole", "pieces", "empty", "unicode")
for endpoint in CHATS:
    mlflow(endpoint, endpoint, chat())
    add(endpoint, ask, endpoint)
    add(f"{endpoint}, stream", ask_stream, endpoint)
    add(f"{endpoint}, stream with its usage", ask_stream, endpoint, **USAGE)

add("what a handler is given", ask, "given", **chat("hello", temperature=0.5, stop=["END"], seed=7, tools=[TOOL]))
mlflow("what a handler is given", "given", chat("hello", temperature="0.5", n="1", other={"a": [1, None]}))
add("what a handler is given, stream", ask_stream, "given", **chat("hello"))

BROKEN = ("raises", "raises-status", "returns-number", "returns-nothing", "returns-nonsense")
for endpoint in BROKEN:
    mlflow(endpoint, endpoint, chat())
    add(endpoint, ask, endpoint)
    add(f"{endpoint}, stream", ask_stream, endpoint)
add("breaks in a stream", ask_stream, "breaks")

mlflow("completion", "completion", {"prompt": "Once"})
add("completion", complete, "Once", "completion")
add("completion, stream", complete_stream, model="completion")
add("completion, stream with its usage", complete_stream, model="completion", **USAGE)

for title, given in {"embedding": "moon", "embeddings": ["moon", "the sun", ""], "tokens": [[1, 2], [3]]}.items():
    mlflow(title, "embedding", {"input": given})
    add(title, embed, given, "embedding")  # asked for as base64, decoded by the package
    add(f"{title} as floats", embed, given, "embedding", encoding_format="float")
    add(f"{title} as base64", embed, given, "embedding", encoding_format="base64")

cases.add("models", lambda url: client(url).models.list())
cases.add("a model", lambda url: client(url).models.retrieve("text"))
cases.add("no such model", lambda url: client(url).models.retrieve("nobody"))


def tail(url, path, body):
    """The last events of a stream, and whether it is one: its type and its blank line at the end."""
    answer = post(url, path, body)
    last = without_identity(answer["body"][-3:])
    return {"status": answer["status"], "type": answer["headers"]["content-type"], "tail": last}


cases.add("tail of OpenAI's stream", tail, "/v1/chat/completions", {**chat(), "model": "pieces", "stream": True})
cases.add("tail of OpenAI's stream with its usage", tail, "/v1/chat/completions",
          {**chat(), "model": "pieces", "stream": True, **USAGE})
cases.add("tail of OpenAI's completion stream", tail, "/v1/completions",
          {"prompt": "Once", "model": "completion", "stream": True})
cases.add("tail of MLflow's stream", tail, "/gateway/pieces/invocations", {**chat(), "stream": True})
cases.add("tail of MLflow's completion stream", tail, "/gateway/completion/invocations",
          {"prompt": "Once", "stream": True})


@cases.case("first piece of a slow stream")
def _first(url):
    """It comes at once, not with the end: milliseconds are not shown, only that it is so."""
    began, at = time.monotonic(), []
    with client(url).chat.completions.create(model="slow", stream=True, **chat()) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                at.append(time.monotonic() - began)
    return {"pieces": len(at), "spread": at[-1] - at[0] > 0.5, "soon": at[0] < 0.4}


@cases.case("twenty slow answers at once")
def _at_once(url):
    from concurrent.futures import ThreadPoolExecutor

    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: ask(url, "slow", **chat(f"number {number}")), range(20)))
    texts = [answer.choices[0].message.content for answer in answers]
    return {"texts": texts[:2] + texts[-1:], "together": time.monotonic() - began < 6}


@cases.case("a limit, of both faces together")
def _limit(url):
    """The third call in a minute is refused; a minute may end in between, hence as many."""
    for number in range(6):
        if number % 2 == 0:
            ask(url, "limited")
        else:
            predict(url, "limited", chat())


@cases.case("bytes of a whole stream")
def _bytes(url):
    import requests

    body = json.dumps({**chat(), "model": "text", "stream": True})
    with requests.post(url + "/v1/chat/completions", body, headers={"Content-Type": "application/json"},
                       timeout=20) as answer:
        text = answer.content.decode()
    return {"ends": text.endswith("}\n\ndata: [DONE]\n\n"), "events": len(events(text)) > 3,
            "lines": all(line == "" or line.startswith("data: ") for line in text.split("\n"))}
