"""What the operator says of a job."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from pretune_api.base import Spec
from pretune_api.units import URI, Digest

State = Literal["Pending", "Waiting", "Queued", "Starting", "Running", "Suspended", "Succeeded", "Failed"]

_Text = Annotated[str, Field(max_length=4096)]
_Short = Annotated[str, Field(max_length=256)]
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
    """What it is about: Accepted, InputsResolved, PreflightPassed, QuotaReserved, Running, Suspended, Succeeded,
    Failed, Finished."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=128, pattern=r"^[A-Z][A-Za-z]*$")]
    """Why, in one CamelCase word."""
    message: _Text
    """Why, in a sentence."""
    last_transition_time: datetime
    """When status last changed."""
    observed_generation: _Count = 0
    """Generation of the spec that was judged."""


class Artifact(Spec):
    """A finished model, committed to storage."""

    uri: URI
    """Folder of the artifact."""
    digest: Digest
    """SHA-256 of its manifest."""


class ResolvedInput(Spec):
    """A parent as it was when the job first needed it; later changes of it change nothing."""

    job: Annotated[str, Field(max_length=200)]
    """KIND/NAME of the parent."""
    uri: URI
    """Folder of its artifact."""
    digest: Digest
    """SHA-256 of the artifact's manifest."""


class Progress(Spec):
    """How far training is."""

    step: _Count
    """Optimizer steps done."""
    total: _Count
    """Optimizer steps planned."""
    percent: Annotated[int, Field(ge=0, le=100)]
    """Share of the steps done."""
    eta_seconds: Annotated[float, Field(ge=0.0)] | None = None
    """Seconds to the last step, at the present speed."""
    loss: float | None = None
    """Training loss of the last reported step."""
    tokens_per_second: Annotated[float, Field(ge=0.0)] | None = None
    """Tokens trained on per second, over all ranks."""
    checkpoint_step: _Count | None = None
    """Step of the last committed checkpoint."""


class Finding(Spec):
    """What came of one check before machines were taken."""

    check: _Short
    """The check, in a word: config, storage, spec, source, parent, tokenizer, task, model, rows, batch or memory; or
    preflight, where that itself has come to nothing."""
    result: Literal["Ok", "Wrong", "NotKnown"]
    """What came of it."""
    place: _Text
    """The field, or the row, that it is about."""
    sentence: _Text
    """What was found; where it is Wrong, what would be right."""
    cause: _Short | None = None
    """What an attempt would fail with."""


class Attempt(Spec):
    """One RayJob made for the job."""

    number: Annotated[int, Field(ge=1)]
    """Ordinal of the attempt, from 1."""
    runs: _Count = 0
    """Starts of the group of ranks that it has seen."""
    last_run: _Count = 0
    """Ordinal in storage of the last run, of this attempt or an earlier one."""
    ray_job: _Short
    """Name of the RayJob."""
    ray_cluster: _Short | None = None
    """Name of the RayCluster that ran last."""
    cause: _Short | None = None
    """Why it failed."""
    message: _Text | None = None
    """Why it failed, in a sentence."""
    log: Annotated[str, Field(max_length=MOST_LOG_BYTES)] | None = None
    """The last lines that the process which failed first has logged; `pretune logs` shows all."""
    gpus: _Count = 0
    """GPUs that it holds while it is active."""
    active_since: datetime | None = None
    """Up to when the time that its pods hold machines has been counted; absent while they hold none."""
    active_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Time that its pods held machines, up to activeSince."""
    start_time: datetime | None = None
    """When the RayJob was made."""
    completion_time: datetime | None = None
    """When it ended."""
    from_step: _Count | None = None
    """Step of the checkpoint that it started from."""


class Status(Spec):
    """What is true of the job."""

    observed_generation: _Count = 0
    """Generation of the spec that this status is about."""
    state: State = "Pending"
    """The conditions in one word, for people."""
    stage: _Short | None = None
    """The objective or task, for people."""
    start_time: datetime | None = None
    """When the first attempt was made."""
    completion_time: datetime | None = None
    """When the job finished."""
    preflight: Annotated[list[Finding], Field(max_length=MOST_FINDINGS)] = []
    """What the last preflight has found."""
    preflight_count: _Count = 0
    """Preflights made so far."""
    attempt_count: _Count = 0
    """Attempts made so far."""
    attempts: Annotated[list[Attempt], Field(max_length=10)] = []
    """The last attempts."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_BY_TYPE)] = []
    """What is true, by type."""
    progress: Progress | None = None
    """How far training is."""
    gpu_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """GPU time held by all attempts."""
    active_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Time that all attempts together held machines."""
    metrics: Annotated[dict[str, float], Field(max_length=MOST_METRICS)] = {}
    """Metrics of the last evaluation; without those of single classes where they are too many."""
    inputs: Annotated[list[ResolvedInput], Field(max_length=4)] = []
    """Parents, resolved."""
    failures: Annotated[dict[str, _Count], Field(max_length=32)] = {}
    """Failed attempts by cause, since `retry` was last raised."""
    observed_retry: _Count = 0
    """Value of spec.retry that has been obeyed."""
    next_attempt_time: datetime | None = None
    """When a failed attempt is followed by another."""
    artifact: Artifact | None = None
    """The finished model."""
