#!/usr/bin/env python3
"""Raw scripted server: plays the bytes it is told to, and keeps the bytes it received.

For answers that no honest server sends: cut, stalled, chopped, contradictory. Nothing here
knows HTTP beyond where one request ends. Only Python's standard library is needed.

It listens on loopback, prints {"control": "http://127.0.0.1:PORT"} as its first line and ends
when its standard input closes, so that it can not outlive the program that started it.

Control interface (JSON both ways)
    POST   /listeners      script        -> {"id", "port"}
    PUT    /listeners/ID   script        new script from here on; what was received stays
    GET    /listeners/ID                 -> {"connections": [{"received64", "open"}],
                                             "requests": [{"connection", "method", "target",
                                             "version", "headers": [[name, value]], "body64"}]}
    DELETE /listeners/ID                 closes the port and every connection of it

Script: one object with one of
    "connections": [[step...]...]        the n-th connection plays the n-th list
    "requests":    [[step...]...]        every connection reads a request, then plays the list of
                                         that request (the n-th of the listener), then goes on
  (when the lists are used up the last one is played again), or
    "backlog": true                      a port that never completes a connection (kernel queue full)
and
    "tls": {"certfile": F, "keyfile": F} every connection starts with a TLS handshake

Steps
    {"read": "request"}                  wait for a whole request (Content-Length or chunked)
    {"read": "head"} | {"read": N}       wait for the empty line, or for N bytes
    {"send": TEXT} | {"send64": BASE64}  TEXT: one character for one byte (latin-1)
        "times": N                           the same N times over
        "chop": N, "delay": SECONDS          in writes of N bytes with a pause between them
    {"sleep": SECONDS}
    {"stall": true}                      do nothing until the other side closes
    {"close": true} | {"reset": true}    end the connection, with FIN or with RST
    {"tunnel": PORT}                     pass bytes to and from a loopback port until one side closes
    {"loop": [step...]}                  play these again and again
  A connection whose list has come to its end is closed.
"""

import base64
import http.server
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time

HOST = "127.0.0.1"


class Ended(Exception):
    """The connection is over: the other side left, or the script said so."""


class Connection:
    """One accepted connection, played by its own thread."""

    def __init__(self, listener, sock):
        self.listener = listener
        self.sock = sock
        self.received = bytearray()
        self.used = 0  # how much of `received` earlier reads have taken
        self.open = True

    def run(self):
        try:
            if self.listener.tls:
                self.sock = self.listener.tls.wrap_socket(self.sock, server_side=True)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.listener.play(self)
        except (Ended, OSError, ValueError):
            pass
        finally:
            self.close()

    def close(self):
        """FIN after what was sent: what the peer still sends is taken first, or the kernel would
        answer it with RST and the peer lose data."""
        if not self.open:
            return
        try:
            self.sock.settimeout(0.2)
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock = self.sock.unwrap()
            self.sock.shutdown(socket.SHUT_WR)
            while self.receive():
                pass
        except (OSError, ValueError):  # ValueError: TLS ended already
            pass
        self.drop()

    def drop(self):
        self.open = False
        try:
            self.sock.close()
        except OSError:
            pass

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()
        raise Ended

    def receive(self):
        data = self.sock.recv(65536)
        self.received += data
        return data

    def wait(self, amount):
        """Until `amount` bytes are there after the used ones."""
        while len(self.received) - self.used < amount:
            if not self.receive():
                raise Ended

    def find(self, mark, start):
        """Position after `mark`, waiting for it."""
        while True:
            at = self.received.find(mark, start)
            if at >= 0:
                return at + len(mark)
            if not self.receive():
                raise Ended

    def read_head(self):
        start = self.used
        self.used = self.find(b"\r\n\r\n", start)
        lines = self.received[start : self.used - 4].decode("latin-1").split("\r\n")
        method, target, version = (lines[0].split(" ") + ["", ""])[:3]
        headers = [[part.strip() for part in line.split(":", 1)] for line in lines[1:]]
        return {"method": method, "target": target, "version": version, "headers": headers}

    def read_body(self, headers):
        fields = {pair[0].lower(): pair[-1] for pair in headers}
        if "chunked" in fields.get("transfer-encoding", ""):
            return self.read_chunks()
        length = int(fields.get("content-length", 0))
        self.wait(length)
        body = bytes(self.received[self.used : self.used + length])
        self.used += length
        return body

    def read_chunks(self):
        body = b""
        while True:
            end = self.find(b"\r\n", self.used)
            size = int(self.received[self.used : end].split(b";")[0], 16)
            self.used = end
            self.wait(size + 2)
            body += self.received[self.used : self.used + size]
            self.used += size + 2
            if size == 0:
                return body

    def read_request(self):
        request = self.read_head()
        request["body64"] = base64.b64encode(self.read_body(request["headers"])).decode()
        request["connection"] = self.listener.connections.index(self) + 1
        self.listener.requests.append(request)

    def step_read(self, what, _step):
        if what == "request":
            self.read_request()
        elif what == "head":
            self.read_head()
        else:
            self.wait(what)
            self.used += what

    def step_send(self, text, step):
        self.send(text.encode("latin-1"), step)

    def step_send64(self, text, step):
        self.send(base64.b64decode(text), step)

    def send(self, data, step):
        chop = step.get("chop") or max(len(data), 1)
        for _ in range(step.get("times", 1)):
            for at in range(0, len(data), chop):
                if at:
                    time.sleep(step.get("delay", 0))
                self.sock.sendall(data[at : at + chop])

    def step_sleep(self, seconds, _step):
        time.sleep(seconds)

    def step_stall(self, _value, _step):
        while self.receive():
            pass
        raise Ended

    def step_close(self, _value, _step):
        raise Ended

    def step_reset(self, _value, _step):
        self.reset()

    def step_loop(self, steps, _step):
        while True:
            self.play(steps)

    def step_tunnel(self, port, _step):
        with socket.create_connection((HOST, port)) as other:
            while True:
                for sock in select.select([self.sock, other], [], [])[0]:
                    data = self.receive() if sock is self.sock else other.recv(65536)
                    if not data:
                        raise Ended
                    (other if sock is self.sock else self.sock).sendall(data)

    def play(self, steps):
        for step in steps:
            name = next(key for key in step if hasattr(self, "step_" + key))
            getattr(self, "step_" + name)(step[name], step)


