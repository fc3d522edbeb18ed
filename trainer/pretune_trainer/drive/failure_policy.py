"""When lost ranks are not replaced any more. Imports Ray Train: for its driver alone."""

from contextlib import suppress

from ray.train import FailureConfig
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision, FailurePolicy
from ray.train.v2.api.exceptions import TrainingFailedError

from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.failed_start import as_loss


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
        return self._since_commit.make_decision(as_loss(training_failed_error))
