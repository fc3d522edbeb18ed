"""What the operator makes of an API server that asks for calm, or does not answer what is known already."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.discovery import Discovery
from pretune_operator.cluster.kinds import PRETRAIN_JOBS, RAY_JOBS
from pretune_operator.metrics import API_CALLS

Json = dict[str, Any]

BODY = {"metadata": {"namespace": "team", "name": "general"}}
CALLS: dict[str, Callable[[Client], Any]] = {
    "get": lambda client: client.get(RAY_JOBS, "team", "general"),
    "list": lambda client: next(client.list_all(RAY_JOBS, "team", None)),
    "create": lambda client: client.create(RAY_JOBS, BODY),
    "update": lambda client: client.replace_status(PRETRAIN_JOBS, BODY),
    "delete": lambda client: client.delete(RAY_JOBS, "team", "general", "u1"),
}


class Busy(BaseHTTPRequestHandler):
    """Has a reason, and a time after which it will do what it was asked to; or does it, where it has answers."""

    retry_after = "7"
    code = 429
    answers: list[Json]
    asked: list[tuple[str, Json | None]]
    """Method and path of each call, and what was sent with it."""
    tokens: list[str | None]
    """With which each of them was made."""

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((f"{self.command} {self.path}", json.loads(sent) if sent else None))
        self.tokens.append(self.headers["Authorization"])
        refusal = {"kind": "Status", "reason": "TooManyRequests", "message": "too many requests"}
        self.send_response(200 if self.answers else self.code)
        said = json.dumps(self.answers.pop(0) if self.answers else refusal).encode()
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
        answers: list[Json] = []
        asked: list[tuple[str, Json | None]] = []
        tokens: list[str | None] = []

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
    assert len(handler.asked) == 1
    assert counted._value.get() == before + 1


RAY_JOB = "/apis/ray.io/v1/namespaces/team/rayjobs"
STATUS = "/apis/pretune.dev/v1alpha1/namespaces/team/pretrainjobs/general/status"


@pytest.mark.parametrize(
    ("verb", "called", "sent"),
    [
        ("get", f"GET {RAY_JOB}/general", None),
        ("list", f"GET {RAY_JOB}?limit=100", None),
        ("create", f"POST {RAY_JOB}?fieldManager=pretune", BODY),
        ("update", f"PUT {STATUS}?fieldManager=pretune", BODY),
        # In the foreground: it is seen until its pods are gone. By UID: it may have been made anew.
        (
            "delete",
            f"DELETE {RAY_JOB}/general",
            {"propagationPolicy": "Foreground", "preconditions": {"uid": "u1"}},
        ),
    ],
)
def test_what_is_called_says_what_is_to_be_done(
    busy: tuple[type[Busy], str], client: Client, verb: str, called: str, sent: Json | None
) -> None:
    handler, _ = busy
    handler.answers.append({"items": [], "metadata": {"resourceVersion": "1"}})
    CALLS[verb](client)
    assert handler.asked == [(called, sent)]


def test_one_that_is_nested_very_deeply_hides_no_other_from_a_list(
    busy: tuple[type[Busy], str], client: Client
) -> None:
    handler, _ = busy
    deep: Json = {}
    for _ in range(300):
        deep = {"x": deep}
    metas = [{"uid": uid, "resourceVersion": "7"} for uid in ("deep", "other")]
    items = [{"metadata": meta | {"managedFields": [deep]}, "spec": deep} for meta in metas]
    handler.answers += [{"items": items, "metadata": {"resourceVersion": "7"}}] * 2
    listed = [raw for page in client.list_all(PRETRAIN_JOBS, None, None) for raw in page.items or ()]
    assert [raw["spec"] for raw in listed] == [deep] * 2
    (counted,) = client.census(PRETRAIN_JOBS, None, None)
    assert [item.metadata.uid for item in counted.items or ()] == ["deep", "other"]


def test_a_long_list_is_read_to_its_end(busy: tuple[type[Busy], str], client: Client) -> None:
    handler, _ = busy
    metas = [{"resourceVersion": "7", "continue": "rest"}, {"resourceVersion": "7"}]
    for number, meta in enumerate(metas):
        handler.answers.append(
            {"items": [{"metadata": {"uid": f"u{number}", "resourceVersion": "5"}}], "metadata": meta}
        )
    pages = list(client.census(RAY_JOBS, None, "pretune.dev/uid"))
    assert [item.metadata.uid for page in pages for item in page.items or ()] == ["u0", "u1"]
    first, second = (called for called, _ in handler.asked)
    assert first == "GET /apis/ray.io/v1/rayjobs?limit=500&labelSelector=pretune.dev%2Fuid"
    assert second == f"{first}&continue=rest"


def test_a_token_that_was_renewed_is_used_soon(
    busy: tuple[type[Busy], str], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of a pod is valid for an hour; the client library reads the next one when it is asked for it."""
    now, valid = 1_000.0, "first"
    monkeypatch.setattr("pretune_operator.cluster.client.time.monotonic", lambda: now)
    known = client._configuration
    monkeypatch.setattr(known, "refresh_api_key_hook", lambda _: known.api_key.update(BearerToken=valid))
    handler, _ = busy
    handler.answers += [{}, {}, {}]
    for token, seconds in (("first", 0), ("second", 9), ("second", 2)):
        now, valid = now + seconds, token
        client.get(RAY_JOBS, "team", "general")
    assert handler.tokens == ["first", "first", "second"]


