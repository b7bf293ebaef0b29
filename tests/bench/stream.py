"""Python's openai client: stream.py bulk URL N STREAMS, or paced URL N. Prints what stream.lua does."""
import sys
import time

from openai import OpenAI

MESSAGES = [
    {"role": "system", "content": "You answer in a few short sentences."},
    {"role": "user", "content": "Please sum up this report."},
]


def client_of(url, words, gap):
    return OpenAI(base_url=f"{url}/sse/{words}/{gap}/v1", api_key="none", max_retries=0)


def chunks(client):
    return client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.2, stream=True)


def read(client, words):
    count, text, finish_reason = 0, [], None
    for chunk in chunks(client):
        count += 1
        choice = chunk.choices[0]
        text.append(choice.delta.content or "")
        finish_reason = choice.finish_reason
    assert count == words + 2 and finish_reason == "stop" and len("".join(text)) > words


def bulk(url, words, streams):
    client = client_of(url, words, 0)
    read(client, words)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(streams):
        read(client, words)
    n = words * streams
    print((time.process_time() - cpu) / n * 1e6, (time.perf_counter() - wall) / n * 1e6)


def paced(url, words):
    late = []
    answer = chunks(client_of(url, words, 1000))
    cpu = time.process_time()
    for chunk in answer:
        late.append(time.monotonic_ns() - int(chunk.obfuscation))
    cpu = time.process_time() - cpu
    assert len(late) == words + 2
    late.sort()
    print(late[len(late) // 2] / 1e3, late[len(late) * 9 // 10] / 1e3, cpu / words * 1e6)


{"bulk": bulk, "paced": paced}[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))
