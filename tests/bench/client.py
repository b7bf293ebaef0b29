"""Python's mlflow.deployments client: client.py URL REQUEST-FILE N WARM-UP prints microseconds of CPU
and of real time per predict."""
import json
import sys
import time

from mlflow.deployments import get_deploy_client


def run(client, request, count):
    for _ in range(count):
        answer = client.predict(endpoint="chat", inputs=json.loads(request))
        assert answer["usage"]["total_tokens"] == 235


def main(target, path, count, warm_up):
    client = get_deploy_client(target)
    with open(path, encoding="utf-8") as file:
        request = file.read()
    run(client, request, warm_up)
    cpu, wall = time.process_time(), time.perf_counter()
    run(client, request, count)
    print((time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
