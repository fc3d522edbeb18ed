"""What the operator makes of an API server that asks for calm, or does not answer what is known already."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import PRETRAIN_JOBS, RAY_JOBS
from pretune_operator.cluster.served import Served
from pretune_operator.metrics import API_CALLS

BODY = {"metadata": {"namespace": "team", "name": "general"}}
CALLS: dict[str, Callable[[Client], Any]] = {
    "get": lambda client: client.get(RAY_JOBS, "team", "general"),
    "list": lambda client: next(client.list_all(RAY_JOBS, "team", None)),
    "create": lambda client: client.create(RAY_JOBS, BODY),
    "update": lambda client: client.replace_status(PRETRAIN_JOBS, BODY),
    "delete": lambda client: client.delete(RAY_JOBS, "team", "general", "u1"),
}


class Busy(BaseHTTPRequestHandler):
    """Has a reason, and a time after which it will do what it was asked to."""

    retry_after = "7"
    code = 429
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = json.dumps({"kind": "Status", "reason": "TooManyRequests", "message": "too many requests"}).encode()
        self.send_response(self.code)
        self.send_header("Retry-After", self.retry_after)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the standard library's names

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the standard library's name
        """Nobody reads it."""


@pytest.fixture
def busy() -> Iterator[tuple[type[Busy], str]]:
    """A server, and its address."""

    class Handler(Busy):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(busy: tuple[type[Busy], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": busy[1]}}],
        "users": [{"name": "test", "user": {"token": "a-token"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    for module in ("kubernetes.config", "kubernetes.config.kube_config"):
        monkeypatch.setattr(f"{module}.KUBE_CONFIG_DEFAULT_LOCATION", str(path))  # read when it was imported
    monkeypatch.setattr("kubernetes.client.Configuration._default", None)
    return Client(connections=1)


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("verb", CALLS)
def test_a_server_that_asks_for_calm_is_asked_once_and_told_of_as_it_is(
    busy: tuple[type[Busy], str], client: Client, verb: str, code: int
) -> None:
    handler, _ = busy
    handler.code = code
    resource = "pretrainjobs" if verb == "update" else "rayjobs"
    counted = API_CALLS.labels(verb, resource, code)
    before = counted._value.get()
    with pytest.raises(ApiError, match="too many requests") as raised:
        CALLS[verb](client)
    assert (raised.value.code, raised.value.pause) == (code, 7.0)
    assert handler.asked == 1
    assert counted._value.get() == before + 1


def test_a_time_of_day_to_come_back_at_is_not_read(busy: tuple[type[Busy], str], client: Client) -> None:
    busy[0].retry_after = "Fri, 31 Dec 2027 23:59:59 GMT"
    with pytest.raises(ApiError) as raised:
        CALLS["get"](client)
    assert raised.value.pause == 0.0


class Descriptions(Client):
    """An API server that says what it serves until it breaks."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = 0

    def text(self, path: str) -> bytes:
        self.asked += 1
        if self.broken:
            raise ApiError(500, "InternalError", "an aggregated API does not answer")
        return b'{"paths": {}}'


def test_what_is_served_is_taken_to_be_what_it_was_while_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("pretune_operator.cluster.served.time.monotonic", lambda: now)
    server = Descriptions()
    served = Served(server)
    known = served.look()
    assert known.kuberay_problem is not None
    server.broken = True
    now += 3_600
    assert served.look() == known
    assert served.look() == known
    assert server.asked == 2


def test_what_was_never_known_is_not_made_up() -> None:
    server = Descriptions()
    server.broken = True
    with pytest.raises(ApiError):
        Served(server).look()
