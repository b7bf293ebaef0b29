#!/usr/bin/env python3
"""Raw scripted client: sends the bytes it is told to, and tells what came back.

For requests that no honest client sends: cut, slow, contradictory, too many. Nothing here knows
HTTP beyond where an answer ends. Only Python's standard library is needed.

    raw_client.py play  PORT JSON    each list of steps on a connection of its own, all at once
    raw_client.py crowd PORT JSON    many connections that do the same, see `crowd`
    raw_client.py fuzz  PORT JSON    mutated requests, see `fuzz`

It connects to 127.0.0.1 (or to JSON's "host") and prints one JSON object.

Steps of "connections": [[step...]...]
    {"send": TEXT}                       one character for one byte (latin-1)
        "times": N                           the same N times over
        "chop": N, "delay": SECONDS          in writes of N bytes with a pause between them
    {"answers": N}                       read until N whole answers are there (of all that came)
    {"until": TEXT}                      read until these bytes are there
    {"end": true}                        read until the other side closes
    {"take": N}                          read N bytes more, and no more than these
    {"sleep": SECONDS}
    {"finish": true}                     close the sending side
    {"reset": true} | {"close": true}    end the connection, with RST or with FIN
  Reading gives up after "patience" seconds (default 10). "small": BYTES sets the receive buffer.
-> {"connections": [{"received", "answers": [{"status", "headers", "body", "whole"}], "rest",
    "end": "eof" | "reset" | "open", "pieces": [[SECONDS, BYTES]...], "seconds"}]}
  "rest" is what stands behind the last answer. A list's "head": true reads answers to HEAD.
"""

import json
import random
import resource
import select
import socket
import struct
import sys
import threading
import time

PIECE = 65536


