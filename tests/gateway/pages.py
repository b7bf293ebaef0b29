#!/usr/bin/env python3
"""Prints the configuration of a gateway with so many endpoints that it lists them in two pages.

MLflow's page holds 3000. Nothing listens behind the endpoints: they are there to be listed.
"""

PAGE = 3000
COUNT = PAGE + 2
CONFIG = '{openai_api_key: not-needed, openai_api_base: "http://127.0.0.1:1/v1"}'

print("endpoints:")
for number in range(1, COUNT + 1):
    print(f"  - {{name: e{number}, endpoint_type: llm/v1/chat, model: {{provider: openai, name: m, config: {CONFIG}}}}}")
