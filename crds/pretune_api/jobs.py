"""The two kinds: PretrainJob and FinetuneJob."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.compute import Compute
from pretune_api.data import Data
from pretune_api.lifecycle import FailurePolicy
from pretune_api.methods import Full, Method
from pretune_api.model import From, Model, Tokenizer
from pretune_api.names import API_VERSION
from pretune_api.objectives import Objective
from pretune_api.status import Status
from pretune_api.storage import Storage
from pretune_api.tasks import IMAGES_ALONE, Task, in_context_of, reads_text
from pretune_api.tracking import Tracking
from pretune_api.training import Checkpointing, EarlyStopping, Evaluation, Training
from pretune_api.units import JobName, Seconds


class JobSpec(Spec):
    """What both kinds have in common."""

    model: Model
    """The model to train."""
    tokenizer: Tokenizer | None = None
    """How text is tokenized; defaults to the tokenizer of model.from."""
    data: Data
    """Training and validation data."""
    training: Training
    """Optimizer, learning rate schedule and length of training."""
    evaluation: Evaluation = Evaluation()
    """Evaluation on the validation data."""
    early_stopping: EarlyStopping | None = None
    """Ends training when a metric stops improving."""
    checkpoint: Checkpointing = Checkpointing()
    """How often checkpoints are committed, and how many are kept."""
    storage: Storage
    """Where the job's checkpoints, artifact and logs are stored."""
    tracking: Tracking | None = None
    """Experiment tracker that also receives the job's metrics, for comparison with other jobs."""
    compute: Compute = Compute()
    """The machines that the job runs on."""
    failure_policy: FailurePolicy = FailurePolicy()
    """How failed attempts are retried, and when the job fails."""
    preflight: bool | None = None
    """Check storage, data, tokenizer and model on CPUs before the first attempt, and fail the job if they have a
    mistake; defaults to the operator's setting. Ignored by `pretune run`."""
    suspend: bool = False
    """Commit a checkpoint and release all resources; set to false to resume from that checkpoint."""
    retry: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Increase this number to restart a failed job from its last checkpoint, with fresh retry budgets."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Time in seconds that all attempts together may hold machines; time in a queue does not count."""
    ttl_seconds_after_finished: Seconds | None = None
    """Time in seconds after which the RayJobs of a finished job are deleted, with all that belongs to them; the job
    itself and its artifact are kept."""

    mutable: ClassVar[frozenset[str]] = frozenset(
        {
            "compute",
            "failure_policy",
            "tracking",
            "preflight",
            "suspend",
            "retry",
            "active_deadline_seconds",
            "ttl_seconds_after_finished",
        }
    )
    """Python names of the fields that may change once the job exists; they take effect with the next attempt."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="evaluation",
            message="baseline needs data.validation to evaluate on",
            cel="!self.evaluation.baseline || has(self.data.validation)",
            holds=lambda self: not self.evaluation.baseline or self.data.validation is not None,
        ),
        Rule(
            field="tokenizer",
            message="adapt extends the tokenizer of model.from; for a new model, use train or from",
            cel="!has(self.tokenizer) || !has(self.tokenizer.adapt) || !has(self.model.architecture)",
            holds=lambda self: (
                self.tokenizer is None or self.tokenizer.adapt is None or self.model.architecture is None
            ),
        ),
        Rule(
            field="evaluation",
            message="slices needs data.validation or data.test to evaluate on",
            cel="!has(self.evaluation.slices) || self.evaluation.slices.size() == 0"
            " || has(self.data.validation) || has(self.data.test)",
            holds=lambda self: (
                not self.evaluation.slices or self.data.validation is not None or self.data.test is not None
            ),
        ),
        Rule(
            field="earlyStopping",
            message="needs data.validation to evaluate on",
            cel="!has(self.earlyStopping) || has(self.data.validation)",
            holds=lambda self: self.early_stopping is None or self.data.validation is not None,
        ),
        Rule(
            field="earlyStopping",
            message="needs evaluation.everySteps, because it acts only after an evaluation",
            cel="!has(self.earlyStopping) || has(self.evaluation.everySteps)",
            holds=lambda self: self.early_stopping is None or self.evaluation.every_steps is not None,
        ),
        Rule(
            field="earlyStopping",
            message="metric must be one of evaluation.metrics",
            cel="!has(self.earlyStopping) || !has(self.evaluation.metrics)"
            " || self.earlyStopping.metric in self.evaluation.metrics",
            holds=lambda self: (
                self.early_stopping is None
                or self.evaluation.metrics is None
                or self.early_stopping.metric in self.evaluation.metrics
            ),
        ),
    )

    @property
    @abstractmethod
    def learn(self) -> Objective | Task:
        """What is learnt: a PretrainJob's objective, a FinetuneJob's task."""

    @property
    def stage(self) -> str:
        """The objective's or task's YAML name."""
        return self.learn.kind

    def parents(self) -> list[From]:
        """Every existing model that the job refers to: weights first, then tokenizer."""
        found = [self.model.from_, self.tokenizer.from_ if self.tokenizer else None]
        return [parent for parent in found if parent is not None]

    def parent_jobs(self) -> list[str]:
        """KIND/NAME of every job that it refers to, each once, in the order of `parents`."""
        return list(dict.fromkeys(parent.job for parent in self.parents() if parent.job is not None))


def _rules_on_input(part: str, learns: type[OneOf]) -> tuple[Rule, ...]:
    """What text and images need; `part` of the spec says which of the alternatives in `learns` is set."""
    alone = [name for name in map(learns.alias, learns.alternatives()) if name in IMAGES_ALONE]
    images = f"({' || '.join(f'has(self.{part}.{name})' for name in alone)})"
    return (
        Rule(
            message="a model from scratch needs a tokenizer; set tokenizer.train or tokenizer.from",
            cel=f"!has(self.model.architecture) || has(self.tokenizer) || {images}",
            holds=lambda self: self.model.architecture is None or self.tokenizer or not reads_text(self.learn),
        ),
        Rule(
            field="tokenizer",
            message="images have no tokens; remove it",
            cel=f"!has(self.tokenizer) || !{images}",
            holds=lambda self: self.tokenizer is None or reads_text(self.learn),
        ),
        Rule(
            field="training",
            message="images have no tokens; set examplesPerStep",
            cel=f"has(self.training.examplesPerStep) || !{images}",
            holds=lambda self: self.training.examples_per_step is not None or reads_text(self.learn),
        ),
        Rule(
            field="training",
            message="audio has no tokens; set examplesPerStep",
            cel=f"has(self.training.examplesPerStep) || !has(self.{part}.speechRecognition)",
            holds=lambda self: self.training.examples_per_step is not None or self.learn.speech_recognition is None,
        ),
    )


class PretrainJobSpec(JobSpec):
    """Train a new model, or an existing one on a new domain."""

    objective: Objective
    """The training objective."""

    rules: ClassVar[tuple[Rule, ...]] = (*_rules_on_input("objective", Objective), *JobSpec.rules)

    @property
    def learn(self) -> Objective:
        """The objective."""
        return self.objective


_ASKS: Final = "(has(self.task.sequenceClassification) && has(self.task.sequenceClassification.inContext))"


class FinetuneJobSpec(JobSpec):
    """Train an existing or new model on a task."""

    task: Task
    """The task to train for."""
    method: Method = Method(full=Full())
    """Which weights are trained, and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *_rules_on_input("task", Task),
        *JobSpec.rules,
        Rule(
            field="evaluation",
            message="inContext configures the baseline; set baseline: true",
            cel=f"!{_ASKS} || self.evaluation.baseline",
            holds=lambda self: in_context_of(self.task) is None or self.evaluation.baseline,
        ),
        Rule(
            field="model",
            message="inContext needs a pre-trained language model; set from",
            cel=f"!{_ASKS} || has(self.model.from)",
            holds=lambda self: in_context_of(self.task) is None or self.model.from_ is not None,
        ),
    )

    @property
    def learn(self) -> Task:
        """The task."""
        return self.task


