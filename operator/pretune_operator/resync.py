"""Lists everything once, and counts it again and again: what a watch has missed is found, and a watch that hangs is.

kopf does not tell what was deleted before it listed: while the operator starts, or after a watch was interrupted. A
census, which costs a fraction of a list, finds what is gone within a minute; within five, where there are thousands.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from http import HTTPStatus
from typing import Any, Final

from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import RAY_CLUSTERS, RAY_JOBS, WATCHED, Resource, selector
from pretune_operator.cluster.pages import Counted, Item, ListMeta, Page
from pretune_operator.cluster.parse import parse
from pretune_operator.controller import Controller
from pretune_operator.watches import Watch, Watches

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

log = logging.getLogger(__name__)


class Resync:
    """Fills the cache before the first reconcile, and compares it with the cluster from then on."""

    def __init__(self, client: Client, controller: Controller, watches: Watches, namespaces: Collection[str]) -> None:
        """All namespaces are listed when `namespaces` is empty."""
        self._client = client
        self._controller = controller
        self._cache: Cache = controller.cache
        self._watches = watches
        self._namespaces: list[str | None] = [*namespaces] or [None]
        self._cache.left_out.update(self._namespaces)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resync", daemon=True)
        self.last = float("-inf")
        """When the cache was last compared with the whole cluster, by the monotonic clock."""
        self.rewound = False
        """Whether the cluster is in an earlier state than it was, as after a restore of etcd. To the cache, the newest
        version is the truth: it would take in nothing until as many changes are made again."""

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
        while not self._stop.is_set() and not (self.sync() and self._sees_any):
            self._stop.wait(_RETRY_SECONDS)
        log.info("the operator has seen the whole cluster: %d jobs", len(self._cache.jobs()))
        self._controller.start()
        pause, due = _FIRST_SECONDS, time.monotonic() + _FIRST_SECONDS
        while not self._stop.wait(_TICK_SECONDS):
            self._controller.check_cluster()
            if time.monotonic() >= due:
                began = time.thread_time()
                counted = self.sync()
                pause = min(2 * pause, period_after(time.thread_time() - began)) if counted else _RETRY_SECONDS
                due = time.monotonic() + pause

    def sync(self) -> bool:
        """Compare the cache with every namespace, but for those that refuse to be listed; whether it could be done."""
        try:
            for namespace in self._namespaces:
                self._sync(namespace)
        except ApiError as error:
            log.warning("resources could not be listed: %s", error)
            return False
        self.last = time.monotonic()
        return True

    def _sync(self, namespace: str | None) -> None:
        look = self._list if namespace in self._cache.left_out else self._count
        try:
            for resource in WATCHED:
                look(resource, namespace)
        except ApiError as error:
            if namespace is None or error.code != HTTPStatus.FORBIDDEN:
                raise
            # The operator's Role goes with the namespace; but rights may also fail for a moment: nothing is forgotten.
            log.warning("namespace %s is left out, and all jobs in it: %s", namespace, error)
            self._cache.left_out.add(namespace)
            self._watches.excuse(namespace)
        else:
            self._take_up(namespace)

    def _take_up(self, namespace: str | None) -> None:
        if namespace in self._cache.left_out:
            self._cache.left_out.remove(namespace)
            self._controller.wake({job.key for job in self._cache.jobs() if namespace in (None, job.namespace)})

    @property
    def _sees_any(self) -> bool:
        """Whether there is a namespace that can be listed."""
        return not self._cache.left_out.issuperset(self._namespaces)

    def _list(self, resource: Resource, namespace: str | None) -> None:
        def take(raw: dict[str, Any]) -> str:
            if stored := parse(resource, raw):
                self._cache.put(stored)
            return str(raw["metadata"]["uid"])

        self._compare(resource, namespace, self._client.list_all(resource, namespace, selector(resource)), take)

    def _count(self, resource: Resource, namespace: str | None) -> None:
        known = self._cache.versions(resource, namespace)

        def take(item: Counted) -> str:
            found = item.metadata
            before = known.get(found.uid, 0)
            self.rewound |= found.version < before
            if before < found.version:
                self._watches.listed(Watch(resource, namespace), found.version)
            return found.uid

        self._compare(resource, namespace, self._client.census(resource, namespace, selector(resource)), take)

    def _compare(
        self, resource: Resource, namespace: str | None, pages: Iterator[Page[Item]], take: Callable[[Item], str]
    ) -> None:
        """Take in what a list shows, and forget what it does not; `take` returns the UID."""
        alive: set[str] = set()
        versions: list[int] = []
        for page in _none_without_kuberay(resource, pages):
            versions.append(page.metadata.version)
            alive.update(take(item) for item in page.items or ())
        gone = self._cache.retain(resource, alive, min(versions), namespace)
        self._controller.wake(gone)


def _none_without_kuberay(resource: Resource, pages: Iterator[Page[Item]]) -> Iterator[Page[Item]]:
    """An empty list where KubeRay is not installed, or not any more."""
    try:
        yield from pages
    except ApiError as error:
        if not error.not_found or resource not in (RAY_JOBS, RAY_CLUSTERS):
            raise
        yield Page(items=None, metadata=ListMeta(resourceVersion=_EVERYTHING))


def period_after(spent: float) -> float:
    """Seconds from a census that took `spent` seconds of CPU to the next."""
    return min(max(PERIOD_SECONDS, spent / SHARE), LONGEST_SECONDS)
