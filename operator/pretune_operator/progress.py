"""What head pods say of their runs: read now and then while they train, and once more when they are about to go."""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import urllib3
from pydantic import ValidationError

from pretune_api.names import PROGRESS_PORT
from pretune_api.status import MOST_LOG_BYTES, MOST_METRICS, Artifact
from pretune_operator.cluster.objects import JobKey
from pretune_operator.observed import Ending, SeenPod, SeenProgress
from pretune_operator.work import Workers, WorkQueue

POLL_SECONDS: Final = 22.0
"""Between two readings of a head pod: so often at most is progress written to status. That makes 45 writes a second for
a thousand jobs, and leaves 8 s until progress is 30 s old."""
_RETRY_SECONDS: Final = 5.0
"""Between two readings of a head that did not answer, or not yet."""
_LAST_SECONDS: Final = 2.0
"""Between two readings of a head that is about to go."""
_THREADS: Final = 16
"""A head that does not answer holds one for seconds, and others must not wait for it."""
_TIMEOUT: Final = urllib3.Timeout(connect=2, read=3)
_MOST_BYTES: Final = 1 << 20
"""Of an answer that are read: whatever a user's pod says, the operator has memory for it."""

log = logging.getLogger(__name__)


@dataclass
class _Reading:
    """What was last read of a Ray cluster."""

    ip: str | None = None
    """The head that is read now and then; None while none is."""
    progress: SeenProgress | None = None
    asked: float = float("-inf")
    """When its last word was last asked for, by the monotonic clock."""


class Readings:
    """What was last read of each Ray cluster. Used by many threads at once."""

    def __init__(self, wake: Callable[[set[JobKey]], None]) -> None:
        """`wake` is told of jobs whose progress is another."""
        self._wake = wake
        self._http = urllib3.PoolManager(num_pools=64, retries=False, timeout=_TIMEOUT)
        self._lock = threading.Lock()
        self._readings: dict[JobKey, dict[str, _Reading]] = {}
        self._queue: WorkQueue[tuple[JobKey, str]] = WorkQueue()
        self._workers = Workers(self._queue, self._poll, _THREADS, "progress")

    def start(self) -> None:
        """Read from now on."""
        self._workers.start()

    def stop(self) -> None:
        """Read no more."""
        self._workers.stop(seconds=1)

    def look(self, job: JobKey, cluster: str, head: SeenPod | None, ending: bool) -> SeenProgress | None:
        """What is known of a Ray cluster of `job`; one whose head is about to go is asked for its last word first."""
        ip = head.ip if head is not None and head.phase == "Running" else None
        with self._lock:
            reading = self._readings.setdefault(job, {}).setdefault(cluster, _Reading())
        followed = None if ending else ip
        if followed and followed != reading.ip:
            self._queue.add((job, cluster))
        reading.ip = followed
        if ip and ending and _wants_last_word(reading):
            reading.asked = time.monotonic()
            self._read(reading, ip)
        return reading.progress

    def keep(self, job: JobKey, clusters: Collection[str]) -> None:
        """Forget what all other Ray clusters of `job` said."""
        with self._lock:
            kept = {name: reading for name, reading in self._readings.pop(job, {}).items() if name in clusters}
            if kept:
                self._readings[job] = kept

    def _poll(self, place: tuple[JobKey, str]) -> None:
        job, cluster = place
        with self._lock:
            reading = self._readings.get(job, {}).get(cluster)
        if reading is None or reading.ip is None:
            return
        before = reading.progress
        answered = self._read(reading, reading.ip)
        if reading.progress != before:
            self._wake({job})
        self._queue.add_after(place, POLL_SECONDS if answered else _RETRY_SECONDS)

    def _read(self, reading: _Reading, ip: str) -> bool:
        """Reads once, and says whether there was an answer; what cannot be read changes nothing."""
        host = f"[{ip}]" if ":" in ip else ip
        try:
            with self._http.request("GET", f"http://{host}:{PROGRESS_PORT}/progress", preload_content=False) as answer:
                said = answer.read(_MOST_BYTES)
            if answer.status == 200:
                reading.progress = seen(json.loads(said))
                return True
        except (urllib3.exceptions.HTTPError, OSError) as error:
            log.debug("no progress from %s: %s", host, error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("what %s says at /progress is not understood: %r", host, error)
        return False


def _wants_last_word(reading: _Reading) -> bool:
    told = reading.progress is not None and reading.progress.ending is not None
    return not told and time.monotonic() - reading.asked > _LAST_SECONDS


def seen(document: dict[str, Any]) -> SeenProgress:
    """The document at a head's /progress.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    ending, checkpoint = document.get("ending"), document.get("checkpoint")
    return SeenProgress(
        state=str(document["state"]),
        run=document.get("run"),
        step=document.get("step") or 0,
        total=document.get("total") or 0,
        percent=document.get("percent") or 0,
        from_step=document.get("fromStep"),
        eta_seconds=document.get("etaSeconds"),
        loss=document.get("loss"),
        tokens_per_second=document.get("tokensPerSecond"),
        checkpoint_step=None if checkpoint is None else checkpoint["step"],
        metrics=_figures(document.get("metrics")),
        ending=None if ending is None else _ending(ending),
    )


def last_line(logs: str) -> Ending | None:
    """The ending that the last line of a driver's logs tells, if it does."""
    try:
        return _ending(json.loads(logs.strip().rpartition("\n")[2])["ending"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _ending(document: dict[str, Any]) -> Ending:
    return Ending(
        exit_code=int(document["exitCode"]),
        message=str(document.get("message") or ""),
        cause=document.get("cause"),
        artifact=_artifact(document.get("artifact")),
        metrics=_figures(document.get("metrics")),
        step=document.get("step") or 0,
        log=str(document.get("log") or "")[-MOST_LOG_BYTES:] or None,
    )


def _artifact(document: dict[str, Any] | None) -> Artifact | None:
    try:
        return Artifact.model_validate(document) if document else None
    except ValidationError as error:
        raise ValueError(f"its artifact is none: {error}") from error


def _figures(metrics: dict[str, Any] | None) -> dict[str, float]:
    """Metrics that are numbers (those that are not are null), as many as a status holds: those of single classes,
    such as recall[spam], make way for all others."""
    figures = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
    if len(figures) <= MOST_METRICS:
        return figures
    return dict(islice(((name, value) for name, value in figures.items() if "[" not in name), MOST_METRICS))
