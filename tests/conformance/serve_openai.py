"""The `openai` package against a gateway. See serve_clients.py."""

import asyncio

from serve_clients import Cases
from serve_deployments import TOOL, chat

cases = Cases("openai")

USAGE = {"stream_options": {"include_usage": True}}


def client(url, **more):
    from openai import OpenAI

    return OpenAI(base_url=url + "/v1", api_key="the-key", max_retries=0, timeout=20, **more)


def async_client(url):
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=url + "/v1", api_key="the-key", max_retries=0, timeout=20)


def ask(url, model="chat", **more):
    return client(url).chat.completions.create(model=model, **{**chat(), **more})


def ask_stream(url, model="chat", **more):
    with ask(url, model, stream=True, **more) as stream:
        return list(stream)


def complete(url, prompt="Once upon a time", model="completions", **more):
    return client(url).completions.create(model=model, prompt=prompt, **more)


def complete_stream(url, **more):
    with complete(url, stream=True, **more) as stream:
        return list(stream)


def embed(url, given="the moon", model="embeddings", **more):
    return client(url).embeddings.create(model=model, input=given, **more)


cases.add("chat", ask)
cases.add("chat of many fields", ask, temperature=0.5, n=1, stop=["END"], max_tokens=9, seed=7, user="u", top_p=1)
cases.add("chat with a tool", ask, tools=[TOOL], tool_choice="auto")
cases.add("chat of parts", ask, messages=[{"role": "user", "content": [{"type": "text", "text": "a part"}]}])
cases.add("chat with other headers", ask, extra_headers={"X-Other": "x", "Authorization": "Bearer other"})
cases.add("chat with a query", ask, extra_query={"api-version": "2024-10-21"})
cases.add("chat stream", ask_stream)
cases.add("chat stream with its usage", ask_stream, **USAGE)
cases.add("chat stream without its usage", ask_stream, stream_options={"include_usage": False})
cases.add("chat stream with a tool", ask_stream, tools=[TOOL])
cases.add("aimock's tools", ask, "aimock-chat", **chat("What is the weather?", tools=[TOOL]))
cases.add("aimock's tools, stream", ask_stream, "aimock-chat", **chat("What is the weather?", tools=[TOOL]))
cases.add("aimock's story, stream", ask_stream, "aimock-chat", **chat("tell me a story"))
cases.add("completion", complete)
cases.add("completion of many fields", complete, temperature=0.5, n=1, stop=["END"], max_tokens=9, suffix="s")
cases.add("completion stream", complete_stream)
cases.add("completion stream with its usage", complete_stream, **USAGE)
cases.add("embedding", embed)  # the package asks for base64 by itself
cases.add("embedding of floats", embed, encoding_format="float")
cases.add("embedding as base64", embed, encoding_format="base64")
cases.add("embeddings", embed, ["a", "b"])
cases.add("embeddings of tokens", embed, [[1, 2], [3]])
cases.add("models", lambda url: client(url).models.list())
cases.add("a model", lambda url: client(url).models.retrieve("chat"))
cases.add("no such model", lambda url: client(url).models.retrieve("nobody"))


@cases.case("chat stream as the package collects it")
def _collected(url):
    with client(url).chat.completions.stream(model="chat", **chat()) as stream:
        kinds = [event.type for event in stream]
        return {"kinds": kinds, "answer": stream.get_final_completion()}


@cases.case("chat stream that is left")
def _left(url):
    """The connection of a stream that was not read to its end is closed, and the client goes on."""
    c = client(url)
    with c.chat.completions.create(model="chat", stream=True, **chat()) as stream:
        first = next(iter(stream))
    return [first, c.chat.completions.create(model="chat", **chat())]


@cases.case("twenty calls on kept connections")
def _kept(url):
    c = client(url)
    return {c.chat.completions.create(model="chat", **chat()).id for _ in range(20)} and True


async def _async_calls(url):
    async with async_client(url) as c:
        questions = [f"question number {number}." for number in range(8)]
        wholes = [c.chat.completions.create(model="chat", **chat(text)) for text in questions]
        streams = [c.chat.completions.create(model="chat", stream=True, **chat(text)) for text in questions]
        answers = await asyncio.gather(*wholes, *streams)
        texts = []
        for stream in answers[8:]:
            texts.append("".join([c.choices[0].delta.content or "" async for c in stream if c.choices]))
        return [[answer.choices[0].message.content for answer in answers[:8]], texts]


cases.add("eight async chats and eight streams at once", lambda url: asyncio.run(_async_calls(url)))


@cases.case("what an answer is")
def _raw(url):
    answer = client(url).chat.completions.with_raw_response.create(model="chat", **chat())
    return {"status": answer.status_code, "type": answer.headers["content-type"], "retries": answer.retries_taken}


cases.add("error: no such model", ask, "nobody")
cases.add("error: not a chat", ask, "embeddings")
cases.add("error: not a chat, stream", ask_stream, "completions")
cases.add("error: not a completion", complete, model="chat")
cases.add("error: not an embedding", embed, model="chat")
cases.add("error: the wrong key", ask, "refused")
cases.add("error: the wrong key, stream", ask_stream, "refused")
cases.add("error: nobody there", ask, "unreachable")
cases.add("error: nobody there, stream", ask_stream, "unreachable")
cases.add("error: no messages", ask, messages=[])
cases.add("error: temperature too high", ask, temperature=3)
cases.add("error: temperature too high, stream", ask_stream, temperature=3)
cases.add("error: stop a text", ask, stop="END")
cases.add("error: a role a number", ask, messages=[{"role": 1, "content": "x"}])
cases.add("error: a prompt that is a list", complete, ["a", "b"])
cases.add("error: an empty prompt", complete, "")
cases.add("error: no input", embed, [])
cases.add("error: an input that is an object", embed, {"a": 1})
cases.add("error: no model", ask, None)
cases.add("error: no such route", lambda url: client(url).responses.create(model="chat", input="hello"))


@cases.case("error: over a limit")
def _over_a_limit(url):
    for _ in range(5):
        ask(url, "limited")
