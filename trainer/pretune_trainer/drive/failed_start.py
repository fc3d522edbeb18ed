"""Groups of ranks that lose one while they start. Imports Ray Train: for its driver alone."""

from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import WorkerGroup, WorkerGroupContext
from ray.train.v2.api.exceptions import TrainingFailedError

from pretune_trainer.drive.worker import is_lost_rank


class EndsFailedStarts(WorkerGroupCallback):  # type: ignore[misc]  # Ray is not annotated
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


def as_loss(error: TrainingFailedError) -> TrainingFailedError:
    """The same, as the loss of ranks that it is if some were lost while they started.

    Ray Train gives up, or counts it among the starts that took too long: by whom it hears of the loss first, Ray or
    those that wait for the one that is lost.
    """
    said = error.controller_failure if isinstance(error, ControllerError) else None
    if isinstance(said, WorkerGroupStartupFailedError | RayActorError) or (said is not None and is_lost_rank(said)):
        return WorkerGroupError(str(said), {})
    return error
