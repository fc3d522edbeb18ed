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
    """What is trained."""
    tokenizer: Tokenizer | None = None
    """How text becomes tokens; inherited from model.from when absent."""
    data: Data
    """Training and validation data."""
    training: Training
    """Optimizer, schedule and length."""
    evaluation: Evaluation = Evaluation()
    """Evaluations on the validation data."""
    early_stopping: EarlyStopping | None = None
    """End training when a metric stops improving."""
    checkpoint: Checkpointing = Checkpointing()
    """Checkpoints."""
    storage: Storage
    """Where everything that the job makes is kept."""
    tracking: Tracking | None = None
    """Where its course is told beside its storage, for comparison with others."""
    compute: Compute = Compute()
    """On what the job runs."""
    failure_policy: FailurePolicy = FailurePolicy()
    """What happens when an attempt fails."""
    preflight: bool | None = None
    """Try storage, data, tokenizer and model on CPUs before machines are taken, and fail where an attempt would for a
    mistake in them; when absent, as the cluster's administrator has set up. Ignored by `pretune run`."""
    suspend: bool = False
    """Commit a checkpoint and give back all machines; false again resumes from it."""
    retry: Annotated[int, Field(ge=0, le=1_000)] = 0
    """Raise it to start a Failed job again, from its last checkpoint and with fresh budgets."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Time that all attempts together may hold machines, in seconds; waiting for quota does not count."""
    ttl_seconds_after_finished: Seconds | None = None
    """Time after which the RayJobs of a finished job are removed with all that they hold, in seconds; the job itself,
    its run configs and its artifact stay."""

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
            message="baseline needs data.validation to judge the model on",
            cel="!self.evaluation.baseline || has(self.data.validation)",
            holds=lambda self: not self.evaluation.baseline or self.data.validation is not None,
        ),
        Rule(
            field="tokenizer",
            message="adapt extends the tokenizer of model.from; a new model takes train or from",
            cel="!has(self.tokenizer) || !has(self.tokenizer.adapt) || !has(self.model.architecture)",
            holds=lambda self: (
                self.tokenizer is None or self.tokenizer.adapt is None or self.model.architecture is None
            ),
        ),
        Rule(
            field="evaluation",
            message="slices needs data.validation to judge the model on",
            cel="!has(self.evaluation.slices) || self.evaluation.slices.size() == 0 || has(self.data.validation)",
            holds=lambda self: not self.evaluation.slices or self.data.validation is not None,
        ),
        Rule(
            field="earlyStopping",
            message="needs data.validation to judge the model on",
            cel="!has(self.earlyStopping) || has(self.data.validation)",
            holds=lambda self: self.early_stopping is None or self.data.validation is not None,
        ),
        Rule(
            field="earlyStopping",
            message="needs evaluation.everySteps, else it is never asked",
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
            message="images have no tokens; leave it out",
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
    """Learn from unlabelled data: a new model, or an existing one on a new domain."""

    objective: Objective
    """What is learnt."""

    rules: ClassVar[tuple[Rule, ...]] = (*_rules_on_input("objective", Objective), *JobSpec.rules)

    @property
    def learn(self) -> Objective:
        """The objective."""
        return self.objective

    @property
    def stage(self) -> str:
        """The objective's YAML name."""
        return self.objective.kind


_ASKS: Final = "(has(self.task.sequenceClassification) && has(self.task.sequenceClassification.inContext))"


class FinetuneJobSpec(JobSpec):
    """Learn a task from examples."""

    task: Task
    """What is learnt."""
    method: Method = Method(full=Full())
    """How the weights change."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *_rules_on_input("task", Task),
        *JobSpec.rules,
        Rule(
            field="evaluation",
            message="inContext says how the baseline is found; set baseline: true",
            cel=f"!{_ASKS} || self.evaluation.baseline",
            holds=lambda self: in_context_of(self.task) is None or self.evaluation.baseline,
        ),
        Rule(
            field="model",
            message="inContext asks a model that knows a language; set from",
            cel=f"!{_ASKS} || has(self.model.from)",
            holds=lambda self: in_context_of(self.task) is None or self.model.from_ is not None,
        ),
    )

    @property
    def learn(self) -> Task:
        """The task."""
        return self.task

    @property
    def stage(self) -> str:
        """The task's YAML name."""
        return self.task.kind


class Metadata(Spec):
    """The part of Kubernetes' object metadata that a job's file can set."""

    name: JobName
    """Name of the job, unique in its namespace and kind."""
    namespace: JobName | None = None
    """Namespace; kubectl's current one when absent, `local` for `pretune run`."""
    labels: dict[str, str] = {}
    """Labels of the resource."""
    annotations: dict[str, str] = {}
    """Annotations of the resource."""


class PretrainJob(Spec):
    """Pre-trains a language, vision or speech model, from scratch or on from an existing one."""

    api_version: Literal["pretune.dev/v1alpha1"] = API_VERSION
    """Version of the API."""
    kind: Literal["PretrainJob"] = "PretrainJob"
    """PretrainJob."""
    metadata: Metadata
    """Name and namespace."""
    spec: PretrainJobSpec
    """What is wanted."""
    status: Status | None = None
    """What is; written by the operator."""


class FinetuneJob(Spec):
    """Fine-tunes a model on a task."""

    api_version: Literal["pretune.dev/v1alpha1"] = API_VERSION
    """Version of the API."""
    kind: Literal["FinetuneJob"] = "FinetuneJob"
    """FinetuneJob."""
    metadata: Metadata
    """Name and namespace."""
    spec: FinetuneJobSpec
    """What is wanted."""
    status: Status | None = None
    """What is; written by the operator."""


Job = Annotated[PretrainJob | FinetuneJob, Field(discriminator="kind")]
