"""Each vector finds its own among those of all ranks: cross-entropy of similarities (van den Oord et al., 2018)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pretune_trainer.model.gather import place_of
from pretune_trainer.model.losses import IGNORED


def unit(vectors: Tensor) -> Tensor:
    """The vectors at length 1, in float32: [..., width]."""
    return F.normalize(vectors.float(), dim=-1)


def own_places(kept: Tensor) -> Tensor:
    """Where each of this rank's rows stands among those of all ranks, IGNORED where it is not kept: int64 [n].

    Args:
        kept: bool [n]; every rank has as many rows.
    """
    own = torch.arange(len(kept), device=kept.device) + place_of(kept)
    return own.masked_fill(~kept, IGNORED)


def matching_loss(vectors: Tensor, pool: Tensor, own: Tensor, hidden: Tensor, scale: Tensor | float) -> Tensor:
    """Summed cross-entropy of finding each vector's own in the pool.

    Args:
        vectors: float32 [n, width].
        pool: float32 [m, width].
        own: int64 [n], places in the pool, `IGNORED` where nothing is learnt.
        hidden: bool [m] or [n, m], what of the pool is not compared with.
        scale: what similarities are multiplied by.

    Returns:
        float32 scalar.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        scores = (scale * vectors @ pool.T).masked_fill(hidden, -torch.inf)
        return F.cross_entropy(scores, own, ignore_index=IGNORED, reduction="sum")
