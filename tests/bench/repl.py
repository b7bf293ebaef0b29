"""From the start of a session at a terminal to its prompt: moonflow beside Lua's own and Python's."""
import os
import pty
import select
import shutil
import signal
import time

TIMES = 20
LONGEST = 10


def prompt_seconds(command, prompt):
    """How long the program takes until it has shown its prompt; it is ended then."""
    began = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", HOME="/nonexistent", NO_COLOR="1")
        os.execvp(command[0], command)
    shown = b""
    while prompt not in shown and time.perf_counter() - began < LONGEST:
        if select.select([fd], [], [], LONGEST)[0]:
            shown += os.read(fd, 65536)
    seconds = time.perf_counter() - began
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
    return seconds


def total(command, prompt):
    if shutil.which(command[0]) is None:
        return None
    return sum(prompt_seconds(command, prompt) for _ in range(TIMES))


def moonflow(bench):
    return total([bench.moonflow], b"> ")


def lua(_):
    return total(["lua5.4", "-i"], b"> ")


def python(_):
    return total(["python3", "-I", "-i"], b">>> ")


ROWS = [
    ("repl", "start of a session to its prompt / lua5.4 -i", moonflow, lua, 2.0),
    ("repl-python", "the same / python3 -i", moonflow, python, 0.5),
]
