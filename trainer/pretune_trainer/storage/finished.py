"""What a finished job has left: its artifact, and what that says of itself. Known without torch."""

from dataclasses import dataclass
from typing import Final, Literal

from pretune_api.base import Spec
from pretune_trainer.storage.commit import commits, read_commit, understood
from pretune_trainer.storage.store import Store

FACTS_NAME: Final = "metrics.json"


class Facts(Spec):
    """What an artifact says of itself beside the run config: metrics.json."""

    version: Literal[1] = 1
    """Version of this format."""
    metrics: dict[str, float]
    """Figures of the last evaluation, or of the best one where training ended early."""
    baseline: dict[str, float] = {}
    """Figures of the evaluation before training, where there was one."""
    step: int
    """Step of the weights."""
    tokens: int
    """Tokens trained on."""
    parameters: int
    """Parameters of the model as it was written: what was merged into it is none of them."""
    parent: str
    """Digest of the model that training started from."""
    data: str
    """Digest of the token cache."""


@dataclass(frozen=True)
class Finished:
    """A job's newest artifact."""

    uri: str
    """Its folder."""
    digest: str
    """SHA-256 of its manifest."""
    facts: Facts


def finished(job: Store) -> Finished | None:
    """The newest artifact in a job's folder; None where there is none yet.

    Raises:
        StorageError: the storage cannot be read.
        UserError: another version of Pretune has written it.
    """
    for found in commits(job, "artifact"):
        folder = job.child(found.path)
        facts = understood(Facts, folder.get(FACTS_NAME), f"{folder.uri}/{FACTS_NAME}")
        return Finished(folder.uri, read_commit(folder).digest, facts)
    return None
