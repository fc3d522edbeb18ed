"""Ray Train with policies of ours, and without what a run never needs. Imports Ray Train: for its driver alone."""

from typing import Any, Final

from ray.train.torch import TorchTrainer

from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.failed_start import EndsFailedStarts
from pretune_trainer.drive.failure_policy import LossesSinceCommit
from pretune_trainer.drive.scaling_policy import AllThereAre

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
        return [EndsFailedStarts(), *used]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        policies = {
            "scaling_policy": AllThereAre(self.scaling_config),
            "failure_policy": LossesSinceCommit(self.run_config.failure_config, self._desk),
        }
        return super()._initialize_and_run_controller(**parts | policies)
