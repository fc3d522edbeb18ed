"""From a job and its resolved inputs to the run config. Pure: the operator and `pretune run` share it."""

from dataclasses import dataclass, field
from typing import Literal

from pretune_api.compute import Compute
from pretune_api.jobs import FinetuneJob, Job, PretrainJob
from pretune_api.methods import Full, Method
from pretune_api.model import From, Model, Tokenizer
from pretune_api.run_config import Folder, JobRef, Parent, RunAdaptation, RunConfig, RunModel, RunTokenizer
from pretune_api.tasks import reads_text


class UnresolvedInputError(Exception):
    """A job was planned before the artifact of its parent was known."""


@dataclass(frozen=True)
class Inputs:
    """What a run config needs beside the job's spec."""

    uid: str
    """UID of the job's resource."""
    namespace: str
    """Namespace of the job's resource."""
    ranks: int
    """Number of ranks."""
    device: Literal["cpu", "cuda"]
    """What each rank computes on."""
    artifacts: dict[str, Folder] = field(default_factory=dict)
    """Artifacts of succeeded jobs, by KIND/NAME."""
    attempt: int = 1
    """Which attempt at the job it is."""


def plan(job: Job, inputs: Inputs) -> RunConfig:
    """The run config of `job`.

    Raises:
        UnresolvedInputError: a job that it refers to has no artifact in `inputs` yet.
    """
    spec = job.spec
    return RunConfig(
        job=JobRef(namespace=inputs.namespace, kind=job.kind, name=job.metadata.name, uid=inputs.uid),
        attempt=inputs.attempt,
        objective=job.spec.objective if isinstance(job, PretrainJob) else None,
        task=job.spec.task if isinstance(job, FinetuneJob) else None,
        method=job.spec.method if isinstance(job, FinetuneJob) else Method(full=Full()),
        model=_model(spec.model, inputs),
        tokenizer=_tokenizer(spec.tokenizer, spec.model, inputs) if reads_text(spec.learn) else None,
        data=spec.data,
        training=spec.training,
        evaluation=spec.evaluation,
        early_stopping=spec.early_stopping,
        checkpoint=spec.checkpoint,
        storage=spec.storage,
        tracking=spec.tracking,
        ranks=inputs.ranks,
        device=inputs.device,
    )


def ranks_of(compute: Compute) -> int:
    """Ranks that `compute` asks for: one a GPU, or one a worker where there are none."""
    return compute.workers * max(1, compute.gpus_per_worker)


def _model(model: Model, inputs: Inputs) -> RunModel:
    if model.from_ is None:
        return RunModel(architecture=model.architecture)
    return RunModel(parent=_parent(model.from_, inputs))


def _tokenizer(tokenizer: Tokenizer | None, model: Model, inputs: Inputs) -> RunTokenizer:
    if tokenizer is not None and tokenizer.train is not None:
        return RunTokenizer(train=tokenizer.train)
    if tokenizer is not None and tokenizer.adapt is not None and model.from_ is not None:
        return RunTokenizer(adapt=RunAdaptation(parent=_parent(model.from_, inputs), **tokenizer.adapt.model_dump()))
    source = tokenizer.from_ if tokenizer is not None else model.from_
    assert source is not None, "the model refuses a new architecture without a tokenizer"
    return RunTokenizer(parent=_parent(source, inputs))


def _parent(source: From, inputs: Inputs) -> Parent:
    if source.hub is not None:
        return Parent(hub=source.hub)
    if source.uri is not None:
        return Parent(folder=Folder(uri=source.uri, digest=source.digest))
    job = source.job
    if job not in inputs.artifacts:
        raise UnresolvedInputError(f"{job} has no artifact yet")
    return Parent(folder=inputs.artifacts[job])
