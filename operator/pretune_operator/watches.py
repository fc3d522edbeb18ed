"""Whether watches deliver: what a list shows, a watch must have told soon after."""

import threading
import time
from collections.abc import Callable
from typing import Final

from pretune_operator.cluster.kinds import Resource

GRACE_SECONDS: Final = 120.0
"""Time that a watch has to deliver what a list has shown; kopf makes a silent watch anew after 70 s."""


class Watches:
    """The newest version that the watch of each kind has told, and those that lists have shown before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[Resource, int] = {}
        self._awaited: dict[Resource, tuple[int, float]] = {}

    def told(self, resource: Resource, version: int) -> None:
        """A watch has delivered a resource of `version`."""
        with self._lock:
            self._told[resource] = max(version, self._told.get(resource, 0))
            if resource in self._awaited and self._awaited[resource][0] <= self._told[resource]:
                del self._awaited[resource]

    def listed(self, resource: Resource, version: int) -> None:
        """A list has shown a resource of `version` of which no watch had told."""
        with self._lock:
            if version > self._told.get(resource, 0):
                self._awaited.setdefault(resource, (version, self._clock()))

    def hanging(self) -> list[Resource]:
        """Kinds whose watch has not told in time what a list has shown."""
        with self._lock:
            since = ((resource, at) for resource, (_, at) in self._awaited.items())
            return [resource for resource, at in since if self._clock() - at > GRACE_SECONDS]
