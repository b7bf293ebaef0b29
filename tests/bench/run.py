#!/usr/bin/env python3
"""moonflow's benchmarks: ratios of programs that take turns on this machine.

    cmake -S . -B build -DMOONFLOW_BENCH=ON && cmake --build build
    tests/bench/run.py [--build DIRECTORY] [--rounds N] [--quick] [ROW...]

Each round runs everything once, in turn. A row's ratio is that of two runs of one round; what is
printed is the median over the rounds, and the least. Times alone drift with the machine and are not
printed, but for the one that has a goal of its own. Nothing fails where a goal is missed: the table says
so. What is not installed is "absent".
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
import repl  # noqa: E402
import serve  # noqa: E402
import servers  # noqa: E402

HERE = servers.HERE
ROOT = os.path.dirname(os.path.dirname(HERE))
REQUEST = os.path.join(HERE, "request.json")
ANSWER_LEN = str(os.path.getsize(servers.ANSWER))
PATH = "/endpoints/chat/invocations"
CHAT = "/v1/chat/completions"


class Bench:
    """The programs to run, and how each is measured. A method returns a number, or None: absent."""

    def __init__(self, build, work, quick):
        self.quick = quick
        self.moonflow = os.path.join(build, "bin/moonflow")
        self.peers = os.path.join(build, "tests/bench/bench_")
        self.client = os.path.join(HERE, "client.lua")
        self.streams = os.path.join(HERE, "stream.lua")
        self.embeddings = os.path.join(HERE, "embeddings.lua")
        self.python = os.path.join(ROOT, ".venv/bin/python")
        self.stream_request = write_stream_request(work)
        self.http, self.url = servers.start_http(self.peers + "server")
        https = servers.start_https(work)
        self.nginx, self.https_url, self.bundle, self.directory = https or (None, None, None, None)
        self.modules = {}
        self.serving = serve.Serving(self.moonflow, self.peers, self.python, work, 1 if quick else 3)

    def close(self):
        self.serving.close()
        self.http.stdin.close()
        self.http.wait()
        if self.nginx:
            self.nginx.terminate()
            self.nginx.wait()

    def count(self, n):
        return str(n // 5 if self.quick else n)

    # A process as a whole: milliseconds of real time, median of a few in a row.

    def process(self, times, *command):
        program = shutil.which(command[0])
        if not program or None in command:
            return None
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        spent = []
        for _ in range(times):
            start = time.perf_counter()
            process = os.posix_spawn(program, command, os.environ, file_actions=quiet)
            _, status = os.waitpid(process, 0)
            spent.append(time.perf_counter() - start)
            if status != 0:
                sys.exit(f"{' '.join(command)} failed")
        return statistics.median(spent) * 1000

    def start_moonflow(self):
        return self.process(31, self.moonflow, "-e", "")

    def start_lua(self):
        return self.process(31, "lua5.4", "-e", "")

    def curl(self, times, url, *options):
        return self.process(times, "curl", "-sSf", "-H", "Content-Type: application/json",
                            "--data-binary", "@" + REQUEST, *options, url and url + PATH)

    def once_http_moonflow(self):
        return self.process(21, self.moonflow, self.client, "once", self.url)

    def once_http_curl(self):
        return self.curl(21, self.url)

    # Both trust the same CAs, each in the form that it reads by itself on Debian: curl a bundle (and
    # the system's directory beside it), moonflow a hashed directory. That choice is what is measured.

    def once_https_moonflow(self):
        return self.process(11, self.moonflow, self.client, "once", self.https_url, self.directory)

    def once_https_curl(self):
        return self.curl(11, self.https_url, "--cacert", self.bundle)

    # Many requests of one process: microseconds of its CPU time for each, start not counted.

    def output(self, *command):
        if None in command or not shutil.which(command[0]):
            return None
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    def cpu(self, *command):
        words = self.output(*command)
        return words and float(words[0])

    def loop(self, n, in_flight, url=None, ca=()):
        return self.cpu(self.moonflow, self.client, "predict", url or self.url, self.count(n), "200", in_flight, *ca)

    def peer(self, name, n, in_flight):
        return self.cpu(self.peers + name, self.url + PATH, REQUEST, ANSWER_LEN, self.count(n), "200", in_flight)

    def blocking_moonflow(self):
        return self.loop(5000, "1")

    def blocking_easy(self):
        return self.peer("easy", 5000, "1")

    def blocking_python(self):
        return self.cpu(self.python, os.path.join(HERE, "client.py"), self.url, REQUEST, self.count(500), "20")

    def tasks_16_moonflow(self):
        return self.loop(10000, "16")

    def tasks_16_multi(self):
        return self.peer("multi", 10000, "16")

    def tasks_64_moonflow(self):
        return self.loop(10000, "64")

    def tasks_64_multi(self):
        return self.peer("multi", 10000, "64")

    def wrk_16(self):
        if not shutil.which("wrk"):
            return None
        command = ["wrk", "-t1", "-c16", "-d1", "-s", os.path.join(HERE, "wrk.lua"), self.url + PATH, "--", REQUEST]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        text = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        found = re.search(r"^requests (\d+)", text, re.M)
        return (used.ru_utime + used.ru_stime) * 1e6 / int(found[1]) if status == 0 and found else None

    def handshakes_moonflow(self):
        return self.https_url and self.cpu(self.moonflow, self.client, "predict", self.https_url, "64", "0", "64",
                                           self.directory)

    def handshakes_unverified(self):
        return self.https_url and self.cpu(self.peers + "multi", self.https_url + PATH, REQUEST, ANSWER_LEN, "64", "0",
                                           "64", "none")

    # Streams as fast as they come: microseconds of CPU for each chunk.

    def stream_moonflow(self):
        return self.cpu(self.moonflow, self.streams, "bulk", self.url, "5000", self.count(20))

    def stream_openai(self):
        return self.python_cpu("openai", "stream.py", "bulk", self.url, "1000", self.count(5))

    def stream_url(self, words, gap):
        return f"{self.url}/sse/{words}/{gap}{CHAT}"

    def stream_command(self, words, gap):
        return ("curl", "-sSfN", "-H", "Content-Type: application/json", "--data-binary", "@" + self.stream_request,
                self.stream_url(words, gap))

    def stream_curl(self):
        """What a long stream takes more than a short one does."""
        if not shutil.which("curl"):
            return None
        short, long = 10000, 10000 + int(self.count(200000))
        return (cpu_of(*self.stream_command(long, 0)) - cpu_of(*self.stream_command(short, 0))) / (long - short)

    # Streams of a chunk each millisecond: microseconds from the server's stamp to the reader, median.

    def paced_moonflow(self):
        return self.cpu(self.moonflow, self.streams, "paced", self.url, self.count(2000))

    def paced_openai(self):
        return self.python_cpu("openai", "stream.py", "paced", self.url, self.count(2000))

    def paced_curl(self):
        if not shutil.which("curl"):
            return None
        words = self.count(2000)
        with subprocess.Popen(self.stream_command(words, 1000), stdout=subprocess.PIPE) as curl:
            run = subprocess.run([self.peers + "reader", words], stdin=curl.stdout, stdout=subprocess.PIPE, text=True,
                                 check=True)
        return float(run.stdout.split()[0])

    # Embeddings, 100 x 1536: microseconds of CPU for each answer.

    def python_cpu(self, module, script, *arguments):
        """None where Python has no such module, else the script's first number."""
        if module not in self.modules:
            self.modules[module] = self.python and shutil.which(self.python) and subprocess.run(
                [self.python, "-c", "import " + module], stderr=subprocess.DEVNULL, check=False).returncode == 0
        return self.cpu(self.python, os.path.join(HERE, script), *arguments) if self.modules[module] else None

    def embeddings_moonflow(self, mode, form):
        return self.cpu(self.moonflow, self.embeddings, mode, self.url, form, self.count(50))

    def embeddings_python(self, mode, form, count, module="json"):
        return self.python_cpu(module, "embeddings.py", mode, self.url, form, self.count(count))

    def decode_base64_moonflow(self):
        return self.embeddings_moonflow("decode", "base64")

    def decode_float_moonflow(self):
        return self.embeddings_moonflow("decode", "float")

    def decode_float_python(self):
        return self.embeddings_python("decode", "float", 20)

    def decode_array_python(self):
        return self.embeddings_python("decode", "base64", 50)

    def decode_numpy_python(self):
        return self.embeddings_python("decode", "numpy", 50, "numpy")

    def embed_moonflow(self):
        return self.embeddings_moonflow("predict", "base64")

    def embed_openai(self):
        return self.embeddings_python("predict", "base64", 20, "openai")

    # One figure, without a peer.

    def memory(self, n):
        return float(self.output(self.moonflow, self.client, "memory", self.url, str(n))[0]) / 1024

    def stream_memory(self, n):
        return float(self.output(self.moonflow, self.streams, "memory", self.url, str(n))[0]) / 1024

    def soak(self):
        return [int(word) for word in self.output(self.moonflow, self.client, "soak", self.url, self.count(100000))]

    # Instructions of user space for one request or chunk: those of 1500 less those of 500.

    def instructions(self, *command):
        if not shutil.which("valgrind"):
            return None
        spent = []
        for n in ("500", "1500"):
            line = [word.replace("COUNT", n) for word in command]
            run = subprocess.run(["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
                                  *line], check=True, capture_output=True, text=True)
            spent.append(int(re.search(r"I\s+refs:\s+([\d,]+)", run.stderr)[1].replace(",", "")))
        return (spent[1] - spent[0]) / 1000

    def instructions_peer(self, name, in_flight):
        return self.instructions(self.peers + name, self.url + PATH, REQUEST, ANSWER_LEN, "COUNT", "50", in_flight)

    def instructions_moonflow(self, in_flight):
        return self.instructions(self.moonflow, self.client, "predict", self.url, "COUNT", "50", in_flight)

    def instructions_stream(self):
        spent = self.instructions(self.moonflow, self.streams, "bulk", self.url, "COUNT", "1")
        return spent and spent / 2  # the warm-up is a stream as well

    def instructions_curl(self):
        return shutil.which("curl") and self.instructions(*self.stream_command("COUNT", 0))


