"""Ray Train with policies of ours, and without what a run never needs. Imports Ray Train: for its driver alone."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ray.exceptions import RayActorError
from ray.train import ControllerError, FailureConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, WorkerGroupContext
from ray.train.v2.api.exceptions import TrainingFailedError

from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.worker import is_lost_rank

_UNUSED_ACTORS: Final = ("DatasetsCallback", "PlacementGroupCleanerCallback")
"""Each would start a process that imports Ray: 4 s of CPU. We pass no Ray datasets; resources go with the driver."""


class LeanTrainer(TorchTrainer):  # type: ignore[misc]  # Ray is not annotated
    """Starts the group of ranks again as long as that helps."""

    def __init__(self, desk: Desk, **settings: Any) -> None:
        super().__init__(**settings)
        self._desk = desk

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        used = [callback for callback in callbacks if type(callback).__name__ not in _UNUSED_ACTORS]
        return [_EndsFailedStarts(), *used]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        ours = {
            "train_fn_ref": _Carried(parts["train_fn_ref"].get()),
            "scaling_policy": _AllThereAre(self.scaling_config),
            "failure_policy": LossesSinceCommit(self.run_config.failure_config, self._desk),
        }
        return super()._initialize_and_run_controller(**parts | ours)


class _Carried:
    """The train function itself, in place of a reference to it.

    Ray sometimes forgets the owner of a reference that was lent to the controller: ranks could not be started again.
    """

    def __init__(self, train_fn: Callable[[], None]) -> None:
        self._train_fn = train_fn

    def get(self) -> Callable[[], None]:
        """What ranks call."""
        return self._train_fn


class _AllThereAre(FixedScalingPolicy):  # type: ignore[misc]  # Ray is not annotated
    """Asks no autoscaler for nodes: there is none, and the process that would ask holds up each start by 2 s."""

    def after_controller_start(self, train_run_context: object) -> None:
        """Start no such process."""

    def _maybe_send_resource_request(self) -> None:
        pass


class LossesSinceCommit(FailurePolicy):  # type: ignore[misc]  # Ray is not annotated
    """Counts losses since the last commit: a run of months on many machines loses some of them every few days."""

    def __init__(self, config: FailureConfig, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk
        self._commits = 0
        self._since_commit = DefaultFailurePolicy(config)

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        """Whether to start the group of ranks again."""
        with suppress(BoardLostError):
            commits = self._desk.commits()
            if commits > self._commits:
                self._commits, self._since_commit = commits, DefaultFailurePolicy(self.failure_config)
        return self._since_commit.make_decision(_as_loss(training_failed_error))


def _as_loss(error: TrainingFailedError) -> TrainingFailedError:
    """The same, as the loss of ranks that it is if some were lost while they started.

    Ray Train gives up, or counts it among the starts that took too long: by whom it hears of the loss first, Ray or
    those that wait for the one that is lost.
    """
    said = error.controller_failure if isinstance(error, ControllerError) else None
    if isinstance(said, WorkerGroupStartupFailedError | RayActorError) or (said is not None and is_lost_rank(said)):
        return WorkerGroupError(str(said), {})
    return error


class _EndsFailedStarts(WorkerGroupCallback):  # type: ignore[misc]  # Ray is not annotated
    """Ends the ranks of a group that could not start before the next one is started.

    Ray Train forgets them once they have begun to meet: the next group would wait in vain for what they hold.
    """

    def __init__(self) -> None:
        self._last: WorkerGroup | None = None

    def before_worker_group_start(self, worker_group_context: WorkerGroupContext) -> None:
        """End the last group if nobody has."""
        if self._last is not None and self._last.has_started():
            self._last.abort()

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        """Note the group, which may fail from here on: its processes meet next."""
        self._last = worker_group
