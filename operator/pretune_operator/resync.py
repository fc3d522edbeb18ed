"""Lists everything from time to time: what a watch has missed is found, and so is a watch that hangs.

kopf does not tell what was deleted before it listed. Between its list and ours nothing may be lost: so ours, the first
one too, comes after kopf's.
"""

import logging
import sys
import threading
import time
from collections.abc import Collection, Iterator
from typing import Final

from pretune_operator.cluster.client import ApiError, Client, Json
from pretune_operator.cluster.kinds import JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, WATCHED, Resource, selector
from pretune_operator.cluster.objects import Stored, StoredJob, StoredPod, StoredRayCluster, StoredRayJob
from pretune_operator.cluster.parse import parse
from pretune_operator.machine import Machine
from pretune_operator.observed import ParentState
from pretune_operator.watches import Watches

PERIOD_SECONDS: Final = 600.0
"""Between two complete lists."""
_RETRY_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 60.0
"""Between two lists at least, however often watches begin anew."""
_FIRST_SECONDS: Final = 60.0
"""How long kopf's first list is waited for: all that there was may be gone before it, and then it tells of nothing."""

KEPT: Final[dict[Resource, type[Stored]]] = {
    RAY_JOBS: StoredRayJob,
    RAY_CLUSTERS: StoredRayCluster,
    PODS: StoredPod,
} | dict.fromkeys(JOBS.values(), StoredJob)

log = logging.getLogger(__name__)


class Resync:
    """Fills the cache before the first reconcile, and compares it with the cluster from then on."""

    def __init__(self, client: Client, machine: Machine, watches: Watches, namespaces: Collection[str]) -> None:
        """All namespaces are listed when `namespaces` is empty."""
        self._client = client
        self._machine = machine
        self._watches = watches
        self._namespaces: list[str | None] = [*namespaces] or [None]
        self._stop = threading.Event()
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="resync", daemon=True)
        self.last = float("-inf")
        """When the cache was last known to be complete, by the monotonic clock."""

    def start(self, listed: threading.Event) -> None:
        """Begin with the first list, once kopf has `listed` what there is."""
        self._listed = listed
        self._thread.start()

    def soon(self) -> None:
        """List again before it is time: a watch had to begin anew, and may have missed what was deleted."""
        self._due = min(self._due, max(time.monotonic(), self.last + _PAUSE_SECONDS))

    def stop(self) -> None:
        """List no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + (PERIOD_SECONDS if self._complete() else _RETRY_SECONDS)
            if self._machine.started:
                self._machine.look_around()
            self._stop.wait(_TICK_SECONDS)

    def _complete(self) -> bool:
        try:
            if not self._machine.started and self._there_is_something():
                self._listed.wait(_FIRST_SECONDS)
            for resource in WATCHED:
                self._list(resource)
        except ApiError as error:
            log.warning("resources could not be listed: %s", error)
            return False
        self.last = time.monotonic()
        if not self._machine.started:
            self._machine.wake({job.key for job in self._machine.cache.jobs()})
            self._machine.start()
            log.info("the operator has seen the whole cluster: %d jobs", len(self._machine.cache.jobs()))
        # Time has passed, and for those that are under way that alone can be a reason to act.
        self._machine.wake({job.key for job in self._machine.cache.jobs() if job.state is ParentState.RUNNING})
        return True

    def _there_is_something(self) -> bool:
        """Whether kopf will tell of anything at all."""
        first = (next(self._pages(kind, place, 1))[0] for kind in WATCHED for place in self._namespaces)
        return any(first)

    def _list(self, resource: Resource) -> None:
        cache = self._machine.cache
        listed: set[str] = set()
        complete_at: list[int] = []
        for namespace in self._namespaces:
            for items, version in self._pages(resource, namespace):
                complete_at.append(version)
                for stored in (found for raw in items if (found := parse(resource, raw))):
                    listed.add(stored.uid)
                    if concerned := cache.put(stored):
                        self._watches.listed(resource, stored.version)
                        self._machine.wake(concerned)
        self._machine.wake(cache.retain(KEPT[resource], resource.kind, listed, min(complete_at)))

    def _pages(self, resource: Resource, namespace: str | None, size: int = 500) -> Iterator[tuple[list[Json], int]]:
        try:
            yield from self._client.list(resource, namespace, selector(resource), size)
        except ApiError as error:
            if not error.gone or resource not in (RAY_JOBS, RAY_CLUSTERS):
                raise
            # KubeRay is not installed, or not any more.
            yield [], sys.maxsize
