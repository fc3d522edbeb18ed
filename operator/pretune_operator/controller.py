"""One reconcile after the other: sees, decides, acts, writes status, says what happened."""

import json
import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final

from pydantic import ValidationError

from pretune_api.jobs import Job
from pretune_api.problems import KINDS, InvalidJobError, parse
from pretune_api.status import Status
from pretune_operator import metrics
from pretune_operator.cluster.act import Actor, TakenError
from pretune_operator.cluster.cache import Cache
from pretune_operator.cluster.client import ApiError, Client
from pretune_operator.cluster.discovery import Discovery
from pretune_operator.cluster.nodes import Nodes
from pretune_operator.cluster.objects import JobKey, StoredJob, StoredRayJob
from pretune_operator.cluster.observe import observe
from pretune_operator.cluster.progress import Readings
from pretune_operator.cluster.recorder import Recorder
from pretune_operator.decision import (
    Action,
    Decision,
    DeleteAttempt,
    DeleteCluster,
    DeleteLeftovers,
    DeletePreflight,
    Event,
    StartAttempt,
    StartPreflight,
)
from pretune_operator.errors import RefusedError
from pretune_operator.job import JobView
from pretune_operator.observed import Cluster, ParentState
from pretune_operator.reconcile import reconcile, refused
from pretune_operator.settings import Settings
from pretune_operator.start import forbidden
from pretune_operator.work_queue import Workers, WorkQueue

WORKERS: Final = 16
"""Jobs that are reconciled at once."""
_PARSED: Final = 256
"""Jobs that are kept as they were parsed last: each is looked at several times in a row."""
_TOLD_AFTER: Final = 3
"""Failures in a row after which the job's user is told."""
_TOLD_EVERY: Final = 60
"""Failures in a row after which it is told again: an hour in the end, which is how long events are kept."""

log = logging.getLogger(__name__)


