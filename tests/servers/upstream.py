#!/usr/bin/env python3
"""A model server without a model: OpenAI's wire format, answers made from the question.

The upstream of the gateway in the quickstart and in the tests. Deterministic, on loopback, with
Python's standard library alone. Speaks POST /v1/chat/completions, /v1/completions (both also with
"stream": true, and its usage where "stream_options" ask for it), /v1/embeddings (numbers or base64)
and GET /v1/models; errors have OpenAI's form.

    upstream.py [--port N] [--until-eof]

Prints {"url": "http://127.0.0.1:PORT/v1"} as its first line. With --until-eof it ends when its
standard input closes. The key "refused" is answered with 401, for tests of errors.
"""

import argparse
import base64
import hashlib
import http.server
import json
import struct
import sys
import threading
import urllib.parse

HOST = "127.0.0.1"
DIMENSIONS = 8
CREATED = 1700000000
MODELS = ("gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "maker/a-model")


class BadRequest(Exception):
    """Becomes a 400 in OpenAI's form; `param` names the field at fault."""

    def __init__(self, message, param):
        super().__init__(message)
        self.param = param


def count(text):
    return len(text.split())


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def field(body, name, kind):
    value = body.get(name)
    if not isinstance(value, kind) or value in ("", []):
        raise BadRequest(f"Missing or wrong field: '{name}'.", name)
    return value


def content_text(content):
    """The text of a message: a string, or a list of parts."""
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


def reply_to(question):
    return f"You asked: \u201c{question.strip()}\u201d. That is a good question, and this is a friendly answer."


def answer(body, question, prompt, kind, choice):
    text = reply_to(question)
    identity = hashlib.sha256(question.encode()).hexdigest()[:12]
    return {
        "id": f"{kind}-{identity}",
        "object": kind,
        "created": CREATED,
        "model": field(body, "model", str),
        "choices": [{"index": 0, "finish_reason": "stop", **choice(text)}],
        "usage": usage(prompt, count(text)),
    }


def chat(body):
    messages = field(body, "messages", list)
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise BadRequest("Every message needs a 'role'.", "messages")
    texts = [content_text(message.get("content")) for message in messages]
    asked = [text for message, text in zip(messages, texts) if message["role"] == "user"]
    return answer(
        body,
        asked[-1] if asked else texts[-1],
        sum(map(count, texts)),
        "chat.completion",
        lambda text: {"message": {"role": "assistant", "content": text}},
    )


def completion(body):
    prompt = field(body, "prompt", (str, list))
    prompt = prompt if isinstance(prompt, str) else str(prompt[0])
    return answer(body, prompt, count(prompt), "text_completion", lambda text: {"text": text})


def vector(text):
    """Numbers in [-1, 1) out of a hash: equal texts, equal vectors."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 128 - 1 for byte in digest[:DIMENSIONS]]


def as_base64(numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def embeddings(body):
    given = field(body, "input", (str, list))
    # a list of strings is several inputs, a list of numbers is one input of tokens
    several = isinstance(given, list) and isinstance(given[0], (str, list))
    inputs = [str(one) for one in given] if several else [str(given)]
    words = sum(map(count, inputs))
    form = as_base64 if body.get("encoding_format") == "base64" else list
    return {
        "object": "list",
        "model": field(body, "model", str),
        "data": [
            {"object": "embedding", "index": index, "embedding": form(vector(text))}
            for index, text in enumerate(inputs)
        ],
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


def pieces(whole, with_usage):
    """The events of a streamed answer: one for each word, then the reason it ended, and the usage."""
    choice = whole["choices"][0]
    is_chat = "message" in choice
    text = choice["message"]["content"] if is_chat else choice["text"]
    head = {key: whole[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk" if is_chat else "text_completion"

    def event(part, reason):
        if is_chat:
            shown = {"delta": {"role": "assistant", "content": part} if part else {}}
        else:
            shown = {"text": part}
        return {**head, "choices": [{"index": 0, "finish_reason": reason, **shown}]}

    for number, word in enumerate(text.split(" ")):
        yield event(word if number == 0 else " " + word, None)
    yield event("", "stop")
    if with_usage:
        yield {**head, "choices": [], "usage": whole["usage"]}


def model(name):
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "upstream"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    routes = {
        "/v1/chat/completions": chat,
        "/v1/completions": completion,
        "/v1/embeddings": embeddings,
    }

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        route = self.routes.get(self.path.split("?")[0])
        if not route:
            self.fail(404, f"Unknown request URL: POST {self.path}.", "unknown_url")
        elif self.headers.get("Authorization") == "Bearer refused":
            self.fail(401, "Incorrect API key provided.", "invalid_api_key")
        else:
            self.reply(route, data)

    def do_GET(self):
        path = self.path.split("?")[0]
        name = urllib.parse.unquote(path.removeprefix("/v1/models/"))
        if path == "/v1/models":
            self.send(200, {"object": "list", "data": [model(one) for one in MODELS]})
        elif name in MODELS:
            self.send(200, model(name))
        elif name != path:
            self.fail(404, f"The model '{name}' does not exist.", "model_not_found")
        else:
            self.fail(404, f"Unknown request URL: GET {self.path}.", "unknown_url")

    def reply(self, route, data):
        try:
            body = json.loads(data)
            if not isinstance(body, dict):
                raise BadRequest("The body is not a JSON object.", None)
            whole = route(body)
        except json.JSONDecodeError as error:
            self.fail(400, f"The body is not JSON: {error}.", None)
        except BadRequest as error:
            self.fail(400, str(error), None, error.param)
        else:
            if body.get("stream") and "choices" in whole:
                options = body.get("stream_options") or {}
                self.send_events(pieces(whole, options.get("include_usage")))
            else:
                self.send(200, whole)

    def fail(self, status, message, code, param=None):
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self.send(status, {"error": error})

    def send(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_events(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in [*map(json.dumps, events), "[DONE]"]:
            line = f"data: {data}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # Python's default of 5 makes the sixth of several clients at once wait a second to connect.
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description="A model server without a model.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default): any free port")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    server = Server((HOST, options.port), Handler)
    server.daemon_threads = True
    print(json.dumps({"url": f"http://{HOST}:{server.server_port}/v1"}), flush=True)
    if options.until_eof:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()
    else:
        server.serve_forever()


if __name__ == "__main__":
    main()
