"""What the operator answers to probes and to Prometheus."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, get_args

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pretune_api.status import State, Status
from pretune_operator import metrics
from pretune_operator.cluster.objects import StoredJob
from pretune_operator.conditions import ConditionType, condition
from pretune_operator.controller import Controller
from pretune_operator.handlers import EventLoop
from pretune_operator.records import current
from pretune_operator.resync import LONGEST_SECONDS, Resync
from pretune_operator.watches import Watches

BEAT_SECONDS: Final = 60.0
"""Time in which the event loop turns, however busy it is."""
RECONCILE_SECONDS: Final = 300.0
"""Time that one reconcile takes at most: its calls time out long before."""
RESYNC_SECONDS: Final = 2 * LONGEST_SECONDS
"""Age of the last census at most."""

Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type and body."""


@dataclass(frozen=True)
class Health:
    """Whether the operator does its work."""

    controller: Controller
    loop: EventLoop
    watches: Watches
    resync: Resync
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ready(self) -> list[str]:
        """Why jobs are not looked after yet."""
        return [] if self.controller.started else ["the cluster has not been listed completely yet"]

    def problems(self) -> list[str]:
        """What is wrong, in sentences; a new process would do better."""
        return [sentence for wrong, sentence in self._checks() if wrong]

    def _checks(self) -> list[tuple[bool, str]]:
        now, hanging = time.monotonic(), self.watches.hanging()
        taken, started = self.controller.queue.oldest(), self.controller.started
        return [
            (now - self.loop.last_beat > BEAT_SECONDS, "the event loop hangs"),
            (self.resync.rewound, "the cluster has gone back to an earlier state, as after a restore of etcd"),
            (bool(hanging), f"watches hang: {', '.join(map(str, hanging))}"),
            (taken > RECONCILE_SECONDS, f"a reconcile has been running for {taken:.0f} s"),
            (not self.resync.alive or (started and not self.controller.alive), "a worker has ended"),
            (started and now - self.resync.last > RESYNC_SECONDS, "the cluster has not been listed for too long"),
        ]

    def measured(self) -> bytes:
        """All metrics as Prometheus reads them. Of two who ask at once, none sees what the other is about to count."""
        with self._counting:
            self._count()
            return generate_latest()

    def _count(self) -> None:
        """Set the gauges that are only worth counting when somebody looks."""
        jobs = self.controller.cache.jobs()
        metrics.QUEUE_DEPTH.set(len(self.controller.queue))
        metrics.CENSUS_AGE.set(time.monotonic() - self.resync.last)
        metrics.JOBS.clear()
        numbers = Counter((job.namespace, job.kind, job.shown) for job in jobs)
        places = {(job.namespace, job.kind) for job in jobs}
        metrics.expect(places, time.monotonic())
        for namespace, kind in places:
            for state in get_args(State):
                metrics.JOBS.labels(namespace, kind, state).set(numbers[namespace, kind, state])
        _count_queued(jobs)


def _count_queued(jobs: Collection[StoredJob]) -> None:
    now, waits = datetime.now(UTC), {(job.namespace, job.kind): 0.0 for job in jobs}
    for job in jobs:
        if job.shown == "Queued":
            place = job.namespace, job.kind
            waits[place] = max(waits[place], (now - _queued_since(job)).total_seconds())
    metrics.QUEUED_SECONDS.clear()
    for place, seconds in waits.items():
        metrics.QUEUED_SECONDS.labels(*place).set(seconds)


def _queued_since(job: StoredJob) -> datetime:
    """When quota was asked for, or reclaimed: the condition may be false since an attempt before, or a suspension."""
    status = Status.model_validate_json(job.status, extra="ignore")
    quota, record = condition(status, ConditionType.QUOTA_RESERVED), current(status)
    assert quota is not None, "it is what makes a job's state Queued"
    said = quota.last_transition_time
    return max(said, record.start_time) if record and record.start_time else said


class HealthServer:
    """Serves /healthz, /readyz and /metrics."""

    def __init__(self, health: Health, port: int) -> None:
        """Raises OSError if the port is taken."""
        self._server = _Server(("", port), _Handler)
        self._server.routes = {
            "/healthz": lambda: _verdict(health.problems()),
            "/readyz": lambda: _verdict(health.ready()),
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, health.measured()),
        }
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Listens on both families: a pod's addresses are of IPv4, of IPv6, or of both."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    routes: dict[str, Callable[[], Answer]]

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30.0

    def do_GET(self) -> None:
        answer = self.server.routes.get(self.path.partition("?")[0])
        code, kind, body = answer() if answer else (HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the standard library's name
        """Probes are not worth a line."""


def _verdict(problems: list[str]) -> Answer:
    code = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return code, "text/plain", ("\n".join(problems or ["ok"]) + "\n").encode()