def split_head(data):
    """Status and headers of the answer at the beginning, and where its body begins; None before it is there."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith(b"HTTP/1."):
        return None
    lines = data[:end].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = headers[name] + ", " + value.strip() if name in headers else value.strip()
    return int(lines[0].split(" ")[1]), headers, end + 4


def split_chunks(data):
    """The body in chunks at the beginning, where it ends, and whether its end is there."""
    pieces, at = [], 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return b"".join(pieces), len(data), False
        size = int(data[at:line].split(b";")[0], 16)
        pieces.append(data[line + 2:line + 2 + size])
        at = line + 2 + size + 2
        if len(data) < at:
            return b"".join(pieces), len(data), False
        if size == 0:
            return b"".join(pieces), at, True


def split_answer(data, is_head, is_over):
    """The answer at the beginning of `data` and its length; None where its head is not there yet."""
    found = split_head(data)
    if not found:
        return None
    status, headers, start = found
    rest = data[start:]
    if is_head or status < 200 or status in (204, 304):
        body, size, whole = b"", 0, True
    elif headers.get("transfer-encoding") == "chunked":
        body, size, whole = split_chunks(rest)
    elif "content-length" in headers:
        size = min(int(headers["content-length"]), len(rest))
        body, whole = rest[:size], size == int(headers["content-length"])
    else:
        body, size, whole = rest, len(rest), is_over
    answer = {"status": status, "headers": headers, "body": body.decode("latin-1"), "whole": whole}
    return answer, start + size


def split_answers(data, is_head=False, is_over=False):
    answers = []
    while True:
        found = split_answer(data, is_head, is_over)
        if not found:
            return answers, data
        answers.append(found[0])
        data = data[found[1]:]
        if not found[0]["whole"]:
            return answers, data


class Connection:
    """One connection, played by its own thread."""

    def __init__(self, address, steps, script):
        self.steps = steps
        self.script = script
        self.received = bytearray()
        self.pieces = []
        self.end = "open"
        self.started = time.monotonic()
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if "small" in script:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, script["small"])
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = address

    def read(self, is_there, most=PIECE):
        """Reads until is_there() or the end."""
        deadline = time.monotonic() + self.script.get("patience", 10)
        while self.end == "open" and not is_there():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return
            try:
                data = self.socket.recv(most)
            except OSError:
                self.end = "reset"
                return
            if not data:
                self.end = "eof"
            else:
                self.pieces.append([round(time.monotonic() - self.started, 4), len(data)])
                self.received += data

    def answers(self):
        return split_answers(bytes(self.received), self.script.get("head", False), self.end == "eof")

    def count(self):
        return sum(answer["whole"] for answer in self.answers()[0])

    def send(self, step):
        data = step["send"].encode("latin-1") * step.get("times", 1)
        size = step.get("chop", len(data) or 1)
        for at in range(0, len(data), size):
            self.socket.sendall(data[at:at + size])
            if "delay" in step:
                time.sleep(step["delay"])

    def play(self, step):
        if "send" in step:
            self.send(step)
        elif "answers" in step:
            self.read(lambda: self.count() >= step["answers"])
        elif "until" in step:
            self.read(lambda: step["until"].encode("latin-1") in self.received)
        elif "end" in step:
            self.read(lambda: False)
        elif "take" in step:
            wanted = len(self.received) + step["take"]
            while self.end == "open" and len(self.received) < wanted:
                before = len(self.received)
                self.read(lambda: len(self.received) > before, wanted - before)
                if len(self.received) == before:
                    return
        elif "sleep" in step:
            time.sleep(step["sleep"])
        elif "finish" in step:
            self.socket.shutdown(socket.SHUT_WR)
        elif "reset" in step:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
            self.end = "left"
        elif "close" in step:
            self.socket.close()
            self.end = "left"

    def run(self):
        try:
            self.socket.connect(self.address)
            for step in self.steps:
                if self.end == "left":
                    break
                try:
                    self.play(step)
                except OSError:  # it was closed while we sent: what it said before counts
                    self.read(lambda: False)
                    self.end = "reset"
                    break
        except OSError as error:
            self.end = str(error)
        self.seconds = round(time.monotonic() - self.started, 4)
        self.socket.close()

    def result(self):
        answers, rest = self.answers()
        return {
            "received": self.received.decode("latin-1"), "answers": answers, "rest": rest.decode("latin-1"),
            "end": self.end, "pieces": self.pieces, "seconds": self.seconds,
        }


def play(address, script):
    connections = [Connection(address, steps, script) for steps in script["connections"]]
    threads = [threading.Thread(target=connection.run) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"connections": [connection.result() for connection in connections]}


def crowd(address, script):
    """Opens "count" connections, sends "send" on each, holds them for "hold" seconds, and then asks once more on a
    new connection. "reset" ends them with RST. -> {"opened", "open": how many were still open in the end, "status"
    of the last request, "seconds" it took}"""
    sockets = []
    for _ in range(script["count"]):
        connection = socket.socket()
        try:
            connection.connect(address)
            connection.sendall(script.get("send", "").encode("latin-1"))
        except OSError:
            connection.close()
            continue
        sockets.append(connection)
    time.sleep(script.get("hold", 0))
    asked = Connection(address, [
        {"send": f"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}, {"answers": 1}], {})
    asked.run()
    still_open = 0
    for connection in sockets:
        connection.setblocking(False)
        try:
            still_open += connection.recv(1) != b""
        except BlockingIOError:
            still_open += 1
        except ConnectionError:
            pass
        if script.get("reset"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    answers = asked.answers()[0]
    return {"opened": len(sockets), "open": still_open, "status": answers[0]["status"] if answers else None,
            "seconds": asked.seconds}


SEEDS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HEAD /stream HTTP/1.0\r\nConnection: keep-alive\r\nOrigin: http://localhost\r\nHost: localhost\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nCookie: a=b; c=d\r\nX-Long: " + b"a" * 300 + b"\r\n\r\n",
)
PARTS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"Content-Length: 3\r\n", b"content-length:9999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"HTTP/1.1", b"HTTP/9.9", b"GET", b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"-1\r\n", b"Host: a\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"%00", b"%", b"?", b"\xff\xfe", b"a" * 5000, b"X: y\r\n" * 120, b" folded\r\n", b"Cookie: " + b"a=b;" * 500 + b"\r\n",
)


def mutate(rng, data):
    for _ in range(rng.randint(0, 5)):
        at = rng.randint(0, len(data))
        to = min(len(data), at + rng.randint(0, 12))
        kind = rng.randint(0, 5)
        if kind == 0:
            data = data[:at] + rng.choice(PARTS) + data[at:]
        elif kind == 1:
            data = data[:at] + rng.choice(PARTS) + data[to:]
        elif kind == 2:
            data = data[:at] + bytes(rng.randint(0, 255) for _ in range(rng.randint(1, 8))) + data[to:]
        elif kind == 3:
            data = data[:at] + data[to:]
        elif kind == 4:
            data = data + rng.choice(SEEDS)
        else:
            data = data[:at]
    return data


def fuzz(address, script):
    """Sends "count" connections' worth of mutated requests from the generator that "seed" starts, chopped in random
    places; on some it leaves in the middle. -> {"statuses": how often each came, "garbage": answers that are none}"""
    rng = random.Random(script["seed"])
    statuses, garbage, crowd_of = {}, [], 80
    for _ in range(0, script["count"], crowd_of):
        connections = []
        for _ in range(crowd_of):
            if rng.random() < 0.05:
                data = bytes(rng.randint(0, 255) for _ in range(rng.randint(1, 2000)))
            else:
                data = mutate(rng, b"".join(rng.choice(SEEDS) for _ in range(rng.randint(1, 3))))
            steps, at = [], 0
            while at < len(data):
                size = rng.choice((1, 7, 100, len(data)))
                steps.append({"send": data[at:at + size].decode("latin-1")})
                at += size
                if len(steps) > 20:
                    steps.append({"send": data[at:].decode("latin-1")})
                    break
            how = rng.random()
            steps += [{"reset": True}] if how < 0.1 else [{"close": True}] if how < 0.2 else [
                {"finish": True}, {"end": True}]
            connections.append(Connection(address, steps, {"patience": 3}))
        threads = [threading.Thread(target=connection.run) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for connection in connections:
            try:
                answers, rest = connection.answers()
            except ValueError as error:
                answers, rest = [], str(error).encode()
            for answer in answers:
                statuses[answer["status"]] = statuses.get(answer["status"], 0) + 1
            # an answer to HEAD has no body where one is announced, and libmicrohttpd 0.9.75 sends some refusals twice
            sent = b"".join(step["send"].encode("latin-1") for step in connection.steps if "send" in step)
            is_refused = bool(answers) and answers[-1]["status"] >= 400
            if rest and not rest.startswith(b"HTTP/1.") and b"HEAD" not in sent and not is_refused:
                garbage.append(rest.decode("latin-1")[:200])
    return {"statuses": statuses, "garbage": garbage}


def main():
    mode, port, script = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    run = {"play": play, "crowd": crowd, "fuzz": fuzz}[mode]
    json.dump(run((script.get("host", "127.0.0.1"), port), script), sys.stdout)


main()
