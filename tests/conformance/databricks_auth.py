#!/usr/bin/env python3
"""Records how Databricks' SDK for Python logs in, in every case of databricks_auth_cases.json.

    databricks_auth.py      JSON on standard output: [{"name", "auth_type", "host", "authorization",
        "workspace", "resource", "management", "token_requests"} or {"name", "error"}]

A case has `env`, `options` of the client, the `profile` of the target, and `files` in the home
directory (those below bin/ are programs and on PATH). In all texts SERVER_URL stands for the address
of a server on this machine and DIR/ for the home directory; in the record the server is written
http://SERVER. `metadata` is what the server says of itself, null: nothing. PADDING at the end of a program makes it as large as the real Databricks CLI.

The server answers as a workspace does: discovery, tokens, and a metadata service; `token_requests`
are those to its token endpoint and to services that give tokens.
"""

import http.server
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
import urllib.parse

from databricks.sdk.config import Config

SERVER = "http://SERVER"
HOST_METADATA = "/.well-known/databricks-config"
DISCOVERY = "/.well-known/oauth-authorization-server"
PADDING = "#" * (1024 * 1024)
USUAL_PATH = "/usr/bin:/bin"


class Handler(http.server.BaseHTTPRequestHandler):
    seen = []
    metadata = None

    def value_at(self, path):
        base = f"http://{self.headers['Host']}"
        if path.endswith(DISCOVERY):
            root = base + path.removesuffix(DISCOVERY)
            return {"authorization_endpoint": f"{root}/v1/authorize", "token_endpoint": f"{root}/v1/token"}
        if path.endswith("/v1/token"):
            return {"access_token": "server-token-1", "token_type": "Bearer", "expires_in": 3600}
        if path.endswith("/oidctoken"):
            return {"oidcToken": "id-token-of-env"}
        return {
            HOST_METADATA: self.metadata,
            "/metadata": {"access_token": "server-token-1", "token_type": "Bearer", "expires_on": int(time.time()) + 3600},
            "/github": {"value": "id-token-of-env"},
        }.get(path)

    def answer(self, body=b""):
        target = urllib.parse.urlsplit(self.path)
        value = self.value_at(target.path)
        if "/.well-known/" not in target.path and target.path != "/aad/auth":
            request = {"path": target.path}
            if target.query:
                request["query"] = urllib.parse.unquote(target.query)
            if self.headers["Authorization"]:
                request["authorization"] = self.headers["Authorization"]
            if body:
                request["form"] = dict(urllib.parse.parse_qsl(body.decode()))
            self.seen.append(request)
        data = json.dumps(value if value is not None else {}).encode()
        self.send_response(404 if value is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, *_):
        pass


def replaced(value, old, new):
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


def write_files(home, files):
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.replace("PADDING", PADDING).encode())
        if name.startswith("bin/"):
            path.chmod(0o755)


def log_in(case):
    options = dict(case.get("options", {}))
    if "profile" in case:
        options["profile"] = case["profile"]
    if "http://127.0.0.1" not in json.dumps(case):
        # hosts that do not exist are not asked what they are
        Config._resolve_host_metadata = lambda self: None
    Handler.seen.clear()
    config = Config(**options)
    headers = config.authenticate()
    shown = {
        "auth_type": config.auth_type,
        "host": config.host,
        "authorization": headers.get("Authorization"),
        "workspace": config.workspace_id,
        "resource": headers.get("X-Databricks-Azure-Workspace-Resource-Id"),
        "management": headers.get("X-Databricks-Azure-SP-Management-Token"),
    }
    shown = {name: value for name, value in shown.items() if value is not None}
    if Handler.seen:
        shown["token_requests"] = list(Handler.seen)
    return shown


def run(case):
    """In a process of its own, with a server of its own, as the SDK keeps much of what it has found."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        url = serve()
        home = pathlib.Path(tempfile.mkdtemp())
        try:
            case = replaced(replaced(case, "SERVER_URL", url), "DIR/", f"{home}/")
            Handler.metadata = case.get("metadata", {"oidc_endpoint": f"{url}/oidc"})
            write_files(home, case.get("files", {}))
            os.environ.clear()
            os.environ.update({"HOME": str(home), "PATH": f"{home}/bin:{USUAL_PATH}", "NO_PROXY": "*"})
            os.environ.update(case.get("env", {}))
            try:
                result = log_in(case)
            except Exception as error:  # whatever it is, it is the SDK's answer
                result = {"error": str(error).replace(str(home), "DIR")[:4000]}
            os.write(writer, json.dumps(result).replace(url, SERVER).encode())
        finally:
            shutil.rmtree(home)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return {"name": case["name"], **json.loads(text)}


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def main():
    cases = json.loads(pathlib.Path(__file__).with_name("databricks_auth_cases.json").read_text(encoding="utf-8"))
    json.dump([run(case) for case in cases], sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
