"""One job before the operator's eyes: what is seen is set by hand, and it decides until nothing follows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pretune_api.names import ExitCode
from pretune_api.problems import parse
from pretune_api.status import Artifact, Attempt, Condition, Progress, Status
from pretune_operator.decision import Action, Decision, DeleteAttempt, DeleteCluster, Event, StartAttempt
from pretune_operator.job import JobView
from pretune_operator.observed import (
    Ending,
    Observed,
    ParentState,
    SeenAttempt,
    SeenParent,
    SeenPod,
    SeenProgress,
)
from pretune_operator.reconcile import reconcile
from pretune_operator.settings import Images, Pool, Preflight, Settings
from support.specs import PRETRAIN, changed

BEGIN = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ARTIFACT = Artifact(uri="s3://models/team/artifact/0001", digest=f"sha256:{'a' * 64}")
SETTINGS = Settings(
    images=Images(pretrain="pretrain:1", finetune="finetune:1"),
    pools={"a100": Pool(), "small": Pool(gpus_per_node=1), "private": Pool(namespaces=["other"])},
    default_pool="a100",
    preflight=Preflight(enabled=False),  # jobs of which it is told ask for it
)

HEAD = SeenPod("head", "Running", ready=True, node="node-0", ip="10.0.0.1")
WORKER = SeenPod("worker", "Running", ready=True, node="node-1", ip="10.0.0.2")

FAST: dict[str, Any] = {"failurePolicy__backoffSeconds": 0}
GONE: dict[str, Any] = {"head": None, "workers": (), "ray_cluster": None}
"""Of an attempt whose RayCluster and pods are deleted."""


class Scene:
    """A job, a clock, and what is seen."""

    def __init__(self, base: dict[str, Any] = PRETRAIN, labels: dict[str, str] | None = None, **spec: Any) -> None:
        """`spec` has fields of the spec by their YAML names, `__` between levels: training__maxSteps=3."""
        self.document = base
        self.labels = labels or {}
        self.generation = 0
        self.status = Status()
        self.now = BEGIN
        self.seen = Observed()
        self.settings = SETTINGS
        self.events: list[Event] = []
        self.again: timedelta | None = None
        self.change(**spec)

    def change(self, **spec: Any) -> Self:
        """The user changes fields of the spec."""
        changes = {f"spec.{path.replace('__', '.')}": value for path, value in spec.items()}
        self.document = changed(self.document, changes)
        self.generation += 1
        return self

    def sees(self, *attempts: SeenAttempt, **others: Any) -> Self:
        """What the cluster shows from now on."""
        self.seen = replace(self.seen, attempts={attempt.number: attempt for attempt in attempts}, **others)
        return self

    def after(self, seconds: float) -> Self:
        """Time goes by."""
        self.now += timedelta(seconds=seconds)
        return self

    def configure(self, **settings: Any) -> Self:
        """The administrator changes fields of the settings."""
        self.settings = self.settings.model_copy(update=settings)
        return self

    def decide(self) -> Decision:
        """One decision, which is not carried out."""
        return reconcile(self.view(), self.seen, self.settings, self.now)

    def view(self) -> JobView:
        """The job as the operator holds it now."""
        return JobView(parse(self.document), "0123-4567", "team", self.generation, self.status, labels=self.labels)

    def settle(self) -> list[Action]:
        """Decide until nothing follows any more; every action that was asked for, each once."""
        actions: list[Action] = []
        for _ in range(10):
            decision = self.decide()
            actions += [action for action in decision.actions if action not in actions]
            self.events += decision.events
            self.again = decision.again
            if decision.status == self.status:
                return actions
            self.status = Status.model_validate_json(decision.status.model_dump_json())
            if not decision.actions and decision.again != timedelta(0):
                self._rests()
        raise AssertionError("it never settles")

    def _rests(self) -> None:
        """Nothing follows from the last write, which wakes nobody."""
        following = self.decide()
        assert (following.status, following.actions) == (self.status, ()), "more follows, and nobody is woken for it"

    def condition(self, about: str) -> Condition:
        """What status says of it."""
        return next(condition for condition in self.status.conditions if condition.type == about)

    def says(self, about: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        condition = self.condition(about)
        return condition.status, condition.reason

    @property
    def last(self) -> Attempt:
        """The record of the last attempt."""
        return self.status.attempts[-1]

    def told(self) -> list[str]:
        """Reasons of the events so far."""
        return [event.reason for event in self.events]


def trains(scene: Scene) -> Scene:
    """The first attempt is made, and runs."""
    scene.settle()
    scene.sees(running()).settle()
    return scene


def ends(scene: Scene, seen: SeenAttempt) -> Scene:
    """The first attempt runs, and then this is seen of it."""
    trains(scene).sees(seen).settle()
    return scene


def started(actions: list[Action]) -> list[int]:
    """Numbers of the attempts that are started."""
    return [action.number for action in actions if isinstance(action, StartAttempt)]


def deleted(actions: list[Action]) -> list[str]:
    """RayJobs that are deleted."""
    return [action.ray_job for action in actions if isinstance(action, DeleteAttempt)]


def clusters_deleted(actions: list[Action]) -> list[str]:
    """Ray clusters that are deleted while their RayJobs stay."""
    return [action.ray_cluster for action in actions if isinstance(action, DeleteCluster)]


def attempt(number: int = 1, **fields: Any) -> SeenAttempt:
    """A RayJob that KubeRay has just taken up."""
    seen = {"ray_job": f"job-{number}", "created": BEGIN, "gpus": 1, "ray_cluster": f"cluster-{number}"}
    return SeenAttempt(number, **{**seen, "deployment_status": "Initializing", **fields})


def running(number: int = 1, **fields: Any) -> SeenAttempt:
    """An attempt that trains."""
    pods = {"head": HEAD, "workers": (WORKER,)}
    return attempt(number, **{**pods, "deployment_status": "Running", "job_status": "RUNNING", **fields})


def complete(number: int = 1, **fields: Any) -> SeenAttempt:
    """An attempt whose driver has succeeded, and has said so."""
    said = progress(ending=ending(ExitCode.OK, artifact=ARTIFACT, metrics={"loss": 2.5}))
    return running(number, **{"deployment_status": "Complete", "job_status": "SUCCEEDED", "progress": said, **fields})


def broken(number: int = 1, **fields: Any) -> SeenAttempt:
    """An attempt whose driver has failed."""
    failed = {"deployment_status": "Failed", "job_status": "FAILED", "reason": "AppFailed", "message": "exit code 1"}
    return running(number, **{**failed, **fields})


def failing(cause: str, message: str = "it went wrong", number: int = 1, **fields: Any) -> SeenAttempt:
    """An attempt whose driver has failed and said why."""
    return broken(number, progress=progress(ending=ending(ExitCode.FAILED, message, cause)), **fields)


def ending(exit_code: int, message: str = "", cause: str | None = None, **fields: Any) -> Ending:
    """A driver's last word."""
    return Ending(exit_code, message, cause, **fields)


def progress(**fields: Any) -> SeenProgress:
    """What a head says half-way."""
    half = Progress(step=5, total=10, percent=50, checkpoint_step=5)
    return SeenProgress(**{"state": "Running", "steps": half, "run": 1, "from_step": 0, **fields})


def parent(state: ParentState, *ancestors: str) -> SeenParent:
    """A parent of the job."""
    return SeenParent(state, ARTIFACT if state is ParentState.SUCCEEDED else None, ancestors)
