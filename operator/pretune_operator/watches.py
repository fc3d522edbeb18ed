"""Whether watches deliver: what a list shows, a watch must have told soon after."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pretune_operator.cluster.kinds import Resource

GRACE_SECONDS: Final = 120.0
"""Time that a watch may be silent though a list has shown more; kopf makes a silent watch anew after 70 s."""


@dataclass(frozen=True)
class Watch:
    """One of kopf's watches: of a kind of resource in a namespace, or in all."""

    resource: Resource
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.resource.plural} in {self.namespace}" if self.namespace else self.resource.plural


class Watches:
    """The newest version that each watch has told, and those that lists have shown before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[Watch, int] = {}
        self._awaited: dict[Watch, tuple[int, float]] = {}

    def told(self, watch: Watch, version: int) -> None:
        """A watch has delivered a resource of `version`: if that is not what is awaited, it is behind, but not dead."""
        with self._lock:
            self._told[watch] = max(version, self._told.get(watch, 0))
            if watch in self._awaited:
                awaited, _ = self._awaited.pop(watch)
                if awaited > self._told[watch]:
                    self._awaited[watch] = awaited, self._clock()

    def listed(self, watch: Watch, version: int) -> None:
        """A list has shown a resource of `version` of which its watch had not told."""
        with self._lock:
            if version > self._told.get(watch, 0):
                self._awaited.setdefault(watch, (version, self._clock()))

    def excuse(self, namespace: str) -> None:
        """Await nothing of a namespace that cannot be listed: it cannot be watched either."""
        with self._lock:
            self._awaited = {watch: shown for watch, shown in self._awaited.items() if watch.namespace != namespace}

    def hanging(self) -> list[Watch]:
        """Watches that have been silent for too long since a list has shown more than they had told."""
        with self._lock:
            since = ((watch, at) for watch, (_, at) in self._awaited.items())
            return [watch for watch, at in since if self._clock() - at > GRACE_SECONDS]
