#!/usr/bin/env python3
"""Runs a program on a terminal of its own and types what standard input says.

terminal.py PROGRAM ARGS...; standard input is a JSON list of steps, played in order:
    "text"               types the text (a line needs its "\\n"; "\\u0003" is Ctrl-C, "\\u0004" Ctrl-D)
    {"expect": TEXT}     waits until TEXT has come since the last expected one
    {"sleep": SECONDS}
Standard output is what the terminal showed. The exit code is the program's; 124 where a wait took
more than 20 seconds, 128 + N where signal N ended it.
"""

import json
import os
import pty
import select
import sys
import time

LONGEST = 20


class TimeOver(Exception):
    pass


class Terminal:
    """The program's terminal, and what has come out of it."""

    def __init__(self, command):
        self.shown = b""
        self.seen = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.execvp(command[0], command)

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
                return
            if time.monotonic() > deadline or not self.read(0.1):
                raise TimeOver(f"no {text!r}")

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.read(max(0, until - time.monotonic()))

    def play(self, steps):
        for step in steps:
            if isinstance(step, str):
                os.write(self.fd, step.encode())
            elif "expect" in step:
                self.expect(step["expect"])
            else:
                self.sleep(step["sleep"])

    def finish(self):
        deadline = time.monotonic() + LONGEST
        while self.read(0.1):
            if time.monotonic() > deadline:
                raise TimeOver("the program does not end")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code if code >= 0 else 128 - code


def main():
    steps = json.load(sys.stdin)
    terminal = Terminal(sys.argv[1:])
    try:
        terminal.play(steps)
        code = terminal.finish()
    except TimeOver as problem:
        os.kill(terminal.pid, 9)
        print(f"[{problem}]", file=sys.stderr)
        code = 124
    sys.stdout.buffer.write(terminal.shown)
    sys.exit(code)


if __name__ == "__main__":
    main()
