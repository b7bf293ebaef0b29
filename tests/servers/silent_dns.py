#!/usr/bin/env python3
"""Runs a program where the name server never answers: silent_dns.py PROGRAM ARGS...

For `unshare --user --map-root-user --mount --net`: it changes the network and /etc of the
namespaces that it runs in, and of nothing else.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile

ADDRESS = "127.0.0.53"
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41


def bring_loopback_up(sock):
    fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP_RUNNING).ljust(40, b"\0"))


def main():
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bring_loopback_up(silent)
    silent.bind((ADDRESS, 53))
    with tempfile.NamedTemporaryFile("w") as config:
        config.write(f"nameserver {ADDRESS}\n")
        config.flush()
        subprocess.run(["mount", "--bind", config.name, "/etc/resolv.conf"], check=True)
        sys.exit(subprocess.run(sys.argv[1:]).returncode)


if __name__ == "__main__":
    main()
