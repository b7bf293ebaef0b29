"""Python's own `mlflow.deployments` against a gateway. See serve_clients.py."""

from serve_clients import Cases

cases = Cases("deployments")

ASKED = {"role": "user", "content": "Is the moon far?"}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def client(url):
    """On connections of its own: the gateway closes one behind a 500, which the next call might not see yet."""
    from mlflow.deployments import get_deploy_client
    from mlflow.utils import request_utils

    request_utils._cached_get_request_session.cache_clear()  # pylint: disable=protected-access
    return get_deploy_client(url)


def predict(url, endpoint, inputs):
    return client(url).predict(endpoint=endpoint, inputs=inputs)


def chat(text="Is the moon far?", **more):
    return {"messages": [{"role": "user", "content": text}], **more}


cases.add("list", lambda url: client(url).list_endpoints())
for name in ("chat", "completions", "embeddings", "limited", "nobody", "a b", "cha%74", "../x", "limits/chat", "Chat"):
    cases.add(f"get {name}", lambda url, endpoint: client(url).get_endpoint(endpoint=endpoint), name)


ANSWERED = {
    "chat": ("chat", chat()),
    "chat of many fields": ("chat", chat(
        temperature=1.5, n=2, stop=["END"], max_tokens=64, top_p=0.5, seed=7, user="u", metadata={"a": "b"})),
    "chat of null fields": ("chat", chat(temperature=None, n=None, stop=None, max_tokens=None, stream=None)),
    "chat of a string for a number": ("chat", chat(temperature="0.5", n="1", max_tokens="5")),
    "chat of stream false": ("chat", chat(stream=False)),
    "chat of several turns": ("chat", {"messages": [
        {"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "How far? \u263e \U0001f319 \"quoted\" \\ \u0000 end"}]}),
    "chat of parts": ("chat", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is"}, {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}]}]}),
    "chat with a tool": ("chat", chat("What is the weather?", tools=[TOOL], tool_choice="auto")),
    "chat after a tool": ("chat", {"messages": [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"}]}),
    "chat of an empty text": ("chat", chat("")),
    "completion": ("completions", {"prompt": "Once upon a time"}),
    "completion of many fields": ("completions", {"prompt": "Once", "temperature": 0, "n": 1, "max_tokens": 5}),
    "embedding": ("embeddings", {"input": "the moon"}),
    "embeddings": ("embeddings", {"input": ["a", "b", "the moon"]}),
    "embedding of tokens": ("embeddings", {"input": [1, 2, 3]}),
    "embeddings of tokens": ("embeddings", {"input": [[1, 2, 3], [4]]}),
    "embedding as base64": ("embeddings", {"input": "the moon", "encoding_format": "base64"}),
    "embedding of many fields": ("embeddings", {"input": "the moon", "dimensions": 8, "user": "u"}),
    "aimock's chat": ("aimock-chat", chat("hello")),
    "aimock's tools": ("aimock-chat", chat("What is the weather?", tools=[TOOL])),
    "aimock's embedding": ("aimock-embeddings", {"input": "moon"}),
}
REFUSED = {
    "no such endpoint": ("nobody", chat()),
    "the wrong key": ("refused", chat()),
    "nobody there": ("unreachable", chat()),
    "nothing": ("chat", {}),
    "no inputs": ("chat", None),
    "nonsense": ("chat", {"nonsense": 1}),
    "no messages": ("chat", {"messages": []}),
    "messages null": ("chat", {"messages": None}),
    "messages a text": ("chat", {"messages": "hello"}),
    "a message a text": ("chat", {"messages": ["hello"]}),
    "a message without role": ("chat", {"messages": [{"content": "x"}]}),
    "a message without content": ("chat", {"messages": [{"role": "user"}]}),
    "a role a number": ("chat", {"messages": [{"role": 1, "content": "x"}]}),
    "a content a number": ("chat", {"messages": [{"role": "user", "content": 1}]}),
    "a part of no type": ("chat", {"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
    "a part of an unknown type": ("chat", {"messages": [{"role": "user", "content": [{"type": "x", "text": "x"}]}]}),
    "a tool call without function": ("chat", {"messages": [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}]}),
    "several things": ("chat", {"messages": [{"role": 1}], "temperature": 9, "n": 0, "stop": [], "max_tokens": 0}),
    "temperature too high": ("chat", chat(temperature=2.1)),
    "temperature too low": ("chat", chat(temperature=-0.1)),
    "temperature a text": ("chat", chat(temperature="hot")),
    "temperature a list": ("chat", chat(temperature=[])),
    "temperature true": ("chat", chat(temperature=True)),
    "n of zero": ("chat", chat(n=0)),
    "n of a half": ("chat", chat(n=1.5)),
    "n of a whole float": ("chat", chat(n=1.0)),
    "stop empty": ("chat", chat(stop=[])),
    "stop a text": ("chat", chat(stop="END")),
    "stop of numbers": ("chat", chat(stop=[1, "x", None])),
    "max_tokens of zero": ("chat", chat(max_tokens=0)),
    "max_tokens a text": ("chat", chat(max_tokens="many")),
    "stream a text": ("chat", chat(stream="perhaps")),
    "stream a number": ("chat", chat(stream=2)),
    "tools of no type": ("chat", chat(tools=[{"function": {"name": "f"}}])),
    "tools of an unknown type": ("chat", chat(tools=[{"type": "retrieval"}])),
    "tools a text": ("chat", chat(tools="all")),
    "a model": ("chat", chat(model="gpt-4")),
    "a model that is null": ("chat", chat(model=None)),
    "a model a number": ("chat", chat(model=4)),
    "a model, of completions": ("completions", {"prompt": "Once", "model": "gpt-4"}),
    "a model, of embeddings": ("embeddings", {"input": "Once", "model": "gpt-4"}),
    "completion: no prompt": ("completions", {}),
    "completion: a list": ("completions", {"prompt": ["a", "b"]}),
    "completion: null": ("completions", {"prompt": None}),
    "completion: an empty prompt": ("completions", {"prompt": ""}),
    "completion: messages": ("completions", chat()),
    "completion: n and stop": ("completions", {"prompt": "Once", "n": 0, "stop": []}),
    "embeddings: no input": ("embeddings", {}),
    "embeddings: null": ("embeddings", {"input": None}),
    "embeddings: a number": ("embeddings", {"input": 7}),
    "embeddings: an object": ("embeddings", {"input": {"a": 1}}),
    "embeddings: a list of both": ("embeddings", {"input": ["a", 1]}),
    "embeddings: a list of nothing": ("embeddings", {"input": []}),
    "embeddings: lists of texts": ("embeddings", {"input": [["a"]]}),
}
for name, (asked, given) in {**ANSWERED, **REFUSED}.items():
    cases.add(f"predict {name}", predict, asked, given)


@cases.case("predict over a limit")
def _over_a_limit(url):
    """A minute may end between two calls, so there are as many as two minutes allow, and one."""
    for _ in range(5):
        predict(url, "limited", chat())


@cases.case("predict in sixteen threads")
def _threads(url):
    from concurrent.futures import ThreadPoolExecutor

    questions = [f"question number {number}." for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: predict(url, "chat", chat(text)), questions))
    return [text in answer["choices"][0]["message"]["content"] for text, answer in zip(questions, answers)]
