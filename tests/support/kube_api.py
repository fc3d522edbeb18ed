"""The Kubernetes API for tests: raw JSON over one kubeconfig, independent of the operator's own client."""

import json
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import urllib3

Json = dict[str, Any]

MERGE = "application/merge-patch+json"


class RefusedError(Exception):
    """The API server refuses; the message is its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KubeApi:
    """The API as the user of a kubeconfig (in JSON, with a token) may use it."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.server = cluster["server"]
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._pool = urllib3.PoolManager(ssl_context=trusted, maxsize=32)
        self._streams: list[urllib3.BaseHTTPResponse] = []

    def get(self, path: str) -> Json:
        return self._call("GET", path)

    def items(self, path: str) -> list[Json]:
        items: list[Json] = self.get(path)["items"]
        return items

    def create(self, path: str, body: Json) -> Json:
        return self._call("POST", path, body)

    def merge(self, path: str, body: Json) -> Json:
        return self._call("PATCH", path, body, MERGE)

    def delete(self, path: str, **options: Any) -> Json:
        return self._call("DELETE", path, options or None)

    def watch(self, path: str, version: str) -> Iterator[Json]:
        """Events of a collection, until the API server ends the stream, or `close` does."""
        url = f"{self.server}{path}?watch=true&resourceVersion={version}"
        answer = self._pool.request("GET", url, headers=self._headers, preload_content=False, timeout=None)
        self._streams.append(answer)
        rest = b""
        with suppress(urllib3.exceptions.ProtocolError):
            for part in answer.stream(1 << 16):
                *lines, rest = (rest + part).split(b"\n")
                yield from map(json.loads, lines)

    def close(self) -> None:
        """End all watches."""
        for stream in self._streams:
            stream.shutdown()

    def _call(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        content = json.dumps(body).encode() if body is not None else None
        headers = self._headers | {"Content-Type": kind}
        answer = self._pool.request(method, self.server + path, body=content, headers=headers)
        if answer.status >= 400:
            raise RefusedError(answer.status, _message(answer.data))
        document: Json = json.loads(answer.data)
        return document


def _message(said: bytes) -> str:
    """What the API server says; of what it does not serve at all, it says so in plain text."""
    return json.loads(said)["message"] if said.startswith(b"{") else said.decode()
