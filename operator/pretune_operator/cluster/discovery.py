"""What the cluster offers beside Kubernetes itself: KubeRay and Kueue. Read from the API server's own description."""

import json
import logging
import threading
import time
from typing import Final

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.observed import Cluster

_INDEX: Final = "/openapi/v3"
"""Everybody who has logged in may read it; reading definitions of resources would take a right of its own."""
_RAY: Final = "apis/ray.io/v1"
_KUEUE: Final = "apis/kueue.x-k8s.io/"
_MAX_AGE_SECONDS: Final = 60.0
_MISSING_MAX_AGE_SECONDS: Final = 5.0
"""While KubeRay is missing: somebody waits for it."""

log = logging.getLogger(__name__)


class Discovery:
    """Asks the API server what it serves, now and then."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._found: Cluster | None = None
        self._asked = 0.0
        self._ray: tuple[str, str | None] = ("", None)

    def cluster(self) -> Cluster:
        """What was served a minute ago, or when it was last known. Raises ApiError if it never was."""
        with self._lock:
            if self._found is None or time.monotonic() - self._asked > self._max_age(self._found):
                self._found = self._news(self._found)
                self._asked = time.monotonic()
            return self._found

    def _news(self, before: Cluster | None) -> Cluster:
        try:
            return self._ask()
        except ApiError as error:
            if before is None:
                raise
            log.warning("what the cluster offers is taken to be what it was: %s", error)
            return before

    def _max_age(self, found: Cluster) -> float:
        return _MISSING_MAX_AGE_SECONDS if found.kuberay_problem else _MAX_AGE_SECONDS

    def _ask(self) -> Cluster:
        paths: dict[str, dict[str, str]] = json.loads(self._client.get_raw(_INDEX))["paths"]
        kueue = any(path.startswith(_KUEUE) for path in paths)
        return Cluster(self._kuberay_problem(paths.get(_RAY)), kueue)

    def _kuberay_problem(self, described: dict[str, str] | None) -> str | None:
        if described is None:
            return "KubeRay is not installed: the API server does not serve ray.io/v1; install KubeRay 1.5.1 or newer"
        url = described["serverRelativeURL"]
        # The address holds a hash of the description, which is megabytes long: it is read when it has changed.
        if self._ray[0] != url:
            # Ray's token authentication came with KubeRay 1.5.1, and with it this field.
            old = b'"authOptions"' not in self._client.get_raw(url)
            said = "KubeRay is too old for Ray's token authentication: RayClusters have no authOptions"
            self._ray = (url, f"{said}; install KubeRay 1.5.1 or newer" if old else None)
        return self._ray[1]
