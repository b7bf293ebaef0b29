"""The servers of the benchmarks: bench_server over HTTP, and nginx over HTTPS with a throw-away CA."""
import glob
import os
import shutil
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ANSWER = os.path.join(HERE, "answer.json")
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# Every request is a new connection with a full handshake: nothing is kept, resumed or cached.
NGINX_CONF = """
daemon off; pid {work}/nginx.pid; error_log {work}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type application/json; keepalive_timeout 0;
    client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};
    uwsgi_temp_path {work}; scgi_temp_path {work};
    server {{
        listen 127.0.0.1:{port} ssl backlog=1024;
        ssl_certificate {work}/good.pem; ssl_certificate_key {work}/good.key;
        ssl_session_tickets off; ssl_session_cache off;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""


def start_http(program):
    """Returns the process, which ends with its standard input, and its URL."""
    process = subprocess.Popen([program, ANSWER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, "http://127.0.0.1:" + process.stdout.readline().strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def make_authorities(work):
    """The system's CAs and ours, in both forms that OpenSSL reads: a bundle and a hashed directory."""
    subprocess.run([os.path.join(HERE, "../servers/certificates.sh"), work], check=True, capture_output=True)
    bundle, directory = os.path.join(work, "bundle.crt"), os.path.join(work, "authorities")
    with open(bundle, "wb") as out:
        for path in (SYSTEM_BUNDLE, os.path.join(work, "ca.pem")):
            with open(path, "rb") as part:
                shutil.copyfileobj(part, out)
    os.mkdir(directory)
    for path in glob.glob("/etc/ssl/certs/*.[0-9]"):
        shutil.copy(path, directory)
    subject = ["openssl", "x509", "-noout", "-hash", "-in", os.path.join(work, "ca.pem")]
    name = subprocess.run(subject, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(os.path.join(work, "ca.pem"), os.path.join(directory, name + ".0"))
    return bundle, directory


def find_nginx():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def start_https(work):
    """Returns the process, its URL, the bundle and the directory of CAs; None where it can not be had."""
    nginx = find_nginx()
    if not nginx or not shutil.which("openssl") or not os.path.exists(SYSTEM_BUNDLE):
        return None
    bundle, directory = make_authorities(work)
    port = free_port()
    with open(ANSWER, encoding="utf-8") as file:
        answer = file.read().replace("\\", "\\\\").replace("'", "\\'")
    conf = os.path.join(work, "nginx.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(NGINX_CONF.format(work=work, port=port, answer=answer))
    process = subprocess.Popen([nginx, "-p", work, "-e", os.path.join(work, "error.log"), "-c", conf])
    wait_for(port)
    return process, f"https://127.0.0.1:{port}", bundle, directory
