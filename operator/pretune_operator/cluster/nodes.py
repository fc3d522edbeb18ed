"""Whether nodes can still be heard of. Asked for by name, and only in doubt: watching all nodes would cost more."""

import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.kinds import NODES

_HEARD_SECONDS: Final = 10.0
"""How long a node counts as heard of without being asked for again."""
_LOST_SECONDS: Final = 60.0
"""How long one counts as lost: where a zone is out there are many to ask for, and few come back. So do rights."""


class Nodes:
    """What was last heard of nodes."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, bool | None]] = {}
        """Until when what was heard of each node counts, and whether it is lost."""

    def lost(self, name: str) -> bool | None:
        """Whether a node is gone, or its kubelet has not reported for longer than it may; None where nobody may ask.

        Raises:
            ApiError: the API server cannot be asked.
        """
        with self._lock:
            until, lost = self._known.get(name, (0.0, False))
            if self._clock() < until:
                return lost
        lost = self._ask(name)
        with self._lock:
            now = self._clock()
            self._known = {node: known for node, known in self._known.items() if now < known[0]}
            self._known[name] = (now + (_HEARD_SECONDS if lost is False else _LOST_SECONDS), lost)
        return lost

    def _ask(self, name: str) -> bool | None:
        try:
            node = self._client.get(NODES, None, name)
        except ApiError as error:
            if error.code == HTTPStatus.FORBIDDEN:  # an operator of some namespaces need not be allowed to read nodes
                return None
            if error.not_found:
                return True
            raise
        conditions = (node.get("status") or {}).get("conditions") or ()
        return any(condition["type"] == "Ready" and condition["status"] == "Unknown" for condition in conditions)
