"""kopf's part: it watches, and hands on what it sees. Nothing is decided here, and nothing written."""

import asyncio
import time
from collections.abc import Collection, Iterator
from itertools import chain, repeat
from typing import Any

import kopf

from pretune_operator.cluster.kinds import CHILDREN, OURS, WATCHED, Resource
from pretune_operator.cluster.parse import parse
from pretune_operator.controller import Controller
from pretune_operator.watches import Watch, Watches

_BEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_LATE_SECONDS = 30.0
"""Longest time that watches wait for the first reconciles."""


class EventLoop:
    """kopf's event loop, and whether it turns."""

    def __init__(self, controller: Controller, watches: Watches, namespaces: Collection[str]) -> None:
        """All namespaces are watched when `namespaces` is empty."""
        self._controller = controller
        self._watches = watches
        self._namespaces = list(namespaces)
        self.last_beat = time.monotonic()
        """When the event loop last turned, by the monotonic clock."""

    def run(self) -> None:
        """Watch until the process is asked to end (SIGTERM, SIGINT), or a watch fails for good."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        beat = asyncio.create_task(self._beat())
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=kopf_settings(namespaced=bool(self._namespaces)),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
            )
        finally:
            beat.cancel()

    async def _beat(self) -> None:
        while True:
            self.last_beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(kopf.login_via_client)
        kopf.on.startup(registry=registry)(self.wait_for_first_reconciles)
        for resource in WATCHED:
            self._watch(registry, resource)
        return registry

    def _watch(self, registry: kopf.OperatorRegistry, resource: Resource) -> None:
        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)
        async def seen(event: Any, **_: Any) -> None:
            self.take(resource, event)

    async def wait_for_first_reconciles(self, **_: Any) -> None:
        """Returns once each job that was there at the start was looked at; half a minute after the list in any case.

        kopf takes several times as long over a resource as our list and a reconcile do, and these would wait for it.
        """
        while not self._controller.started:
            await asyncio.sleep(_LOOK_SECONDS)
        late = time.monotonic() + _LATE_SECONDS
        while self._controller.queue and time.monotonic() < late:
            await asyncio.sleep(_LOOK_SECONDS)

    def take(self, resource: Resource, event: dict[str, Any]) -> None:
        """Take in what a watch has told, and wake the jobs that it concerns."""
        raw = event["object"]
        meta = raw["metadata"]
        watch = Watch(resource, meta["namespace"] if self._namespaces else None)
        self._watches.told(watch, int(meta["resourceVersion"]))
        stored = parse(resource, raw)
        if stored is not None:
            cache = self._controller.cache
            self._controller.wake(cache.remove(stored) if event["type"] == "DELETED" else cache.put(stored))


class _NoDifferences(kopf.DiffBaseStorage):
    """Keeps no copy of a resource to compare it with: only its events are wanted, and copies cost half of the time."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written to anybody's annotations."""


class _Pauses:
    """Seconds between tries of a call, without end: if kopf gives one up, it ends with everything that it watches.

    So an API server that is down is waited for, and a namespace that is gone harms no other one.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((1, 2, 4, 8, 16), repeat(30))


def kopf_settings(namespaced: bool) -> kopf.OperatorSettings:
    """How kopf watches; `namespaced` where it may see nothing beyond some namespaces."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDifferences()
    # A connection that died in silence is noticed within this time; the API server sends a bookmark every minute.
    settings.watching.inactivity_timeout = 70
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 100
    # A worker that idles holds the whole resource that it saw last.
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = _Pauses()
    settings.process.ultimate_exiting_timeout = 20
    # Without rights beyond its namespaces it can watch neither namespaces nor definitions of resources.
    settings.scanning.disabled = namespaced
    for resource in CHILDREN:
        settings.watching.label_selectors[resource.group, resource.version, resource.plural] = OURS
    return settings