def test_a_server_that_cannot_be_reached_is_told_of_as_any_other(
    busy: tuple[type[Busy], str], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise urllib3.exceptions.ProtocolError("the connection was closed")

    monkeypatch.setattr(client._pool, "urlopen", broken)
    with pytest.raises(ApiError, match="cannot be reached: the connection was closed") as raised:
        CALLS["delete"](client)
    assert (raised.value.code, raised.value.reason, raised.value.pause) == (0, "Unreachable", 0.0)


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

    def get_raw(self, path: str) -> bytes:
        self.asked += 1
        if self.broken:
            raise ApiError(500, "InternalError", "an aggregated API does not answer")
        return b'{"paths": {}}'


def test_what_is_served_is_taken_to_be_what_it_was_while_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("pretune_operator.cluster.discovery.time.monotonic", lambda: now)
    server = Descriptions()
    discovery = Discovery(server)
    known = discovery.cluster()
    assert known.kuberay_problem is not None
    server.broken = True
    now += 3_600
    assert discovery.cluster() == known
    assert discovery.cluster() == known
    assert server.asked == 2


class Described(Client):
    """An API server that serves KubeRay, of some version, and maybe Kueue."""

    def __init__(self, ray_cluster: bytes, kueue: bool = False) -> None:
        self.ray_cluster = ray_cluster
        self.address = "/openapi/v3/apis/ray.io/v1?hash=1"
        self.kueue = {"apis/kueue.x-k8s.io/v1beta1": {"serverRelativeURL": ""}} if kueue else {}
        self.asked: list[str] = []

    def get_raw(self, path: str) -> bytes:
        self.asked.append(path)
        paths = {"apis/ray.io/v1": {"serverRelativeURL": self.address}} | self.kueue
        return json.dumps({"paths": paths}).encode() if path == "/openapi/v3" else self.ray_cluster


@pytest.mark.parametrize("kueue", [False, True])
def test_kuberay_has_to_know_the_field_without_which_a_ray_cluster_has_no_token(
    monkeypatch: pytest.MonkeyPatch, kueue: bool
) -> None:
    now = 1_000.0
    monkeypatch.setattr("pretune_operator.cluster.discovery.time.monotonic", lambda: now)
    server = Described(b'{"headGroupSpec": {}}', kueue)
    discovery = Discovery(server)
    old = discovery.cluster()
    assert old.kueue is kueue
    assert "KubeRay is too old" in str(old.kuberay_problem)
    server.ray_cluster, server.address = (
        b'{"authOptions": {}, "headGroupSpec": {}}',
        "/openapi/v3/apis/ray.io/v1?hash=2",
    )
    now += 6  # somebody waits for it
    assert discovery.cluster().kuberay_problem is None
    now += 59
    discovery.cluster()
    assert len(server.asked) == 4
    now += 2
    discovery.cluster()
    assert server.asked[4:] == ["/openapi/v3"], "the description itself is long"


def test_what_was_never_known_is_not_made_up() -> None:
    server = Descriptions()
    server.broken = True
    with pytest.raises(ApiError):
        Discovery(server).cluster()
