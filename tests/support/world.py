"""A cluster in memory: RayJobs that live and die as they are fated to, seen late, and an operator that crashes."""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pretune_api.names import ExitCode
from pretune_api.problems import parse
from pretune_api.status import Status
from pretune_operator.conditions import is_finished
from pretune_operator.decision import (
    Action,
    Decision,
    DeleteAttempt,
    DeleteCluster,
    DeletePreflight,
    StartAttempt,
    StartPreflight,
)
from pretune_operator.errors import RefusedError
from pretune_operator.images import image_of
from pretune_operator.job import JobView
from pretune_operator.observed import Observed, SeenAttempt
from pretune_operator.reconcile import reconcile
from pretune_operator.settings import Images
from pretune_operator.start import forbidden
from support.preflights import Preflight, Trial
from support.scene import ARTIFACT, BEGIN, HEAD, SETTINGS, WORKER, ending, progress
from support.specs import PRETRAIN, changed

TICK: Final = timedelta(seconds=5)
_TICKS: Final = 20_000
"""Far more than any job needs: one that is not finished by then hangs."""


class End(StrEnum):
    """How a RayJob ends."""

    SUCCEEDS = "succeeds"
    SUCCEEDS_SILENTLY = "succeeds, and its last word is never read"
    SUCCEEDS_UNNOTICED = "succeeds, and KubeRay does not notice"
    FAILS = "fails, and says why"
    FAILS_SILENTLY = "fails without a word"
    HEAD_VANISHES = "loses its head, and KubeRay does not notice"
    NODE_LOST = "loses the node of its head"
    OUT_OF_MEMORY = "is killed for its memory"
    DELETED = "is deleted by somebody"
    NEVER_STARTS = "cannot pull its image"
    EVICTED = "is evicted by Kueue for a while, and then succeeds"


@dataclass(frozen=True)
class Fate:
    """What will become of a RayJob."""

    end: End = End.SUCCEEDS
    cause: str = "Network"
    queued: int = 0
    """Ticks for which Kueue holds it back."""
    starting: int = 1
    running: int = 2
    draining: int = 1
    """Ticks that its pods take to leave."""


@dataclass
class _RayJob:
    number: int
    name: str
    fate: Fate
    image: str
    age: int = 0
    leaves_in: int | None = None
    """Ticks until its pods have left, once it, or its cluster, is deleted."""
    deleted: bool = False

    def tick(self) -> None:
        if self.fate.end is End.DELETED and self.age == self._end:
            self.delete()
        if self.leaves_in is not None:
            self.leaves_in -= 1
        elif not self.deleted:
            self.age += 1

    def delete(self) -> None:
        self.deleted = True
        self.leaves_in = self.fate.draining if self.leaves_in is None else self.leaves_in

    @property
    def gone(self) -> bool:
        return self.deleted and self.leaves_in is not None and self.leaves_in <= 0

    @property
    def trains(self) -> bool:
        """Whether a pod of it is at work, or still leaves."""
        return any(pod.phase == "Running" and not pod.node_lost for pod in self.seen().workers)

    @property
    def _end(self) -> int:
        evicted = 4 if self.fate.end is End.EVICTED else 0
        return self.fate.queued + self.fate.starting + self.fate.running + evicted

    def seen(self) -> SeenAttempt:
        """What the cluster shows of it."""
        bare = SeenAttempt(self.number, self.name, BEGIN, gpus=1, image=self.image, ray_cluster=f"c-{self.number}")
        shown = self._phase(replace(bare, deleting=self.deleted))
        if self.leaves_in is None:
            return shown
        shown = replace(shown, ray_cluster=None)
        return shown if self.leaves_in > 0 else replace(shown, head=None, workers=())

    def _phase(self, bare: SeenAttempt) -> SeenAttempt:
        start = self.fate.queued + self.fate.starting
        if self.age < self.fate.queued:
            return replace(bare, suspended=True, deployment_status="Suspended", ray_cluster=None)
        if self.fate.end is End.NEVER_STARTS:
            stuck = replace(WORKER, phase="Pending", ready=False, waiting_reason="ImagePullBackOff")
            return replace(bare, deployment_status="Initializing", head=HEAD, workers=(stuck,))
        if self.age < start:
            return replace(bare, deployment_status="Initializing")
        if self.fate.end is End.EVICTED and start + 1 < self.age < start + 4:
            return replace(bare, suspended=True, deployment_status="Suspended", ray_cluster=None)
        pods = replace(bare, head=HEAD, workers=(WORKER,), progress=progress(run=self.number))
        if self.age < self._end:
            return replace(pods, deployment_status="Running", job_status="RUNNING")
        return self._ended(pods)

    def _ended(self, pods: SeenAttempt) -> SeenAttempt:
        running = replace(pods, deployment_status="Running", job_status="RUNNING")
        complete = replace(pods, deployment_status="Complete", job_status="SUCCEEDED")
        failed = replace(pods, deployment_status="Failed", job_status="FAILED", reason="AppFailed")
        good = progress(ending=ending(ExitCode.OK, artifact=ARTIFACT))
        bad = progress(ending=ending(ExitCode.FAILED, "it went wrong", self.fate.cause))
        killed = replace(WORKER, phase="Failed", terminated_reason="OOMKilled")
        shown: dict[End, SeenAttempt] = {
            End.SUCCEEDS: replace(complete, progress=good),
            End.EVICTED: replace(complete, progress=good),
            End.SUCCEEDS_SILENTLY: complete,
            End.SUCCEEDS_UNNOTICED: replace(running, progress=good),
            End.FAILS: replace(failed, progress=bad),
            End.FAILS_SILENTLY: failed,
            End.HEAD_VANISHES: replace(running, head=None),
            End.NODE_LOST: replace(running, head=replace(HEAD, node_lost=True)),
            End.OUT_OF_MEMORY: replace(failed, head=None, workers=(killed,)),
            End.DELETED: running,
        }
        return shown[self.fate.end]


