"""The benchmarks of `moonflow serve` and of moonflow.server, for run.py.

All of it is loopback; wrk asks with one thread and 16 connections. What is measured has the cores of servers
to itself: the upstream of a gateway is on those of clients, as it takes little.
"""
import contextlib
import functools
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request

import servers

HERE = servers.HERE
REQUEST = os.path.join(HERE, "request.json")
CHAT = "/gateway/chat/invocations"
HANDLER = "/gateway/handler/invocations"
STREAM = "/v1/chat/completions"
WORDS = 1000

# Connections are kept, as those of the others are, and nothing is written to disk.
NGINX_CONF = """
daemon off; pid {work}/nginx-http.pid; error_log {work}/error-http.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type application/json; keepalive_requests 1000000000;
    client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
    uwsgi_temp_path {work}; scgi_temp_path {work};
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""
# The upstream answers a chat where its target ends in /invocations, which it does behind a question mark.
GATEWAY_CONF = """
endpoints:
  - name: chat
    endpoint_type: llm/v1/chat
    model:
      provider: openai
      name: gpt-4o-mini
      config: {{openai_api_key: not-needed, openai_api_base: "{upstream}/v1?for=/invocations"}}
"""


def read_answer():
    with open(servers.ANSWER, encoding="utf-8") as file:
        return file.read()


def descendants(pid):
    """A process and all below it."""
    found = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            for child in file.read().split():
                found += descendants(int(child))
    return found


def proportional(pid):
    """KiB of memory, what is shared counted once for all that share it."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1])


def wait_a_minute_for(port):
    for _ in range(5):
        with contextlib.suppress(OSError):
            return servers.wait_for(port)
    return servers.wait_for(port)


