#!/usr/bin/env python3
"""Plays keys to a program on a terminal of its own, and says what it showed and how fast.

Standard input is one JSON object:
    command  the program and its arguments
    env      name -> value, or null for a variable that is to be unset
    columns, rows
    steps    a text is typed; {"expect": TEXT} waits until TEXT has come since the last one;
             {"sleep": SECONDS}; {"resize": [rows, columns]}
Standard output is a JSON object: shown (what the terminal got), times (seconds that each expected text
took since the last typed one), code, and failed (the text that did not come).
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LONGEST = 40


class Terminal:
    def __init__(self, script):
        self.shown = b""
        self.seen = 0
        self.typed = time.monotonic()
        self.times = []
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for name, value in script.get("env", {}).items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            os.execvp(script["command"][0], script["command"])
        self.resize(script.get("rows", 24), script.get("columns", 80))

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """Takes what comes within so much time; False when the program has closed the terminal."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.shown += data
        return bool(data)

    def expect(self, text):
        mark = text.encode()
        deadline = time.monotonic() + LONGEST
        while True:
            at = self.shown.find(mark, self.seen)
            if at >= 0:
                self.seen = at + len(mark)
                self.times.append(time.monotonic() - self.typed)
                return True
            if time.monotonic() > deadline or not self.read(0.1):
                return False

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.read(max(0, until - time.monotonic())):
            pass

    def play(self, steps):
        """Plays the steps; returns the text that did not come, or None."""
        for step in steps:
            if isinstance(step, str):
                os.write(self.fd, step.encode())
                self.typed = time.monotonic()
            elif "expect" in step:
                if not self.expect(step["expect"]):
                    return step["expect"]
            elif "sleep" in step:
                self.sleep(step["sleep"])
            elif "resize" in step:
                self.resize(*step["resize"])
        return None

    def end(self, wait):
        """The exit code, or None: a program that goes on is killed, after a while where `wait` says so."""
        deadline = time.monotonic() + (10 if wait else 0)
        while self.read(0.1) and time.monotonic() < deadline:
            pass
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        while pid == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return None
            time.sleep(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status)


def main():
    script = json.load(sys.stdin)
    terminal = Terminal(script)
    failed = terminal.play(script["steps"])
    code = terminal.end(failed is None)
    result = {"shown": terminal.shown.decode(errors="replace"), "times": terminal.times, "code": code, "failed": failed}
    json.dump(result, sys.stdout)


main()
