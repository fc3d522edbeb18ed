"""What head pods say of their runs: read now and then while they train, and once more when they are about to go."""

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import from_json

from pretune_api.names import PROGRESS_PORT
from pretune_api.status import MOST_LOG_BYTES, MOST_METRICS, Progress
from pretune_operator.cluster.objects import JobKey, StoredRayJob
from pretune_operator.observed import Ending, SeenPod, SeenProgress
from pretune_operator.work_queue import Workers, WorkQueue

POLL_SECONDS: Final = 22.0
"""Between two readings of a head pod: so often at most is progress written to status. That makes 45 writes a second for
a thousand jobs, and leaves 8 s until progress is 30 s old."""
_RETRY_SECONDS: Final = 5.0
"""Between two readings of a head that did not answer, or not yet."""
_HEARD_SECONDS: Final = 30.0
"""Time in which a head that is at work has answered: longer than from one reading to the end of the next, and shorter
than Kubernetes takes to find that a node is silent."""
_LAST_SECONDS: Final = 2.0
"""Between two readings of a head that is about to go."""
_THREADS: Final = 16
"""A head that does not answer holds one for seconds, and others must not wait for it."""
_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 3.0
"""Time in which the whole answer must be there: a user's pod may send a byte now and then for ever."""
_MOST_BYTES: Final = 1 << 20
"""Of an answer that are read: whatever a user's pod says, the operator has memory for it."""
_LONGEST_COMPLAINT: Final = 500
"""Characters: an error may quote all that a user's pod has said, and another one each time."""
_PROGRESS: Final = TypeAdapter(SeenProgress)
_ENDING: Final = TypeAdapter(Ending)

log = logging.getLogger(__name__)


@dataclass
class _Reading:
    """What was last read of a Ray cluster."""

    whose: dict[str, str | int]
    """What its head says of the job and the attempt that it is of: a pod's address may be another's by now."""
    ip: str | None = None
    """The head that is read now and then; None while none is."""
    progress: SeenProgress | None = None
    asked: float = float("-inf")
    """When its last word was last asked for, by the monotonic clock."""
    heard: float = float("-inf")
    """When it last answered, by the monotonic clock."""
    complaint: str | None = None
    """What was wrong with its last answer: the log says so once, however often the head is read."""


class Readings:
    """What was last read of each Ray cluster. Used by many threads at once."""

    def __init__(self, wake: Callable[[set[JobKey]], None]) -> None:
        """`wake` is told of jobs whose progress is another."""
        self._wake = wake
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

    @property
    def alive(self) -> bool:
        """Whether all threads are there."""
        return self._workers.alive

    def look(self, job: JobKey, ray_job: StoredRayJob, head: SeenPod | None, ending: bool) -> SeenProgress | None:
        """What is known of the Ray cluster that `ray_job` of `job` has; a head that is about to go is asked for its
        last word first."""
        cluster = ray_job.ray_cluster
        assert cluster is not None, "without a cluster there is no head to read"
        ip = head.ip if head is not None and head.phase == "Running" else None
        whose = {**job._asdict(), "uid": ray_job.job, "attempt": ray_job.attempt}
        with self._lock:
            reading = self._readings.setdefault(job, {}).setdefault(cluster, _Reading(whose))
        followed = None if ending else ip
        if followed and followed != reading.ip:
            self._queue.add((job, cluster))
        reading.ip = followed
        if ip and ending and _wants_last_word(reading):
            reading.asked = time.monotonic()
            _read(reading, ip)
        return reading.progress

    def hears(self, job: JobKey, cluster: str) -> bool:
        """Whether the head of a Ray cluster of `job` has just answered: it works, whatever is said of its node."""
        with self._lock:
            reading = self._readings.get(job, {}).get(cluster)
        return reading is not None and time.monotonic() - reading.heard < _HEARD_SECONDS

    def keep(self, job: JobKey, clusters: Collection[str | None]) -> None:
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
        answered = _read(reading, reading.ip)
        if reading.progress != before:
            self._wake({job})
        self._queue.add_after(place, POLL_SECONDS if answered else _RETRY_SECONDS)