class Serving:
    """The servers that are compared, each started when it is first asked for. Made on the cores of servers, and
    used on those of clients."""

    def __init__(self, moonflow, peers, python, work, seconds):
        self.moonflow, self.peers, self.python, self.work, self.seconds = moonflow, peers, python, work, seconds
        self.cores = os.sched_getaffinity(0)
        self.started = []
        self.model = None

    def close(self):
        """Each with all that it has started: MLflow's program leaves gunicorn behind."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.started:
            process.wait()
        if self.model:
            self.model.stdin.close()
            self.model.wait()

    def start(self, *command, **named):
        """Starts a server on the servers' cores."""
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **named)
        finally:
            os.sched_setaffinity(0, mine)
        self.started.append(process)
        return process

    @functools.cached_property
    def upstream(self):
        self.model, url = servers.start_http(self.peers + "server")
        return url

    @functools.cached_property
    def serve(self):
        environment = {**os.environ, "BENCH_UPSTREAM": self.upstream, "BENCH_WORDS": str(WORDS),
                       "BENCH_ANSWER": servers.ANSWER}
        process = self.start(self.moonflow, "serve", os.path.join(HERE, "serve.lua"), "--port", "0",
                             stdout=subprocess.PIPE, text=True, env=environment)
        return process, process.stdout.readline().strip()

    @functools.cached_property
    def plain(self):
        process = self.start(self.moonflow, os.path.join(HERE, "serve_plain.lua"), servers.ANSWER,
                             stdout=subprocess.PIPE, text=True)
        return process.stdout.readline().strip()

    @functools.cached_property
    def nginx(self):
        nginx = servers.find_nginx()
        if not nginx:
            return None
        port, conf = servers.free_port(), os.path.join(self.work, "nginx-http.conf")
        answer = read_answer().replace("\\", "\\\\").replace("'", "\\'")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(NGINX_CONF.format(work=self.work, port=port, answer=answer))
        self.start(nginx, "-p", self.work, "-e", os.path.join(self.work, "error-http.log"), "-c", conf)
        servers.wait_for(port)
        return f"http://127.0.0.1:{port}"

    @functools.cached_property
    def gateway(self):
        """MLflow's, with one worker. It watches the directory of its configuration, and writes to $HOME."""
        program = os.path.join(os.path.dirname(self.python), "mlflow")
        if not shutil.which(program):
            return None
        home, port = os.path.join(self.work, "gateway"), servers.free_port()
        os.mkdir(home)
        conf = os.path.join(home, "gateway.yaml")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(GATEWAY_CONF.format(upstream=self.upstream))
        with open(os.path.join(home, "log"), "w", encoding="utf-8") as log:
            process = self.start(
                program, "gateway", "start", "--config-path", conf, "--host", "127.0.0.1", "--port", str(port),
                "--workers", "1", stdout=log, stderr=log,
                env={**os.environ, "HOME": home, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"})
        wait_a_minute_for(port)
        return process, f"http://127.0.0.1:{port}"

    @functools.cache  # pylint: disable=method-cache-max-size-none
    def checked(self, url):
        """The same URL, once it has given the answer that is expected: a refusal is fast too."""
        with open(REQUEST, "rb") as file:
            request = urllib.request.Request(url, file.read(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            given = json.load(answer)["choices"][0]["message"]["content"]
        if given != json.loads(read_answer())["choices"][0]["message"]["content"]:
            raise AssertionError(f"{url} gave another answer")
        return url

    # Microseconds of real time for a request where 16 are in flight.

    def load(self, url, *script):
        if not shutil.which("wrk"):
            return None
        run = subprocess.run(["wrk", "-t1", "-c16", f"-d{self.seconds}", *script[:2], self.checked(url), *script[2:]],
                             check=True, stdout=subprocess.PIPE, text=True)
        rate = re.search(r"^Requests/sec:\s+([\d.]+)", run.stdout, re.M)
        if "Non-2xx" in run.stdout or "Socket errors" in run.stdout or not rate or float(rate[1]) == 0:
            raise AssertionError(f"wrk {url}:\n{run.stdout}")
        return 1e6 / float(rate[1])

    def post(self, url):
        return url and self.load(url, "-s", os.path.join(HERE, "wrk.lua"), "--", REQUEST)

    def memory(self, process):
        return sum(map(proportional, descendants(process.pid)))

    # A stream of a chunk each millisecond through curl: microseconds from the upstream's stamp.

    def stream(self, url):
        if not shutil.which("curl"):
            return None
        with open(REQUEST, encoding="utf-8") as file:
            body = json.dumps({**json.load(file), "model": "stream", "stream": True}, separators=(",", ":"))
        command = ["curl", "-sSfN", "-H", "Content-Type: application/json", "--data-binary", body, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            run = subprocess.run([self.peers + "reader", str(WORDS)], stdin=curl.stdout, stdout=subprocess.PIPE,
                                 text=True, check=True)
        return [float(word) for word in run.stdout.split()]


def pass_moonflow(bench):
    return bench.serving.post(bench.serving.serve[1] + CHAT)


def pass_gateway(bench):
    gateway = bench.serving.gateway
    return gateway and bench.serving.post(gateway[1] + CHAT)


def memory_moonflow(bench):
    return bench.serving.memory(bench.serving.serve[0])


def memory_gateway(bench):
    """Of all its processes: the program that was started, gunicorn and the worker."""
    gateway = bench.serving.gateway
    return gateway and bench.serving.memory(gateway[0])


def memory_worker(bench):
    """Of the process that answers alone."""
    gateway = bench.serving.gateway
    return gateway and proportional(descendants(gateway[0].pid)[-1])


def plain_moonflow(bench):
    return bench.serving.load(bench.serving.plain)


def plain_nginx(bench):
    return bench.serving.nginx and bench.serving.load(bench.serving.nginx)


def handler_moonflow(bench):
    return bench.serving.post(bench.serving.serve[1] + HANDLER)


def handler_nginx(bench):
    return bench.serving.nginx and bench.serving.post(bench.serving.nginx + HANDLER)


def added(bench, which):
    """How much later a chunk comes through the server than from the upstream."""
    direct = bench.serving.stream(f"{bench.serving.upstream}/sse/{WORDS}/1000{STREAM}")
    through = bench.serving.stream(bench.serving.serve[1] + STREAM)
    return direct and through[which] - direct[which]


def added_median(bench):
    return added(bench, 0)


def added_most(bench):
    return added(bench, 1)


ROWS = [
    ("serve-pass", "chat passed on, time / MLflow's gateway", pass_moonflow, pass_gateway, 0.05),
    ("serve-memory", "behind that, memory / its processes'", memory_moonflow, memory_gateway, 0.05),
    ("serve-worker", "behind that, memory / its worker's alone", memory_moonflow, memory_worker, 0.05),
    ("serve-plain", "handler of a fixed body, time / nginx", plain_moonflow, plain_nginx, 3.33),
    ("serve-chat", "chat handler of a fixed text, time / nginx", handler_moonflow, handler_nginx, None),
    ("serve-late", "microseconds added to a chunk, median", added_median, None, None),
    ("serve-later", "the same, 9 of 10", added_most, None, None),
]
