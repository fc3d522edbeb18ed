"""What is left of a run that finished its job."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RankResult:
    """How a run ended that finished its job."""

    artifact_uri: str
    """Folder of the artifact."""
    artifact_digest: str
    """SHA-256 of its manifest."""
    metrics: dict[str, float]
    """Figures of the last evaluation, or of the best one where training ended early."""
    step: int
    """Step of the artifact's weights."""
    skipped_because_done: bool = False
    """Whether an earlier run had finished the job already."""