def cpu_of(*command):
    """Microseconds of CPU of a process as a whole, its output thrown away."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return (used.ru_utime + used.ru_stime) * 1e6


def write_stream_request(work):
    path = os.path.join(work, "stream.json")
    with open(REQUEST, encoding="utf-8") as file:
        request = json.load(file)
    request["stream"] = True
    with open(path, "w", encoding="utf-8") as file:
        json.dump(request, file, separators=(",", ":"))
    return path


# name, what it is, of which run to which, most that it may be; None: no peer, or there to look at
RATIOS = [
    ("start", "start without the network / lua5.4", Bench.start_moonflow, Bench.start_lua, 1.2),
    ("once-http", "process with one predict, HTTP / curl", Bench.once_http_moonflow, Bench.once_http_curl, 1.15),
    ("once-https", "the same, HTTPS, system's CAs / curl", Bench.once_https_moonflow, Bench.once_https_curl, 0.5),
    ("blocking", "predict, CPU / libcurl easy", Bench.blocking_moonflow, Bench.blocking_easy, 1.3),
    ("python", "predict, CPU / Python's mlflow client", Bench.blocking_moonflow, Bench.blocking_python, 0.2),
    ("tasks-16", "16 in flight, CPU / libcurl multi", Bench.tasks_16_moonflow, Bench.tasks_16_multi, 1.5),
    ("tasks-64", "64 in flight, CPU / libcurl multi", Bench.tasks_64_moonflow, Bench.tasks_64_multi, 1.5),
    ("wrk", "16 in flight, CPU / wrk", Bench.tasks_16_moonflow, Bench.wrk_16, None),
    ("handshakes", "64 new HTTPS connections, CPU / unverified", Bench.handshakes_moonflow,
     Bench.handshakes_unverified, 2.0),
    ("chunk-us", "microseconds of CPU for a streamed chunk", Bench.stream_moonflow, None, 5.0),
    ("chunk-curl", "streamed chunk, CPU / curl -N", Bench.stream_moonflow, Bench.stream_curl, 12.0),
    ("chunk-openai", "streamed chunk, CPU / Python's openai", Bench.stream_moonflow, Bench.stream_openai, 0.05),
    ("late-curl", "delay of a chunk each ms / curl -N | reader", Bench.paced_moonflow, Bench.paced_curl, 1.0),
    ("late-openai", "delay of a chunk each ms / Python's openai", Bench.paced_moonflow, Bench.paced_openai, None),
    ("base64-json", "100 x 1536 of base64 / Python's json, floats", Bench.decode_base64_moonflow,
     Bench.decode_float_python, 0.1),
    ("base64-array", "the same / Python's json, base64 and array", Bench.decode_base64_moonflow,
     Bench.decode_array_python, None),
    ("base64-numpy", "the same / Python's json, base64 and numpy", Bench.decode_base64_moonflow,
     Bench.decode_numpy_python, None),
    ("floats-json", "100 x 1536 of floats / Python's json", Bench.decode_float_moonflow, Bench.decode_float_python,
     None),
    ("embeddings", "predict of 100 x 1536, CPU / Python's openai", Bench.embed_moonflow, Bench.embed_openai, None),
    *repl.ROWS,
    *serve.ROWS,
]
SINGLE = ["json", "memory", "streams", "soak", "instructions"]


def digits(value):
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def show(name, what, value, goal, least=None):
    met = "" if goal is None else "yes" if value is not None and value <= goal else "NO"
    print("%-12s %-44s %8s %8s %6s  %s" % (
        name, what, "absent" if value is None else digits(value), "" if least is None else digits(least),
        "" if goal is None else f"{goal:g}", "" if value is None else met), flush=True)


def ratio_rows(bench, chosen, rounds):
    rows = [row for row in RATIOS if row[0] in chosen]
    runs = list(dict.fromkeys(run for row in rows for run in row[2:4] if run))
    ratios = {row[0]: [] for row in rows}
    for _ in range(rounds):
        values = {run: run(bench) for run in runs}
        for name, _, ours, theirs, _ in rows:
            if theirs is None:
                ratios[name].append(values[ours])
            elif values[ours] is not None and values[theirs] is not None:
                ratios[name].append(values[ours] / values[theirs])
    for name, what, _, _, goal in rows:
        found = ratios[name]
        show(name, what, statistics.median(found) if found else None, goal, min(found) if found else None)


def json_rows(bench, rounds):
    """json_bench.lua has rounds of its own; its limits are not the goals."""
    goals = {("chat", "decode"): 0.5, ("100 x 1536 floats", "decode"): 0.4}
    run = subprocess.run([bench.moonflow, os.path.join(HERE, "json_bench.lua"), str(rounds)], stdout=subprocess.PIPE,
                         text=True, check=False)
    found = re.findall(r"^(\S.*?)\s+(decode|encode)\s+\d+\s+\S+\s+\S+\s+([\d.]+)", run.stdout, re.M)
    if not found:
        show("json", "moonflow.json / lua-cjson", None, None)
    for document, work, ratio in found:
        show("json", f"{work} {document} / lua-cjson", float(ratio), goals.get((document, work)))


def memory_rows(bench):
    for n in (64, 1000):
        values = [bench.memory(n) for _ in range(3)]
        show("memory", f"KiB for each of {n} calls in flight", statistics.median(values), 32, min(values))


def stream_memory_rows(bench):
    values = [bench.stream_memory(1000) for _ in range(3)]
    show("streams", "KiB for each of 1000 open streams", statistics.median(values), 32, min(values))


def soak_rows(bench):
    early, early_files, late, late_files = bench.soak()
    calls = int(bench.count(100000))
    show("soak", f"RSS after {calls} calls / after a tenth", late / early, 1.05)
    show("soak", "descriptors likewise", late_files / early_files, 1.0)


def instruction_rows(bench):
    counts = {
        "multi": bench.instructions_peer("multi", "16"),
        "easy": bench.instructions_peer("easy", "1"),
        "16": bench.instructions_moonflow("16"),
        "1": bench.instructions_moonflow("1"),
    }
    if counts["multi"] is None:
        show("instructions", "valgrind", None, None)
        return
    for key, what, goal in (("multi", "libcurl multi, 16 in flight", None), ("easy", "libcurl easy", None),
                            ("16", "predict, 16 in flight", 155), ("1", "predict, blocking", None)):
        show("instructions", "thousands, " + what, counts[key] / 1000, goal)
    show("instructions", "16 in flight / libcurl multi", counts["16"] / counts["multi"], None)
    show("instructions", "blocking / libcurl easy", counts["1"] / counts["easy"], None)
    stream, curl = bench.instructions_stream(), bench.instructions_curl()
    show("instructions", "thousands, streamed chunk", stream / 1000, None)
    show("instructions", "streamed chunk / curl -N", stream / curl if curl else None, None)


def first_line(*command):
    if not shutil.which(command[0]):
        return f"{os.path.basename(command[0])} absent"
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    line = ((run.stdout + run.stderr).strip().splitlines() or ["?"])[0]
    return " ".join(re.split(r"\s+[\[(]|\s{2,}Copyright|\s+Copyright", line)[0].split())


def describe(bench):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    print(f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
          f"load {os.getloadavg()[0]:.1f}")
    print("; ".join([
        first_line(bench.moonflow, "--version"), first_line("lua5.4", "-v"), first_line("curl", "--version"),
        first_line("wrk", "-v"), first_line(servers.find_nginx() or "nginx", "-v"),
        first_line(bench.python, "-c", "import mlflow; print('mlflow', mlflow.__version__)"),
        first_line(bench.python, "-c", "import openai, sys; print('openai', openai.__version__, 'on Python',"
                                       "sys.version)"),
    ]))


def share_cores():
    """Where to put servers and clients: cores apart, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1:], cores[:1]


