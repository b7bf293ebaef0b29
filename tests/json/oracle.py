#!/usr/bin/env python3
"""Round trip of random JSON documents through moonflow.json, judged by Python's json.

    oracle.py [--seed N] [--count N] COMMAND...

COMMAND runs tests/json/roundtrip.lua: it gets one document a line on its standard input and answers
with one a line. Each answer must be equal to its document to the last bit: an int is no float, -0.0
is not 0.0, an empty list is no empty dict. A second pass through COMMAND must answer with the same
bytes, as far as the order of keys goes. Only the standard library is used.
"""

import argparse
import json
import math
import random
import struct
import subprocess
import sys

INT64 = [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64 - 1, 2**64, 2**53, 2**53 + 1, -(2**53) - 1, 0, -1, 10**18]
CHARACTERS = ['"', "\\", "/", "\0", "\x1f", "\x7f", "\n", "\t", "é", "\u2028", "\ufeff", "\uffff", "😀", "\U0010ffff"]


def random_double(rng):
    while True:
        value = struct.unpack("<d", rng.randbytes(8))[0]
        if math.isfinite(value):
            return value


def random_number(rng):
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(INT64) + rng.randrange(-2, 3)
    if kind == 1:
        return rng.choice([-1, 1]) * rng.getrandbits(rng.randrange(1, 200))
    if kind == 2:
        return random_double(rng)
    if kind == 3:
        return rng.choice([0.0, -0.0, 1.0, -1.0, 1e15, 1e16, 123456789012345680.0, 5e-324, 1.7976931348623157e308])
    if kind == 4:
        return rng.choice([-1, 1]) * rng.random() * 10.0 ** rng.randrange(-8, 20)
    if kind == 5:
        return float(rng.getrandbits(rng.randrange(1, 70)))
    if kind == 6:
        return rng.randrange(10**6) / 10.0 ** rng.randrange(1, 8)
    if kind == 7:
        return math.nextafter(10.0 ** rng.randrange(-6, 24), rng.choice([0.0, math.inf]))
    return rng.randrange(-1000, 1000)


def random_string(rng):
    length = rng.choice([0, 1, 3, 7, 8, 9, 20, 60, 300]) if rng.random() < 0.5 else rng.randrange(12)
    letters = []
    for _ in range(length):
        if rng.random() < 0.8:
            letters.append(chr(rng.randrange(0x20, 0x7F)))
        elif rng.random() < 0.5:
            letters.append(rng.choice(CHARACTERS))
        else:
            c = rng.randrange(0x110000)
            letters.append(chr(c) if not 0xD800 <= c <= 0xDFFF else "?")
    return "".join(letters)


def random_value(rng, depth):
    kind = rng.randrange(12 if depth > 0 else 8)
    if kind < 4:
        return random_number(rng)
    if kind < 6:
        return random_string(rng)
    if kind < 8:
        return rng.choice([None, True, False])
    size = rng.choice([0, 0, 1, 2, 3, 5, 17, 40]) if depth > 1 else rng.randrange(4)
    if kind < 10:
        return [random_value(rng, depth - 1) for _ in range(size)]
    return {random_string(rng): random_value(rng, depth - 1) for _ in range(size)}


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def document(rng, value):
    """The value as JSON, in one of the forms that Python and others write."""
    separators = rng.choice([(",", ":"), (", ", ": "), (" ,\t", "\r: ")])
    return json.dumps(value, ensure_ascii=rng.random() < 0.5, separators=separators)


def run(command, lines):
    text = "".join(line + "\n" for line in lines).encode()
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True)
    answers = done.stdout.decode().split("\n")[:-1]
    if len(answers) != len(lines):
        sys.exit(f"{len(lines)} documents, {len(answers)} answers")
    return answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(2**32)
    print(f"seed {seed}, {args.count} documents")
    rng = random.Random(seed)
    values = [random_value(rng, rng.randrange(5)) for _ in range(args.count)]
    documents = [document(rng, value) for value in values]
    answers = run(args.command, documents)
    again = run(args.command, answers)
    wrong = 0
    for text, value, answer, second in zip(documents, values, answers, again):
        if not same(value, json.loads(answer)) or sorted(answer) != sorted(second):
            wrong += 1
            if wrong <= 10:
                print(f"document {text[:300]!r}\n  answer {answer[:300]!r}\n  second {second[:300]!r}")
    print(f"{wrong} of {args.count} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