class Metadata(Spec):
    """The fields of Kubernetes' object metadata that a job's file can set."""

    name: JobName
    """Name of the job, unique among the jobs of its kind in its namespace."""
    namespace: JobName | None = None
    """Namespace of the job; defaults to kubectl's current namespace, and to `local` for `pretune run`."""
    labels: dict[str, str] = {}
    """Labels of the resource."""
    annotations: dict[str, str] = {}
    """Annotations of the resource."""


class PretrainJob(Spec):
    """Pre-trains a language, vision or speech model, from scratch or from an existing model."""

    api_version: Literal["pretune.dev/v1alpha1"] = API_VERSION
    """Version of the API."""
    kind: Literal["PretrainJob"] = "PretrainJob"
    """PretrainJob."""
    metadata: Metadata
    """Name and namespace."""
    spec: PretrainJobSpec
    """Desired state of the job."""
    status: Status | None = None
    """Observed state of the job, written by the operator."""


class FinetuneJob(Spec):
    """Fine-tunes a model on a task."""

    api_version: Literal["pretune.dev/v1alpha1"] = API_VERSION
    """Version of the API."""
    kind: Literal["FinetuneJob"] = "FinetuneJob"
    """FinetuneJob."""
    metadata: Metadata
    """Name and namespace."""
    spec: FinetuneJobSpec
    """Desired state of the job."""
    status: Status | None = None
    """Observed state of the job, written by the operator."""


Job = Annotated[PretrainJob | FinetuneJob, Field(discriminator="kind")]
"""A job of either kind."""

JobModel = type[PretrainJob] | type[FinetuneJob]
"""The model of a kind."""
