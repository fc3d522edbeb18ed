"""How well queries find their documents, in the pool that the validation data is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.ranking import BEST, CollectingMetric, Numbers, Vectors, compared, distinct, wrong_ahead

_RANKED: Final = 10
"""How far down a list MRR looks."""


@dataclass(frozen=True)
class Searched:
    """A query and its documents, as a model sees them."""

    vectors: Vectors
    """Unit vectors of the query, of its document, and of any hard negatives [2 + negatives, width]."""
    names: tuple[int, ...]
    """Names each text by its content."""
    scale: float
    """What similarities are multiplied by: one over the temperature."""


class TextRetrieval(CollectingMetric[Searched]):
    """Loss, recall@k and mean reciprocal rank, over all documents.

    Equal documents are one document, and equal queries one query, which any of its documents answers. All vectors are
    held in memory, 4 bytes a dimension, and compared with each other: evaluation.maxBatches bounds it.
    """

    of_texts: ClassVar[Mapping[str, bool]] = {"loss": False}
    """Names of the figures where each text is its own document, which it always finds, and whether larger is better.
    The loss depends on the pool's size."""
    known = {
        **of_texts,
        **{f"recallAt{best}": True for best in BEST},
        f"mrrAt{_RANKED}": True,
    }
    """Names of all figures."""

    def __init__(self, *, searches: bool) -> None:
        super().__init__()
        self.names = self.known if searches else self.of_texts
        """The figures that are reported."""

    def result(self) -> dict[str, float]:
        """Shares from 0 to 1; loss in nats."""
        if not self.outcomes:
            return dict.fromkeys(self.names, math.nan)
        found = sorted(self.outcomes, key=lambda each: each.names)
        first, of_query = distinct([each.names[0] for each in found])
        queries = np.stack([found[number].vectors[0] for number in first])
        pool, of_pool = _documents(found)
        parts = list(_judged(queries, pool, of_query, of_pool, found[0].scale))
        ahead, losses = (np.concatenate(side) for side in zip(*parts, strict=True))
        figures = {"loss": math.fsum(losses) / len(losses)}
        figures |= {f"recallAt{best}": float((ahead < best).mean()) for best in BEST}
        figures[f"mrrAt{_RANKED}"] = float(np.where(ahead < _RANKED, 1.0 / (1 + ahead), 0.0).mean())
        return {name: figures[name] for name in self.names}


def _documents(found: Sequence[Searched]) -> tuple[Vectors, Numbers]:
    """Each document once, negatives too; and the number of each query's own: float32 [m, width], int64 [n]."""
    first, numbers = distinct([name for each in found for name in each.names[1:]])
    vectors = np.concatenate([each.vectors[1:] for each in found])
    starts = np.cumsum([0, *(len(each.names) - 1 for each in found)])[:-1]
    return vectors[first], numbers[starts]


def _judged(
    queries: Vectors, pool: Vectors, of_query: Numbers, of_pool: Numbers, scale: float
) -> Iterator[tuple[Numbers, NDArray[np.float64]]]:
    """Of the next queries: how many wrong documents stand ahead, and the losses of their right ones, each among the
    wrong ones."""
    for scores, right in compared(queries, pool, of_query, of_pool):
        logits = scale * scores.astype(np.float64)
        wrong = np.logaddexp.reduce(np.where(right, -np.inf, logits), axis=1)
        rows, places = right.nonzero()
        own = logits[rows, places]
        yield wrong_ahead(scores, right), np.logaddexp(wrong[rows], own) - own
