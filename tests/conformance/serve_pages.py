"""Python's own `mlflow.deployments` against a server with more endpoints than a page has. See serve_clients.py."""

import requests
from serve_clients import Cases
from serve_deployments import client

cases = Cases("pages")

FIRST, NEXT = "eyJpbmRleCI6IDB9", "eyJpbmRleCI6IDMwMDB9"  # {"index": 0} and {"index": 3000}
TOKENS = (None, FIRST, NEXT, "eyJpbmRleCI6IDMwMDF9", "eyJpbmRleCI6IDk5OTl9", "eyJpbmRleCI6IC0yfQ==", "", "%", "bm8=")


@cases.case("list")
def _list(url):
    names = [endpoint.name for endpoint in client(url).list_endpoints()]
    return {"count": len(names), "different": len(set(names)), "first": names[:3], "last": names[-3:]}


def page(url, token):
    answer = requests.get(url + "/api/2.0/endpoints/", params=token and {"page_token": token}, timeout=30)
    if answer.status_code != 200:
        return {"status": answer.status_code, "body": answer.text}
    shown = answer.json()
    names = [endpoint["name"] for endpoint in shown["endpoints"]]
    return {"count": len(names), "ends": names[:1] + names[-1:], "next": shown["next_page_token"]}


for one in TOKENS:
    cases.add(f"page {one}", page, one)
cases.add("page of an empty token", lambda url: requests.get(
    url + "/api/2.0/endpoints/?page_token=", timeout=30).status_code)
