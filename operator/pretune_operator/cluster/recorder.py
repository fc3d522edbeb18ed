"""Publishes events beside the work: a job's start does not wait for what is said of another one's."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Full, Queue
from typing import Any, Final

from pretune_api.names import API_VERSION
from pretune_operator.cluster.client import MANAGER, ApiError, Client
from pretune_operator.cluster.kinds import EVENTS
from pretune_operator.cluster.objects import JobKey, StoredJob
from pretune_operator.decision import Event

_PATIENCE_SECONDS: Final = 0.1
"""How long an event gives way to what is more urgent, each: ten a second are published in any case."""
_MOST_WAITING: Final = 10_000
"""Events that wait to be published at most; what comes on top is logged alone."""
_LONGEST_NOTE: Final = 1_024
"""Bytes of an event's note at most, by the API."""

log = logging.getLogger(__name__)


class Recorder:
    """One thread that publishes one event after the other: an API server that is slow gets fewer of them."""

    def __init__(self, client: Client, calm: Callable[[float], None]) -> None:
        """`calm` returns once nothing more urgent is to be done, after some seconds in any case."""
        self._client = client
        self._calm = calm
        self._waiting: Queue[tuple[JobKey, dict[str, Any]] | None] = Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Publish from now on."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End once everything is published; waits for it at most `seconds`."""
        if self.alive:
            self._put(None)
            self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        """Whether events are published."""
        return self._thread.is_alive()

    def record(self, job: StoredJob, event: Event) -> None:
        """Have an event about `job` published. Nobody waits for it: a failure is logged."""
        self._put((job.key, _body(job, event)))

    def _put(self, entry: tuple[JobKey, dict[str, Any]] | None) -> None:
        try:
            self._waiting.put_nowait(entry)
        except Full:
            log.warning("%d events wait to be published; not published: %s", _MOST_WAITING, entry)

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            job, body = entry
            self._calm(_PATIENCE_SECONDS)
            try:
                self._client.create(EVENTS, body)
            except ApiError as error:
                log.warning("event %s was not published: %s", body["reason"], error, extra={"job": str(job)})


def _body(job: StoredJob, event: Event) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": job.namespace, "generateName": f"{job.name}-"},
        "eventTime": now,
        "type": event.type,
        "reason": event.reason,
        "action": "Reconcile",
        "note": event.message.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": job.kind,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
        "reportingController": MANAGER,
        "reportingInstance": MANAGER,
    }
