"""The status of a job, which the operator writes."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from pretune_api.base import Spec
from pretune_api.units import URI, Digest

State = Literal["Pending", "Waiting", "Queued", "Starting", "Running", "Suspended", "Succeeded", "Failed"]

_Text = Annotated[str, Field(max_length=4096)]
_Short = Annotated[str, Field(max_length=256)]
_Image = Annotated[str, Field(max_length=1024)]
_BY_TYPE: Final[dict[str, JsonValue]] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
"""Makes the API server merge a list by its items' `type`, as it does with every resource's conditions."""
_Count = Annotated[int, Field(ge=0)]
MOST_METRICS: Final = 64
"""Metrics in a status at most."""
MOST_LOG_BYTES: Final = 2048
"""UTF-8 bytes of a log in a status at most."""
MOST_FINDINGS: Final = 64
"""Findings in a status at most."""


class Condition(Spec):
    """A Kubernetes condition."""

    type: Annotated[str, Field(max_length=64)]
    """Type of the condition: Accepted, InputsResolved, PreflightPassed, QuotaReserved, Running, Suspended, Succeeded,
    Failed or Finished."""
    status: Literal["True", "False", "Unknown"]
    """Status of the condition."""
    reason: Annotated[str, Field(max_length=128, pattern=r"^[A-Z][A-Za-z]*$")]
    """Reason for the status, in one CamelCase word."""
    message: _Text
    """Reason for the status, in a sentence."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: _Count = 0
    """Generation of the spec that the condition is based on."""


class Artifact(Spec):
    """A finished model, committed to the storage."""

    uri: URI
    """Folder of the artifact."""
    digest: Digest
    """SHA-256 of its manifest."""


class ResolvedInput(Spec):
    """A parent as it was when the job first needed it; later changes to the parent have no effect."""

    job: Annotated[str, Field(max_length=200)]
    """KIND/NAME of the parent."""
    uri: URI
    """Folder of the artifact."""
    digest: Digest
    """SHA-256 of the artifact's manifest."""


class Progress(Spec):
    """Progress of the training."""

    step: _Count
    """Optimizer steps completed."""
    total: _Count
    """Optimizer steps planned."""
    percent: Annotated[int, Field(ge=0, le=100)]
    """Percentage of the steps that are completed."""
    eta_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """Seconds until the last step, at the current speed."""
    loss: float | None = None
    """Training loss of the last reported step."""
    tokens_per_second: Annotated[float, Field(ge=0.0)] | None = None
    """Tokens trained on per second, across all ranks."""
    checkpoint_step: _Count | None = None
    """Step of the last committed checkpoint."""


class Finding(Spec):
    """The result of one check of a preflight."""

    check: _Short
    """Name of the check: config, storage, spec, source, parent, tokenizer, task, model, rows, batch or memory; or
    preflight, if the preflight itself was inconclusive."""
    result: Literal["Ok", "Wrong", "NotKnown"]
    """Result of the check."""
    place: _Text
    """Field or row that was checked."""
    sentence: _Text
    """What was found and, if the result is Wrong, what would be right."""
    cause: _Short | None = None
    """Cause with which an attempt would fail."""


class Attempt(Spec):
    """One RayJob created for the job."""

    number: Annotated[int, Field(ge=1)]
    """Ordinal of the attempt, from 1."""
    runs: _Count = 0
    """Number of runs in this attempt: starts of the group of ranks."""
    last_run: _Count = 0
    """Ordinal of the last run in the storage, of this attempt or an earlier one."""
    ray_job: _Short
    """Name of the RayJob."""
    ray_cluster: _Short | None = None
    """Name of the most recent RayCluster of the attempt."""
    image: _Image | None = None
    """Trainer image of the attempt; absent before its first run."""
    cause: _Short | None = None
    """Cause of the failure, in one word."""
    message: _Text | None = None
    """Cause of the failure, in a sentence."""
    log: Annotated[str, Field(max_length=MOST_LOG_BYTES)] | None = None
    """Last lines of the log of the process that failed first; `pretune logs` shows the whole log."""
    gpus: _Count = 0
    """Number of GPUs that the attempt holds while it is active."""
    active_since: datetime | None = None
    """Time up to which activeSeconds is counted; absent while the attempt's pods hold no machines."""
    active_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Time in seconds that the attempt's pods held machines, up to activeSince."""
    start_time: datetime | None = None
    """When the RayJob was created."""
    completion_time: datetime | None = None
    """When the attempt ended."""
    from_step: _Count | None = None
    """Step of the checkpoint that the attempt started from."""


class Status(Spec):
    """The observed state of the job."""

    observed_generation: _Count = 0
    """Generation of the spec that this status is based on."""
    state: State = "Pending"
    """Summary of the conditions in one word, for people."""
    stage: _Short | None = None
    """The job's objective or task, for people."""
    start_time: datetime | None = None
    """When the first attempt was created."""
    completion_time: datetime | None = None
    """When the job finished."""
    preflight: Annotated[list[Finding], Field(max_length=MOST_FINDINGS)] = []
    """Findings of the most recent preflight."""
    preflight_count: _Count = 0
    """Number of preflights created so far."""
    attempt_count: _Count = 0
    """Number of attempts created so far."""
    attempts: Annotated[list[Attempt], Field(max_length=10)] = []
    """The most recent attempts."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_BY_TYPE)] = []
    """Conditions of the job."""
    progress: Progress | None = None
    """Progress of the training."""
    gpu_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Time in seconds that all attempts held GPUs, times the number of GPUs."""
    active_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Time in seconds that all attempts together held machines."""
    metrics: Annotated[dict[str, float], Field(max_length=MOST_METRICS)] = {}
    """Metrics of the last evaluation, without those of single classes if there are too many."""
    inputs: Annotated[list[ResolvedInput], Field(max_length=4)] = []
    """Resolved parents."""
    failures: Annotated[dict[str, _Count], Field(max_length=32)] = {}
    """Number of failed attempts by cause, since spec.retry was last raised."""
    observed_retry: _Count = 0
    """Value of spec.retry that was last acted upon."""
    image: _Image | None = None
    """Trainer image of further attempts if spec.compute.image is not set: the one that the operator was configured with
    when the job began to train, or when spec.retry was last raised."""
    next_attempt_time: datetime | None = None
    """When the next attempt starts after a failed one."""
    artifact: Artifact | None = None
    """The finished model."""
