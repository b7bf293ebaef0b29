#!/usr/bin/env python3
"""MLflow's own gateway, asked in this process.

Standard input: JSON {"endpoints": [...], "requests": [{method, path, headers, body}, ...]}, the
endpoints as in MLflow's configuration but with the provider "echo". Standard output: a JSON list of
{status, headers, body}. The provider "echo" answers with what the gateway handed to it, as JSON text.
"""

import asyncio
import json
import os
import sys
from urllib.parse import unquote

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from fastapi.encoders import jsonable_encoder
from mlflow.gateway.app import create_app_from_config
from mlflow.gateway.base_models import ConfigModel
from mlflow.gateway.config import GatewayConfig
from mlflow.gateway.provider_registry import provider_registry
from mlflow.gateway.providers.base import BaseProvider
from mlflow.gateway.schemas import chat, completions, embeddings


class Echo(BaseProvider):
    DISPLAY_NAME = "echo"
    NAME = "echo"
    CONFIG_TYPE = ConfigModel
    SUPPORTED_ROUTE_TYPES = ("llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings")

    def heard(self, payload):
        payload = jsonable_encoder(payload, exclude_none=True)
        self.check_for_model_field(payload)
        return json.dumps(payload)

    async def _chat(self, payload):
        message = {"role": "assistant", "content": self.heard(payload)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return chat.ResponsePayload(id="1", created=1, model="m", choices=choices, usage={})

    async def _completions(self, payload):
        choices = [{"index": 0, "text": self.heard(payload), "finish_reason": "stop"}]
        return completions.ResponsePayload(id="1", created=1, model="m", choices=choices, usage={})

    async def _embeddings(self, payload):
        data = [{"embedding": self.heard(payload), "index": 0}]
        return embeddings.ResponsePayload(data=data, model="m", usage={})


async def ask(app, request):
    """One request, given to the application as its server would."""
    path, _, query = request["path"].partition("?")
    # One byte a character, so that the list can hold bytes that are no UTF-8.
    body = request.get("body", "").encode("latin-1")
    headers = {"host": "gateway.test", **request.get("headers", {})}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request["method"],
        "scheme": "http", "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(),
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("gateway.test", 80),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    answer = {"status": 0, "headers": {}, "body": ""}

    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(parts, {"type": "http.disconnect"})

    async def send(message):
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
            answer["headers"] = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer["body"] += message.get("body", b"").decode("latin-1")

    try:
        await app(scope, receive, send)
    except Exception as problem:
        # The middleware has answered, and tells the server's log.
        print(f"{request['method']} {path}: {problem}"[:300], file=sys.stderr)
    return answer


async def main():
    given = json.load(sys.stdin)
    provider_registry.register("echo", Echo)
    app = create_app_from_config(GatewayConfig(endpoints=given["endpoints"]))
    json.dump([await ask(app, request) for request in given["requests"]], sys.stdout)


asyncio.run(main())
