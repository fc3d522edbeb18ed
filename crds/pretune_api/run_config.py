"""The run config: what the operator, or `pretune run`, tells the trainer. Everything in it is resolved."""

import json
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import OneOf, Spec
from pretune_api.data import Data
from pretune_api.methods import Method
from pretune_api.model import Architecture, Hub, TokenizerAdaptation, TokenizerTraining
from pretune_api.objectives import Objective
from pretune_api.storage import Storage
from pretune_api.tasks import Task
from pretune_api.tracking import Tracking
from pretune_api.training import Checkpointing, EarlyStopping, Evaluation, Training
from pretune_api.units import URI, Digest, JobName


class JobRef(Spec):
    """Which job this is."""

    namespace: JobName
    """Namespace of the job."""
    kind: Literal["PretrainJob", "FinetuneJob"]
    """Kind of the job."""
    name: JobName
    """Name of the job."""
    uid: Annotated[str, Field(min_length=8, max_length=64)]
    """UID of the resource; for `pretune run`, a hash of the immutable spec stands for it."""

    @property
    def folder(self) -> str:
        """The job's folder below `storage.uri`."""
        return f"{self.namespace}/{self.kind.lower()}-{self.name}-{self.uid[:8]}"


class Folder(Spec):
    """A model that lies in a store, fixed by its digest."""

    uri: URI
    """Folder of the model."""
    digest: Digest | None = None
    """Digest that it must have; None where `uri` was given without one and nothing has verified it yet."""
    job: Annotated[str, Field(max_length=200)] | None = None
    """KIND/NAME of the job that made it, for the model card."""


class Parent(OneOf):
    """An existing model, resolved."""

    folder: Folder | None = None
    """A folder in a store."""
    hub: Hub | None = None
    """A pinned revision on a hub."""


class RunModel(OneOf):
    """What is trained, resolved."""

    architecture: Architecture | None = None
    """Random weights."""
    parent: Parent | None = None
    """Existing weights."""


class RunAdaptation(TokenizerAdaptation):
    """Tokens added to a tokenizer, resolved."""

    parent: Parent
    """The model whose tokenizer it is."""


class RunTokenizer(OneOf):
    """How text becomes tokens, resolved."""

    train: TokenizerTraining | None = None
    """A tokenizer trained on the job's data."""
    adapt: RunAdaptation | None = None
    """The tokenizer of an existing model, with tokens added."""
    parent: Parent | None = None
    """The tokenizer of an existing model."""


class RunConfig(Spec):
    """One attempt's orders. A trainer refuses a version that it does not know."""

    version: Literal[1] = 1
    """Version of this format."""
    job: JobRef
    """Which job this is."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Which attempt at it this is; its logs lie under that number."""
    objective: Objective | None = None
    """What a PretrainJob learns."""
    task: Task | None = None
    """What a FinetuneJob learns."""
    method: Method
    """How the weights change; full for a PretrainJob."""
    model: RunModel
    """What is trained."""
    tokenizer: RunTokenizer | None = None
    """How text becomes tokens; None where no text is read."""
    data: Data
    """Training and validation data."""
    training: Training
    """Optimizer, schedule and length."""
    evaluation: Evaluation
    """Evaluations."""
    early_stopping: EarlyStopping | None = None
    """When to end early."""
    checkpoint: Checkpointing
    """Checkpoints."""
    storage: Storage
    """Root of the storage; the job's folder is below it."""
    tracking: Tracking | None = None
    """Where the course of the job is told beside its storage."""
    ranks: Annotated[int, Field(ge=1, le=100_000)]
    """Number of ranks."""
    device: Literal["cpu", "cuda"]
    """What each rank computes on."""

    FILE_NAME: ClassVar[str] = "run.json"

    def told(self, indent: int | None = None) -> str:
        """As JSON for a trainer. What is at its default goes without saying: a trainer image that a job has pinned may
        be older than the operator, and refuses fields that it does not know."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"version": self.version} | said, indent=indent, ensure_ascii=False)

    @property
    def stage(self) -> str:
        """The objective's or task's YAML name."""
        return self.learn.kind

    @property
    def part(self) -> Literal["objective", "task"]:
        """The part of the job's spec that says what is learnt."""
        return "objective" if self.task is None else "task"

    @property
    def learn(self) -> Objective | Task:
        """What is learnt: the objective of a PretrainJob, the task of a FinetuneJob."""
        learn = self.objective or self.task
        assert learn is not None, "plan() sets one of objective and task"
        return learn
