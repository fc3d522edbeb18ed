"""How well images find their captions, and captions their images, in the pool that the validation data is."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import mean
from pretune_trainer.metrics.ranking import (
    BEST,
    CHUNK,
    CollectingMetric,
    Numbers,
    Vectors,
    compared,
    distinct,
    wrong_ahead,
)


@dataclass(frozen=True)
class Compared:
    """A pair, as a model sees it."""

    image: Vectors
    """Unit vector [width]."""
    text: Vectors
    """Unit vector [width]."""
    image_name: bytes
    """Names the image by its content."""
    text_name: bytes
    """Names the caption by its content."""
    scale: float
    """What similarities are multiplied by: one over the temperature."""
    right: bool | None = None
    """Whether it was given the right label by zero-shot classification; None where it has none."""


class ImageTextRetrieval(CollectingMetric[Compared]):
    """Loss and recall@k over the whole pool, and the accuracy of zero-shot classification.

    Equal captions are one caption, which any of their images answers, and equal images are one image. The pool is held
    in memory, 8 bytes a dimension and pair, and compared with itself: evaluation.maxBatches bounds it.
    """

    of_pairs: ClassVar[Mapping[str, bool]] = {
        "loss": False,
        **{f"imageToTextRecallAt{best}": True for best in BEST},
        **{f"textToImageRecallAt{best}": True for best in BEST},
    }
    """Names of the figures without labels, and whether larger is better. The loss depends on the pool's size."""
    known = {**of_pairs, "zeroShotAccuracy": True}
    """Names of the figures with labels."""

    def __init__(self, *, labelled: bool) -> None:
        super().__init__()
        self.labelled = labelled
        """Whether images are given labels."""

    def result(self) -> dict[str, float]:
        """Shares from 0 to 1; loss in nats."""
        if not self.outcomes:
            return dict.fromkeys(self.known if self.labelled else self.of_pairs, math.nan)
        pairs = sorted(self.outcomes, key=lambda pair: (pair.image_name, pair.text_name))
        images, texts = (np.stack([getattr(pair, side) for pair in pairs]) for side in ("image", "text"))
        figures = {"loss": _loss(images, texts, pairs[0].scale)}
        first_images, of_image = distinct([pair.image_name for pair in pairs])
        first_texts, of_text = distinct([pair.text_name for pair in pairs])
        images, texts = images[first_images], texts[first_texts]
        figures |= _recalls("imageToText", images, texts, of_image, of_text)
        figures |= _recalls("textToImage", texts, images, of_text, of_image)
        return figures | ({"zeroShotAccuracy": self._accuracy()} if self.labelled else {})

    def _accuracy(self) -> float:
        """Not a number where no image has a label."""
        right = [pair.right for pair in self.outcomes if pair.right is not None]
        return mean(sum(right), len(right))


def _recalls(name: str, queries: Vectors, pool: Vectors, of_query: Numbers, of_pool: Numbers) -> dict[str, float]:
    """Share of the queries that have a right answer among the k best; pairs are (of_query[i], of_pool[i])."""
    parts = compared(queries, pool, of_query, of_pool)
    ahead = np.concatenate([wrong_ahead(scores, right) for scores, right in parts])
    return {f"{name}RecallAt{best}": float((ahead < best).mean()) for best in BEST}


def _loss(images: Vectors, texts: Vectors, scale: float) -> float:
    """CLIP's loss over all pairs: mean of both directions."""
    ways = [
        math.fsum(np.concatenate(list(_losses(queries, pool, scale))))
        for queries, pool in ((images, texts), (texts, images))
    ]
    return sum(ways) / 2 / len(images)


def _losses(queries: Vectors, pool: Vectors, scale: float) -> Iterator[NDArray[np.float64]]:
    """Negative log-probability of each query's own answer among all: float64 [n]."""
    for start in range(0, len(queries), CHUNK):
        logits = scale * (queries[start : start + CHUNK] @ pool.T).astype(np.float64)
        own = logits[np.arange(len(logits)), np.arange(start, start + len(logits))]
        yield np.logaddexp.reduce(logits, axis=1) - own