class Listener:
    """One port, its script and what it received."""

    def __init__(self, script):
        self.lock = threading.Lock()
        self.connections = []
        self.requests = []
        self.fillers = []
        self.tls = None
        self.set_script(script)
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((HOST, 0))
        self.port = self.sock.getsockname()[1]
        if script.get("backlog"):
            self.sock.listen(0)
            self.fill()
        else:
            self.sock.listen(256)
            threading.Thread(target=self.accept, daemon=True).start()

    def set_script(self, script):
        lists = script.get("requests") or script.get("connections") or [[]]
        with self.lock:
            self.by_request = "requests" in script
            self.lists = lists
            self.next = 0
        if "tls" in script:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(script["tls"]["certfile"], script["tls"]["keyfile"])

    def fill(self):
        """Connects until the kernel's queue of this port takes no more."""
        for _ in range(16):
            filler = socket.socket()
            filler.settimeout(0.2)
            self.fillers.append(filler)
            try:
                filler.connect((HOST, self.port))
            except TimeoutError:
                return

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            self.connections.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def take(self):
        """The list for the next connection or request."""
        with self.lock:
            steps = self.lists[min(self.next, len(self.lists) - 1)]
            self.next += 1
            return steps

    def play(self, connection):
        if not self.by_request:
            connection.play(self.take())
            return
        while True:
            connection.read_request()
            connection.play(self.take())

    def record(self):
        connections = [
            {"received64": base64.b64encode(bytes(c.received)).decode(), "open": c.open}
            for c in self.connections
        ]
        return {"connections": connections, "requests": self.requests}

    def close(self):
        # shutdown wakes the accepting thread; close alone would leave it waiting with the port open
        for sock in [self.sock, *self.fillers]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for connection in self.connections:
            if connection.open:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Control(http.server.BaseHTTPRequestHandler):
    """The control interface described above."""

    protocol_version = "HTTP/1.1"
    # headers and body are two writes: without this the second waits for the peer's delayed ACK
    disable_nagle_algorithm = True
    listeners = {}

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def listener(self):
        return self.listeners[int(self.path.rsplit("/", 1)[-1])]

    def handle_method(self, action):
        try:
            self.answer(200, action())
        except KeyError:
            self.answer(404, {"error": "no such listener"})
        except (ValueError, OSError) as error:
            self.answer(400, {"error": str(error)})

    def create(self):
        listener = Listener(self.body())
        self.listeners[listener.port] = listener
        return {"id": listener.port, "port": listener.port}

    def replace(self):
        self.listener().set_script(self.body())
        return {}

    def remove(self):
        listener = self.listener()
        listener.close()
        del self.listeners[listener.port]
        return {}

    def do_POST(self):
        self.handle_method(self.create)

    def do_PUT(self):
        self.handle_method(self.replace)

    def do_GET(self):
        self.handle_method(lambda: self.listener().record())

    def do_DELETE(self):
        self.handle_method(self.remove)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # Python's default of 5 makes the sixth of several clients at once wait a second to connect.
    request_queue_size = 128


def main():
    server = Server((HOST, 0), Control)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"control": f"http://{HOST}:{server.server_port}"}), flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
