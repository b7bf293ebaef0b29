"""Python's side of the benchmarks of embeddings: embeddings.py decode|predict URL FORMAT N prints what
embeddings.lua does. To decode are json.loads, and for base64 what the openai package does besides: an
array of what base64.b64decode gives, or numpy, as a list. To predict is the openai package, which asks
for base64 where no format is named. FORMAT is base64, numpy or float."""
import sys
import time

INPUT = ["The tests of the last week are in, and the figures look the same as the week before."] * 100
MODEL = "text-embedding-3-small"


def fetch(url, form):
    import json
    import urllib.request

    body = json.dumps({"model": MODEL, "input": INPUT, "encoding_format": form}, separators=(",", ":")).encode()
    request = urllib.request.Request(url + "/v1/embeddings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read()


def to_decode(url, form):
    import array
    import base64
    import json

    body = fetch(url, "float" if form == "float" else "base64")
    if form == "numpy":
        import numpy

    def numbers(text):
        data = base64.b64decode(text)
        return numpy.frombuffer(data, dtype="float32").tolist() if form == "numpy" else array.array("f", data).tolist()

    def work():
        answer = json.loads(body)
        if form != "float":
            for item in answer["data"]:
                item["embedding"] = numbers(item["embedding"])
        return [item["embedding"] for item in answer["data"]]

    return work


def to_predict(url, form):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    options = {"encoding_format": form} if form == "float" else {}
    return lambda: [item.embedding for item in client.embeddings.create(model=MODEL, input=INPUT, **options).data]


def check(vectors):
    assert len(vectors) == 100 and len(vectors[99]) == 1536 and isinstance(vectors[99][1535], float)


def main(mode, url, form, count):
    work = {"decode": to_decode, "predict": to_predict}[mode](url, form)
    check(work())
    start = time.process_time()
    for _ in range(count):
        check(work())
    print((time.process_time() - start) / count * 1e6)


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
