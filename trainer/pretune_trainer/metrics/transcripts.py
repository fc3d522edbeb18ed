"""What is written down of speech against what was said: word and character error rates."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.exhibits import Exhibits, Samples
from pretune_trainer.metrics.sequences import edits


@dataclass(frozen=True)
class Transcript:
    """What a model made of a clip."""

    loss: float
    """Summed over the targets, in nats."""
    targets: int
    """Letters or tokens that were wanted."""
    said: str
    """What was said in it."""
    written: str | None
    """What the model wrote; None where nobody looks at it."""


class TranscriptReport(Metric[Transcript]):
    """Edits over the length of what was said, in words and in characters, over all clips together."""

    known = {"loss": False, "wer": False, "cer": False}
    """The loss is the mean over targets."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.targets = 0
        self.counts = np.zeros((2, 2), np.int64)
        """Edits, and how much was said: in words, and in characters."""
        self.samples = Samples()

    def update(self, outcomes: Sequence[Transcript]) -> None:
        """Count the edits."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.targets += sum(outcome.targets for outcome in outcomes)
        for outcome in outcomes:
            if outcome.written is not None:
                written, said = outcome.written.split(), outcome.said.split()
                self.counts += (_counts(written, said), _counts(" ".join(written), " ".join(said)))
                self.samples.add(outcome.said, outcome.written)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.loss += other.loss
        self.targets += other.targets
        self.counts += other.counts
        self.samples.merge(other.samples)

    def result(self) -> dict[str, float]:
        """loss in nats a target, wer and cer as shares, which can exceed 1."""
        words, characters = self.counts.tolist()
        return {"loss": mean(self.loss, self.targets), "wer": mean(*words), "cer": mean(*characters)}

    def exhibits(self) -> Exhibits:
        """Some of what was written, beside what was said."""
        return Exhibits(samples=self.samples.chosen())


def _counts(written: Sequence[Hashable], said: Sequence[Hashable]) -> tuple[int, int]:
    return edits(written, said), len(said)