def with_image(image: str) -> Images:
    """The administrator's images, of which PretrainJobs have this one."""
    return SETTINGS.images.model_copy(update={"pretrain": image})


class CrashError(Exception):
    """The operator dies."""


@dataclass
class World:
    """A job, its operator, and the cluster; `fates` are those of its RayJobs, `trials` those of its preflights, if the
    job has any, and what comes after them succeeds."""

    fates: list[Fate]
    spec: dict[str, Any] = field(default_factory=dict)
    lag: int = 0
    """Ticks by which what is seen of RayJobs and pods may be old."""
    crashes: list[int] = field(default_factory=list)
    """For each reconcile in turn, after how many of its actions the operator dies; negative: it does not."""
    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What the user changes, by tick."""
    trials: list[Trial] = field(default_factory=list)
    refusals: int = 0
    """How many times the API server refuses an attempt before it takes one."""
    upgrades: dict[int, str] = field(default_factory=dict)
    """Trainer images that the administrator sets, by tick."""

    def __post_init__(self) -> None:
        self.document = changed(PRETRAIN, {f"spec.{path}": value for path, value in self.spec.items()})
        self.generation = 1
        self.status = Status()
        self.now: datetime = BEGIN
        self.settings = SETTINGS
        self.images: dict[int, str] = {}
        self.retries: dict[int, int] = {}
        self.ray_jobs: dict[int, _RayJob] = {}
        self.preflights: dict[int, Preflight] = {}
        self.made: list[int] = []
        self.tried: list[int] = []
        self.decisions: list[Decision] = []
        self.written: list[Status] = [self.status]
        self._shown: deque[Observed] = deque([Observed()], maxlen=self.lag + 1)
        self._known: tuple[Observed, Status, int] | None = None
        self._due: datetime | None = None
        self._reconciles = 0
        self._job = parse(self.document)

    def live(self) -> list[int]:
        """Attempts whose pods may be at work."""
        return [number for number, ray_job in self.ray_jobs.items() if ray_job.trains]

    def run(self) -> None:
        """Until the job has finished, nothing of it is left to be done, and the user has no more wishes."""
        for tick in range(_TICKS):
            if tick in self.changes:
                self._change(self.changes.pop(tick))
            if tick in self.upgrades:
                self.settings = SETTINGS.model_copy(update={"images": with_image(self.upgrades[tick])})
            self._reconcile_while_there_is_news()
            if is_finished(self.status) and not self.changes and self._quiet():
                return
            self._tick()
        raise AssertionError(f"it hangs: {self.status}")

    def _quiet(self) -> bool:
        return self._shown[0] == self._observed() and not self.live() and not self.preflights

    def _change(self, spec: dict[str, Any]) -> None:
        self.document = changed(self.document, {f"spec.{path}": value for path, value in spec.items()})
        self.generation += 1
        self._job = parse(self.document)

    def _tick(self) -> None:
        self.now += TICK
        for ray_job in self.ray_jobs.values():
            ray_job.tick()
        for preflight in self.preflights.values():
            preflight.tick()
        self.ray_jobs = {number: ray_job for number, ray_job in self.ray_jobs.items() if not ray_job.gone}
        self.preflights = {number: made for number, made in self.preflights.items() if not made.gone}
        self._shown.append(self._observed())

    def _observed(self) -> Observed:
        return Observed(
            {number: ray_job.seen() for number, ray_job in self.ray_jobs.items()},
            {number: preflight.seen() for number, preflight in self.preflights.items()},
        )

    def _reconcile_while_there_is_news(self) -> None:
        for _ in range(20):
            if self._known == self._seen() and (self._due is None or self.now < self._due):
                return
            try:
                self._reconcile()
            except CrashError:
                self._known = None
        raise AssertionError(f"it never comes to rest: {self.status}")

    def _seen(self) -> tuple[Observed, Status, int]:
        return self._shown[0], self.status, self.generation

    def _reconcile(self) -> None:
        known = self._seen()
        view = JobView(self._job, "0123-4567", "team", self.generation, self.status)
        decision = reconcile(view, known[0], self.settings, self.now)
        assert reconcile(view, known[0], self.settings, self.now) == decision
        self.decisions.append(decision)
        self._reconciles += 1
        dies_after = self.crashes[self._reconciles - 1] if self._reconciles <= len(self.crashes) else -1
        for done, action in enumerate(decision.actions):
            if done == dies_after:
                raise CrashError
            try:
                self._act(action, image_of(view, self.settings))
            except RefusedError as error:
                decision = forbidden(self.status, decision, self.generation, str(error), self.now)
        if dies_after >= len(decision.actions):
            raise CrashError
        self.status = Status.model_validate_json(decision.status.model_dump_json())
        self.written.append(self.status)
        # The operator is not woken by its own write of status.
        self._known = known[0], self.status, known[2]
        self._due = None if decision.again is None else self.now + max(decision.again, timedelta(microseconds=1))
        if self.lag == 0:
            self._shown.append(self._observed())

    def _act(self, action: Action, image: str) -> None:
        match action:
            case StartAttempt(number):
                self._start(number, image)
            case DeleteAttempt(name):
                for ray_job in self.ray_jobs.values():
                    if ray_job.name == name:
                        ray_job.delete()
            case StartPreflight(number):
                self._try(number)
            case DeletePreflight(name):
                for preflight in self.preflights.values():
                    preflight.deleted |= preflight.name == name
            case DeleteCluster(name):
                owner = self.ray_jobs.get(int(name.removeprefix("c-")))
                if owner is not None and owner.leaves_in is None:
                    owner.leaves_in = owner.fate.draining

    def _try(self, number: int) -> None:
        if number in self.preflights:
            return
        trial = self.trials[number - 1] if number <= len(self.trials) else Trial.PASSES
        if trial is Trial.FORBIDDEN:
            raise RefusedError("exceeded quota")
        assert number not in self.tried, f"preflight {number} is made a second time"
        assert not self.live(), f"preflight {number} is made while {self.live()} may train"
        self.preflights[number] = Preflight(number, f"preflight-{number}", trial)
        self.tried.append(number)

    def _start(self, number: int, image: str) -> None:
        if number in self.ray_jobs:
            return
        if self.refusals:
            self.refusals -= 1
            raise RefusedError("exceeded quota")
        assert number not in self.made, f"attempt {number} is made a second time"
        assert not self.live(), f"attempt {number} is made while {self.live()} may train"
        fate = self.fates[number - 1] if number <= len(self.fates) else Fate()
        self.ray_jobs[number] = _RayJob(number, f"job-{number}", fate, image)
        self.made.append(number)
        self.images[number] = image
        self.retries[number] = self.status.observed_retry
