"""How kopf is told to watch, and what is made of what it tells."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from pretune_operator import handlers
from pretune_operator.cluster.client import Client
from pretune_operator.cluster.kinds import PODS
from pretune_operator.controller import Controller
from pretune_operator.handlers import EventLoop, kopf_settings
from pretune_operator.watches import GRACE_SECONDS, Watch, Watches
from support.views import settings


class Silent(Client):
    """An API server that nobody calls."""

    def __init__(self) -> None:
        """Nothing to connect to."""


def pod(namespace: str, version: int) -> dict[str, Any]:
    meta = {"namespace": namespace, "name": "pod", "uid": f"{namespace}-1", "resourceVersion": str(version)}
    return {"metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {}}


@pytest.mark.parametrize(("namespaces", "silent"), [(["team-a", "team-b"], [Watch(PODS, "team-b")]), ([], [])])
def test_each_namespace_that_is_watched_by_itself_has_to_tell_what_is_new_there(
    namespaces: list[str], silent: list[Watch]
) -> None:
    now = 1_000.0
    watches = Watches(lambda: now)
    loop = EventLoop(Controller(Silent(), settings()), watches, namespaces)
    watches.listed(Watch(PODS, "team-b" if namespaces else None), 12)
    loop.take(PODS, {"type": "MODIFIED", "object": pod("team-a", 20)})
    now += GRACE_SECONDS + 1
    assert watches.hanging() == silent


def test_a_watch_is_never_given_up() -> None:
    pauses = kopf_settings(namespaced=False).networking.error_backoffs
    assert isinstance(pauses, Iterable)
    for _ in range(2):  # each call begins anew
        taken = list(islice(pauses, 10_000))
        assert len(taken) == 10_000
        assert taken[0] == 1
        assert max(taken) <= 30


@dataclass
class Starting:
    """An operator that starts: how many jobs wait to be looked at, now and each time later; None before the list."""

    waiting: list[int | None]

    @property
    def started(self) -> bool:
        """Whether the cluster was listed."""
        return self.waiting[0] is not None

    @property
    def queue(self) -> range:
        """The jobs that wait."""
        return range(self.waiting[0] or 0)

    async def sleep(self, _: float) -> None:
        """Time goes on."""
        self.waiting.pop(0)


def test_kopf_begins_to_watch_once_all_jobs_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    starting: Any = Starting([None, None, 3, 2, 0, 5])
    monkeypatch.setattr(asyncio, "sleep", starting.sleep)
    asyncio.run(EventLoop(starting, Watches(), []).wait_for_first_reconciles())
    assert starting.waiting == [0, 5]


def test_kopf_does_not_wait_for_jobs_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    starting: Any = Starting([3] * 100)
    times = iter(range(0, 3_000, 10))
    monkeypatch.setattr(asyncio, "sleep", starting.sleep)
    monkeypatch.setattr(handlers, "time", SimpleNamespace(monotonic=lambda: next(times)))
    asyncio.run(EventLoop(starting, Watches(), []).wait_for_first_reconciles())
    assert len(starting.waiting) > 90
