"""Lists everything once, and counts it again and again: what a watch has missed is found, and a watch that hangs is.

kopf does not tell what was deleted before it listed: while the operator starts, or after a watch was interrupted. A
census, which costs a fraction of a list, finds what is gone within a minute; within five, where there are thousands.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final

from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import BATCH_JOBS, JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, WATCHED, Resource, selector
from pretune_operator.cluster.objects import (
    Stored,
    StoredJob,
    StoredPod,
    StoredPreflight,
    StoredRayCluster,
    StoredRayJob,
)
from pretune_operator.cluster.pages import Item, ListMeta, Page
from pretune_operator.cluster.parse import parse
from pretune_operator.machine import Machine
from pretune_operator.watches import Watches

PERIOD_SECONDS: Final = 60.0
"""Between two censuses; shorter at first, while kopf's watches begin, and longer where there is much to count."""
LONGEST_SECONDS: Final = 5 * PERIOD_SECONDS
"""Between two censuses, however much there is to count."""
SHARE: Final = 0.01
"""Part of a core that censuses take."""
_FIRST_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.5
_EVERYTHING: Final = 1 << 62
"""A version that comes after all others."""

KEPT: Final[dict[Resource, type[Stored]]] = {
    RAY_JOBS: StoredRayJob,
    RAY_CLUSTERS: StoredRayCluster,
    BATCH_JOBS: StoredPreflight,
    PODS: StoredPod,
} | dict.fromkeys(JOBS.values(), StoredJob)

log = logging.getLogger(__name__)


class Resync:
    """Fills the cache before the first reconcile, and compares it with the cluster from then on."""

    def __init__(self, client: Client, machine: Machine, watches: Watches, namespaces: Collection[str]) -> None:
        """All namespaces are listed when `namespaces` is empty."""
        self._client = client
        self._machine = machine
        self._cache: Cache = machine.cache
        self._watches = watches
        self._namespaces: list[str | None] = [*namespaces] or [None]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resync", daemon=True)
        self.last = float("-inf")
        """When the cache was last compared with the whole cluster, by the monotonic clock."""

    def start(self) -> None:
        """Begin with the first list."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the cluster is counted."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """List no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set() and not self._done(self._list):
            self._stop.wait(_RETRY_SECONDS)
        log.info("the operator has seen the whole cluster: %d jobs", len(self._cache.jobs()))
        self._machine.wake({job.key for job in self._cache.jobs()})
        self._machine.start()
        pause, due = _FIRST_SECONDS, time.monotonic() + _FIRST_SECONDS
        while not self._stop.wait(_TICK_SECONDS):
            self._machine.look_around()
            if time.monotonic() >= due:
                began = time.thread_time()
                counted = self._done(self._count)
                pause = min(2 * pause, period_after(time.thread_time() - began)) if counted else _RETRY_SECONDS
                due = time.monotonic() + pause

    def _done(self, what: Callable[[Resource], None]) -> bool:
        """Whether it could be done for every kind."""
        try:
            for resource in WATCHED:
                what(resource)
        except ApiError as error:
            log.warning("resources could not be listed: %s", error)
            return False
        self.last = time.monotonic()
        return True

    def _list(self, resource: Resource) -> None:
        for page in self._pages(self._client.list_all, resource):
            for raw in page.items or ():
                if stored := parse(resource, raw):
                    self._cache.put(stored)

    def _count(self, resource: Resource) -> None:
        known = self._cache.versions(KEPT[resource], resource.kind)
        alive: set[str] = set()
        counted_at: list[int] = []
        for page in self._pages(self._client.census, resource):
            counted_at.append(page.metadata.version)
            for found in (item.metadata for item in page.items or ()):
                alive.add(found.uid)
                if known.get(found.uid, 0) < found.version:
                    self._watches.listed(resource, found.version)
        self._machine.wake(self._cache.retain(KEPT[resource], resource.kind, alive, min(counted_at)))

    def _pages(
        self, fetch: Callable[[Resource, str | None, str | None], Iterator[Page[Item]]], resource: Resource
    ) -> Iterator[Page[Item]]:
        for namespace in self._namespaces:
            try:
                yield from fetch(resource, namespace, selector(resource))
            except ApiError as error:
                if not error.gone or resource not in (RAY_JOBS, RAY_CLUSTERS):
                    raise
                # KubeRay is not installed, or not any more.
                yield Page(items=None, metadata=ListMeta(resourceVersion=_EVERYTHING))


def period_after(spent: float) -> float:
    """Seconds from a census that took `spent` seconds of CPU to the next."""
    return min(max(PERIOD_SECONDS, spent / SHARE), LONGEST_SECONDS)