def _read(reading: _Reading, ip: str) -> bool:
    """Reads once, and says whether there was an answer; what cannot be read changes nothing."""
    try:
        said = _answer(ip)
        if said is not None:
            reading.progress, reading.complaint = _of(reading.whose, from_json(said)), None
            reading.heard = time.monotonic()
            return True
    except (http.client.HTTPException, OSError) as error:
        log.debug("no progress from %s: %s", ip, error)
    except Exception as error:  # whatever a user's pod says must not end the operator for all others
        _complain(reading, ip, repr(error)[:_LONGEST_COMPLAINT])
    return False


def _complain(reading: _Reading, ip: str, complaint: str) -> None:
    if complaint != reading.complaint:
        job = "{kind} {namespace}/{name}".format_map(reading.whose)
        log.warning("/progress of the head pod at %s cannot be read: %s", ip, complaint, extra={"job": job})
    reading.complaint = complaint


class _TimedSocket(socket.socket):
    """A connection from which all has to be read in time, however slowly it comes."""

    until = float("inf")
    """By the monotonic clock."""

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self.settimeout(left)
        return super().recv_into(*arguments, **options)


def _answer(ip: str) -> bytes | None:
    """What a head says at /progress, if it says anything. Raises OSError, HTTPException."""
    opened = socket.create_connection((ip, PROGRESS_PORT), _CONNECT_SECONDS)
    with (
        _TimedSocket(fileno=opened.detach()) as timed,
        closing(http.client.HTTPConnection(ip, PROGRESS_PORT)) as call,
    ):
        timed.settimeout(_ANSWER_SECONDS)
        timed.until = time.monotonic() + _ANSWER_SECONDS
        call.sock = timed
        call.request("GET", "/progress")
        with call.getresponse() as answer:
            return answer.read(_MOST_BYTES) if answer.status == HTTPStatus.OK else None


def _wants_last_word(reading: _Reading) -> bool:
    told = reading.progress is not None and reading.progress.ending is not None
    return not told and time.monotonic() - reading.asked > _LAST_SECONDS


def _of(whose: dict[str, str | int], document: dict[str, Any]) -> SeenProgress:
    """As `seen`, if what the document says of its job is true."""
    said = document.get("job") or {}
    if not said.items() <= whose.items():
        raise ValueError(f"it is of {said}, and not of {whose}")
    return seen(document)


def seen(document: dict[str, Any]) -> SeenProgress:
    """The document at a head's /progress. Whatever it says fits into a status.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    ending, checkpoint = document.get("ending"), document.get("checkpoint")
    steps = Progress(
        step=document.get("step") or 0,
        total=document.get("total") or 0,
        percent=document.get("percent") or 0,
        eta_seconds=document.get("etaSeconds"),
        loss=document.get("loss"),
        tokens_per_second=document.get("tokensPerSecond"),
        checkpoint_step=None if checkpoint is None else checkpoint["step"],
    )
    said = {
        "state": document["state"],
        "run": document.get("run"),
        "from_step": document.get("fromStep"),
        "steps": steps,
        "metrics": _figures(document.get("metrics")),
        "ending": None if ending is None else _ending(ending),
    }
    return _PROGRESS.validate_python(said)


def last_line(logs: str) -> Ending | None:
    """The ending that the last line of a driver's logs tells, if it does."""
    try:
        return _ending(from_json(logs.strip().rpartition("\n")[2])["ending"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _ending(document: dict[str, Any]) -> Ending:
    said = {
        "exit_code": document["exitCode"],
        "message": document.get("message") or "",
        "cause": document.get("cause"),
        "artifact": document.get("artifact") or None,
        "metrics": _figures(document.get("metrics")),
        "step": document.get("step") or 0,
        "log": str(document.get("log") or "")[-MOST_LOG_BYTES:] or None,
    }
    return _ENDING.validate_python(said)


def _figures(metrics: dict[str, Any] | None) -> dict[str, float]:
    """Metrics that are numbers (those that are not are null), as many as a status holds: those of single classes,
    such as recall[spam], make way for all others, and those of slices, such as loss/language=de, for those of
    everything, of which the test's come last."""
    figures = {name: value for name, value in (metrics or {}).items() if isinstance(value, int | float)}
    if len(figures) <= MOST_METRICS:
        return figures
    kept = sorted((name for name in figures if "[" not in name), key=lambda name: "/" in name)
    return {name: figures[name] for name in islice(kept, MOST_METRICS)}
