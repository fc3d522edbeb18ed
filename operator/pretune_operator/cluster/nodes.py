"""Whether nodes can still be heard of. Asked for by name, and only in doubt: watching all nodes would cost more."""

import threading
import time
from typing import Final

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import NODES

_MAX_AGE_SECONDS: Final = 10.0


class Nodes:
    """What was last heard of nodes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, bool]] = {}

    def lost(self, name: str) -> bool:
        """Whether a node is gone, or its kubelet has not reported for longer than it may. Raises ApiError."""
        now = time.monotonic()
        with self._lock:
            self._known = {node: (at, lost) for node, (at, lost) in self._known.items() if now - at < _MAX_AGE_SECONDS}
            if name in self._known:
                return self._known[name][1]
        lost = self._ask(name)
        with self._lock:
            self._known[name] = (now, lost)
        return lost

    def _ask(self, name: str) -> bool:
        try:
            node = self._client.get(NODES, None, name)
        except ApiError as error:
            if error.code == 403:  # an operator of some namespaces need not be allowed to read nodes
                return False
            if error.gone:
                return True
            raise
        conditions = (node.get("status") or {}).get("conditions") or ()
        return any(condition["type"] == "Ready" and condition["status"] == "Unknown" for condition in conditions)
