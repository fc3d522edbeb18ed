"""Rows of all ranks, where the loss of one depends on all others."""

import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_gather_single_autograd


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, in order of ranks: [n, …] -> [ranks * n, …]. Collective.

    Gradients go back to the rank that a row came from, summed over all ranks' losses.
    """
    if not are_several():
        return rows
    every = all_gather_single_autograd(rows, 0, _whole())
    assert isinstance(every, Tensor)
    return every


def place_of(rows: Tensor) -> int:
    """Where this rank's rows begin among those of all ranks."""
    return dist.get_rank() * len(rows) if are_several() else 0


def _whole() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None
    return group


def are_several() -> bool:
    """Whether there are other ranks to wait for."""
    return dist.is_initialized() and dist.get_world_size() > 1
