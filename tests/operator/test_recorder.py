"""Events are told in their order, beside the work."""

import threading
from typing import Any

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import PRETRAIN_JOBS, Resource
from pretune_operator.cluster.objects import StoredJob
from pretune_operator.cluster.parse import parse
from pretune_operator.cluster.recorder import Recorder
from pretune_operator.decision import Event

NAMES = [f"Event{number}" for number in range(5)]


class Server(Client):
    """Holds every call up until it is opened, and refuses one kind of event."""

    def __init__(self, refused: str | None = None) -> None:
        self.open = threading.Event()
        self.told: list[str] = []
        self.last: dict[str, Any] = {}
        self._refused = refused

    def create(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        assert self.open.wait(30)
        if body["reason"] == self._refused:
            raise ApiError(403, "Forbidden", "events are over their quota")
        self.told.append(body["reason"])
        self.last = body
        return body


def at_once(_: float) -> None:
    """Nothing is more urgent."""


def job() -> StoredJob:
    meta = {"namespace": "team", "name": "general", "uid": "u1", "resourceVersion": "1"}
    stored = parse(PRETRAIN_JOBS, {"metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}})
    assert isinstance(stored, StoredJob)
    return stored


def test_nobody_waits_for_an_event_and_all_are_told_before_the_end() -> None:
    server = Server()
    recorder = Recorder(server, at_once)
    recorder.start()
    for name in NAMES:
        recorder.record(job(), Event("Normal", name, "A sentence."))
    assert server.told == []
    server.open.set()
    recorder.stop(seconds=30)
    assert server.told == NAMES
    assert not recorder.alive


def test_an_event_that_is_refused_keeps_no_other_from_being_told() -> None:
    server = Server(refused=NAMES[1])
    server.open.set()
    recorder = Recorder(server, at_once)
    recorder.start()
    for name in NAMES:
        recorder.record(job(), Event("Normal", name, "A sentence."))
    recorder.stop(seconds=30)
    assert server.told == [NAMES[0], *NAMES[2:]]


def test_an_event_gives_way_to_what_is_more_urgent() -> None:
    server, calm, asked = Server(), threading.Event(), threading.Event()
    server.open.set()

    def until_calm(seconds: float) -> None:
        asked.set()
        assert calm.wait(30)

    recorder = Recorder(server, until_calm)
    recorder.start()
    recorder.record(job(), Event("Normal", NAMES[0], "A sentence."))
    assert asked.wait(30)
    assert server.told == []
    calm.set()
    recorder.stop(seconds=30)
    assert server.told == NAMES[:1]


def test_an_event_is_about_its_job_and_no_longer_than_the_api_allows() -> None:
    server = Server()
    server.open.set()
    recorder = Recorder(server, at_once)
    recorder.start()
    recorder.record(job(), Event("Warning", NAMES[0], "ä" * 1_000))
    recorder.stop(seconds=30)
    assert server.last["note"] == "ä" * 512, "1,024 bytes, and no half of a letter"
    assert (server.last["type"], server.last["metadata"]["namespace"]) == ("Warning", "team")
    about = {"apiVersion": "pretune.dev/v1alpha1", "kind": "PretrainJob", "namespace": "team", "name": "general"}
    assert server.last["regarding"] == about | {"uid": "u1"}
