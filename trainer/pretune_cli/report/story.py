"""Everything that a report tells of a job."""

from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from pretune_api.run_config import RunConfig
from pretune_api.status import Status
from pretune_cli.job_folder import JobFolder
from pretune_cli.report.history import TrainingHistory, follow, read_config, read_runs
from pretune_cli.report.lineage import Ancestor, ancestors
from pretune_trainer.data.cleaning.report import REPORT_NAME, DataReport
from pretune_trainer.errors import MissingObjectError, UserError
from pretune_trainer.metrics.exhibits import Exhibits
from pretune_trainer.storage.finished import Finished, finished
from pretune_trainer.storage.store import Store


@dataclass(frozen=True)
class Story:
    """A job, from its parents to its artifact."""

    uri: str
    """The job's folder."""
    config: RunConfig
    """Of the newest run."""
    history: TrainingHistory
    """How training went."""
    artifact: Finished | None
    """What came of it; None as long as nothing has."""
    cleaned: DataReport | None
    """What cleaning did, where there was any."""
    ancestors: tuple[Ancestor, ...]
    """What the model was made from."""
    status: Status | None
    """What its cluster says; None where none was asked."""

    @property
    def name(self) -> str:
        """KIND/NAME of the job."""
        return f"{self.config.job.kind}/{self.config.job.name}"

    @property
    def state(self) -> str:
        """In one word."""
        if self.status is not None:
            return self.status.state
        return "Succeeded" if self.artifact else "Unfinished"

    @property
    def step(self) -> int:
        """Step of the weights that the figures are of."""
        return self.artifact.facts.step if self.artifact else self.history.last_step

    @cached_property
    def figures(self) -> dict[str, float]:
        """Of the artifact, or of the last evaluation."""
        if self.artifact is not None:
            return self.artifact.facts.metrics
        return self.history.evaluations[max(self.history.evaluations)] if self.history.evaluations else {}

    @property
    def exhibits(self) -> Exhibits:
        """Of the artifact's weights, or of the last evaluation."""
        found = self.history.exhibits
        return found.get(self.step) or (found[max(found)] if found else Exhibits())

    @property
    def unit(self) -> str:
        """What its steps count: tokens, or images where there are none."""
        return "tokens" if self.config.tokenizer else "images"

    @property
    def seconds(self) -> float:
        """Time that all runs together took."""
        return sum(run.seconds for run in self.history.runs)

    @property
    def gpu_hours(self) -> float | None:
        """As the cluster counts them, or GPUs by the time of the runs; None where there were no GPUs."""
        if self.status is not None and self.status.gpu_seconds:
            return self.status.gpu_seconds / 3600
        return self.seconds * self.config.ranks / 3600 if self.config.device == "cuda" else None


def read(folder: JobFolder) -> Story:
    """The story of a job.

    Raises:
        UserError: no run has begun to train yet, or another version of Pretune wrote what is there.
        StorageError: the storage cannot be read.
    """
    job = folder.store
    try:
        runs, config = read_runs(job), read_config(job)
        artifact = finished(job)
    except (ValidationError, KeyError) as error:
        raise UserError(job.uri, "was written by another version of Pretune; use that version") from error
    return Story(job.uri, config, follow(runs), artifact, _cleaned(job, artifact), ancestors(config), folder.status)


def _cleaned(job: Store, artifact: Finished | None) -> DataReport | None:
    if artifact is None:
        return None
    try:
        return DataReport.model_validate_json(job.get(f"{artifact.uri.removeprefix(job.uri)[1:]}/{REPORT_NAME}"))
    except MissingObjectError:
        return None