class Controller:
    """Reconciles the jobs of the cluster, one worker a job, as their turn comes."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.cache = Cache()
        self.queue: WorkQueue[JobKey] = WorkQueue(urgent=self._is_new)
        self.readings = Readings(self.wake)
        self._settings = settings
        self._recorder = Recorder(client, self.queue.wait_for_calm)
        self._actor = Actor(client, self.cache, self.wake, settings)
        self._discovery = Discovery(client)
        self._nodes = Nodes(client)
        self._cluster: Cluster | None = None
        self._workers = Workers(self.queue, self.work, WORKERS, "reconcile")
        self._started = threading.Event()

    def wake(self, keys: set[JobKey]) -> None:
        """Look at these jobs as soon as possible."""
        for key in keys:
            self.queue.add(key)

    def check_cluster(self) -> None:
        """Wake all that is under way when KubeRay or Kueue have come or gone: no event tells of that."""
        before = self._cluster
        try:
            self._cluster = self._discovery.cluster()
        except ApiError as error:
            log.warning("what the cluster offers is not known: %s", error)
        if before is not None and before != self._cluster:
            self.wake({job.key for job in self.cache.jobs() if job.state is ParentState.RUNNING})

    def start(self) -> None:
        """Reconcile from now on; the cache must be complete."""
        self._recorder.start()
        self._workers.start()
        self.readings.start()
        self._started.set()

    def stop(self) -> None:
        """End after the reconciles at hand."""
        self._workers.stop(seconds=10)
        self.readings.stop()
        self._recorder.stop(seconds=3)

    @property
    def alive(self) -> bool:
        """Whether all threads are there."""
        return self._workers.alive and self._recorder.alive and self.readings.alive

    @property
    def started(self) -> bool:
        """Whether jobs are reconciled."""
        return self._started.is_set()

    def work(self, key: JobKey) -> None:
        """Reconcile one job; what fails is tried again, later each time."""
        try:
            with metrics.RECONCILE_SECONDS.time():
                self._reconcile(key)
        except ApiError as error:
            self._failed(key, error, error.reason or str(error.code))
        except Exception as error:  # a mistake of ours in one job must not end the operator for all others
            self._failed(key, error, type(error).__name__)
        else:
            self.queue.succeeded(key)

    def _is_new(self, key: JobKey) -> bool:
        """Whether nothing was made of a job yet: where many come at once, each starts before others are seen to."""
        job = self.cache.job(key)
        return job is not None and job.shown == "Pending" and not self.cache.children(job, StoredRayJob)

    def _reconcile(self, key: JobKey) -> None:
        job = self.cache.job(key)
        if job is None or job.namespace in self.cache.left_out:
            self.queue.cancel(key)
            self.readings.keep(key, ())
            return
        self.readings.keep(key, {ray_job.ray_cluster for ray_job in self.cache.children(job, StoredRayJob)})
        # What a newer version has said before a rollback is left out.
        status = Status.model_validate_json(job.status, extra="ignore")
        view = _view(job, status)
        decision = self._decide(job, view, status)
        try:
            for action in decision.actions:
                log.info("%s", _words(action), extra={"job": str(key)})
                self._actor.act(job, view, action)
        except RefusedError as error:
            decision = forbidden(status, decision, job.generation, str(error), datetime.now(UTC))
        if any(isinstance(action, StartAttempt) for action in decision.actions):
            if self.queue.has_urgent:
                self.queue.add(key)  # status takes the attempt in afterwards, as after a crash: others wait for theirs
                return
            decision = self._with_its_start(job, view, decision)
        self._conclude(job, status, decision)

    def _decide(self, job: StoredJob, view: JobView | InvalidJobError, status: Status) -> Decision:
        look, hears = partial(self.readings.look, job.key), partial(self.readings.hears, job.key)
        now = datetime.now(UTC)
        seen = observe(job, self.cache, self._discovery.cluster(), self._nodes.lost, look, hears, now)
        if isinstance(view, InvalidJobError):
            suspend = json.loads(job.document)["spec"].get("suspend") is True
            return refused(status, job.generation, seen, view.problems, now, suspend)
        return reconcile(replace(view, status=status), seen, self._settings, now)

    def _with_its_start(self, job: StoredJob, view: JobView | InvalidJobError, decision: Decision) -> Decision:
        """What follows from the attempt that was made, too: it is in view already, so one write of status tells all."""
        following = self._decide(job, view, decision.status)
        if following.actions:  # they have to wait until status is written
            return decision
        return replace(following, events=decision.events + following.events)

    def _conclude(self, job: StoredJob, before: Status, decision: Decision) -> None:
        """Write status and say what happened; the last thing that a reconcile does."""
        if decision.status != before:
            self._actor.write(job, decision.status)
            metrics.observe(job.namespace, job.kind, before, decision.status)
        for event in decision.events:
            self._recorder.record(job, event)
        if decision.again is None:
            self.queue.cancel(job.key)
        else:
            self.queue.add_after(job.key, decision.again.total_seconds())
        if any(not isinstance(action, DeleteLeftovers) for action in decision.actions):
            self.queue.add(job.key)  # what they have changed wakes nobody else; leftovers are not seen at all

    def _failed(self, key: JobKey, error: Exception, reason: str) -> None:
        failures = self.queue.retry(key, error.pause if isinstance(error, ApiError) else 0.0)
        metrics.RECONCILE_ERRORS.labels(reason).inc()
        if reason == "Conflict":  # the job has changed while it was looked at: its event is on the way
            return
        unforeseen = not isinstance(error, ApiError | TakenError)
        log.warning("failure %d in a row: %s", failures, error, extra={"job": str(key)}, exc_info=unforeseen)
        job = self.cache.job(key)
        if job is not None and failures % _TOLD_EVERY == _TOLD_AFTER:
            self._recorder.record(job, Event("Warning", "ReconcileFailed", f"{error}; it will be retried"))


def _view(job: StoredJob, status: Status) -> JobView | InvalidJobError:
    """The job as reconcile() takes it, or everything that is wrong with it."""
    try:
        parsed = _parsed(job.kind, job.document)
    except InvalidJobError as error:
        return error
    return JobView(parsed, job.uid, job.namespace, job.generation, status, job.deleting, job.labels)


@lru_cache(_PARSED)
def _parsed(kind: str, document: bytes) -> Job:
    try:
        # What the API server has admitted is valid, but for rare differences between versions: this takes a twentieth
        # of the time that it takes to look for everything that may be wrong.
        return KINDS[kind].model_validate_json(document, strict=True, by_alias=True, by_name=False)
    except ValidationError:
        return parse(json.loads(document))


def _words(action: Action) -> str:
    match action:
        case StartAttempt(number):
            return f"starting attempt {number}"
        case DeleteAttempt(ray_job):
            return f"deleting RayJob {ray_job}"
        case DeleteCluster(ray_cluster):
            return f"deleting RayCluster {ray_cluster}"
        case DeleteLeftovers():
            return "deleting the ConfigMaps and NetworkPolicies of all attempts"
        case StartPreflight(number):
            return f"starting preflight {number}"
        case DeletePreflight(name):
            return f"deleting Job {name}"