def parse():
    names = [row[0] for row in RATIOS] + SINGLE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(names))
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="where it is built (build)")
    parser.add_argument("--rounds", type=int, default=9, help="at least 7 for figures to publish (9)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, fewer requests, no instructions")
    options = parser.parse_args()
    for name in options.rows:
        if name not in names:
            parser.error(f"no row {name!r}: {', '.join(names)}")
    options.rows = options.rows or [name for name in names if not (options.quick and name == "instructions")]
    options.rounds = 3 if options.quick else options.rounds
    options.build = os.path.abspath(options.build)
    if not os.path.exists(os.path.join(options.build, "tests/bench/bench_server")):
        parser.error(f"{options.build} has no benchmarks: cmake -S . -B build -DMOONFLOW_BENCH=ON")
    return options


def main():
    options = parse()
    server_cores, client_cores = share_cores()
    # Nothing from outside decides what is measured.
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("MLFLOW_", "OPENAI_", "AZURE_")):
            del os.environ[name]
    os.sched_setaffinity(0, server_cores)
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options.build, work, options.quick)
        try:
            os.sched_setaffinity(0, client_cores)
            describe(bench)
            print("%-12s %-44s %8s %8s %6s  %s" % ("row", "what", "median", "least", "goal", "met"), flush=True)
            ratio_rows(bench, options.rows, options.rounds)
            for name, print_rows in (("memory", memory_rows), ("streams", stream_memory_rows), ("soak", soak_rows),
                                     ("instructions", instruction_rows)):
                if name in options.rows:
                    print_rows(bench)
            if "json" in options.rows:
                json_rows(bench, options.rounds)
        finally:
            bench.close()


main()
