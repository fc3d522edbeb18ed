"""What a checkpoint says beside its tensors, and what a run says of itself; both are versioned."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from pretune_api.base import Spec
from pretune_api.units import Digest

STATE_NAME = "state.json"
INDEX_NAME = "index.json"

Count = Annotated[int, Field(ge=0)]


class Cursor(Spec):
    """A place in the endless order of the data's packs; exact at any number of ranks."""

    epoch: Count = 0
    """Passes over the data."""
    window: Count = 0
    """Window of the epoch."""
    row: Count = 0
    """Row of the window."""


class CheckpointState(Spec):
    """Everything but tensors that training resumes from."""

    version: Literal[1] = 1
    """Version of this format."""
    step: Count
    """Optimizer steps done."""
    cursor: Cursor
    """Where the next step's data begins."""
    tokens_total: Count
    """Tokens trained on so far."""
    micro_batch_rows: Annotated[int, Field(ge=1)]
    """Rows a rank computes at once, as the memory probe found."""
    evaluated_step: Count = 0
    """Step of the last evaluation."""
    baseline: dict[str, float] = {}
    """Figures of the evaluation before the first step that are finite."""
    metrics: dict[str, float] = {}
    """What the last evaluation found, by name."""
    best_step: Count | None = None
    """Step of the best evaluation so far; its checkpoint is kept."""
    best_value: float | None = None
    """The watched metric at `best_step`."""
    evaluations_without_improvement: Count = 0
    """Evaluations since `best_step`."""
    skipped_steps: Count = 0
    """Steps left out by the policy on instability."""
    loss_mean: float | None = None
    """Running mean of the loss, which the policy on spikes compares with."""
    data_digest: str
    """Names the data and how it was tokenized."""
    model_digest: str
    """Names the model that training started from."""
    ranks: Annotated[int, Field(ge=1)]
    """Ranks that wrote the checkpoint."""
    training_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """Wall time spent training, over all runs."""


class TensorEntry(Spec):
    """One tensor of a checkpoint."""

    dtype: Annotated[str, Field(min_length=2, max_length=16)]
    """Type of the elements, in safetensors' words: F32, BF16."""
    shape: list[Count]
    """The whole tensor's shape."""
    shards: Annotated[int, Field(ge=1)]
    """Number of parts its first dimension is cut into, each of ceil(rows / shards) rows while there are any."""


class TensorIndex(Spec):
    """All tensors of a checkpoint. Part k of each lies in shard k, whose safetensors header says where."""

    version: Literal[1] = 1
    """Version of this format."""
    tensors: dict[str, TensorEntry]
    """Tensors, by name."""


class Origin(Spec):
    """The commit that a run starts from."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Folder of the checkpoint, below the job's."""
    digest: Digest
    """Digest of its manifest."""


class RunRecord(Spec):
    """A run's claim to its ordinal: runs/<ordinal>.json."""

    version: Literal[1] = 1
    """Version of this format."""
    ordinal: Annotated[int, Field(ge=1)]
    """The run's place in the job's order of runs: of two, the higher one is the newer."""
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Tells two runs apart that claimed one ordinal in a store that cannot prevent it."""
    host: Annotated[str, Field(max_length=255)]
    """Name of the machine or pod of rank 0."""
    time: AwareDatetime
    """When it was claimed."""
    origin: Origin | None = None
    """Checkpoint that the run starts from, fixed for it; None from the beginning."""
