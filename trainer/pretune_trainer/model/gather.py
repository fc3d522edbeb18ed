"""Rows of all ranks, and sums over them, where the loss of one row depends on all others.

PyTorch has both with gradients, but under names that differ from 2.11 to 2.15, private or deprecated.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, in order of ranks: [n, …] -> [ranks * n, …]. Collective.

    Gradients go back to the rank that a row came from, summed over all ranks' losses.
    """
    if not are_several():
        return rows
    every = _Gathered.apply(rows)
    assert isinstance(every, Tensor)
    return every


def summed(part: Tensor) -> Tensor:
    """The element-wise sum of all ranks' parts. Collective; so is its backward pass, which sums likewise."""
    total = _Summed.apply(part)
    assert isinstance(total, Tensor)
    return total


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        every = rows.new_empty(dist.get_world_size() * rows.shape[0], *rows.shape[1:])
        dist.all_gather_into_tensor(every, rows.contiguous())
        return every

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        own = grad.new_empty(grad.shape[0] // dist.get_world_size(), *grad.shape[1:])
        dist.reduce_scatter_tensor(own, grad.contiguous())
        return own


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def place_of(rows: Tensor) -> int:
    """Where this rank's rows begin among those of all ranks."""
    return dist.get_rank() * len(rows) if are_several() else 0


def are_several() -> bool:
    """Whether there are other ranks to wait for."""
    return dist.is_initialized() and dist.get_world_size() > 1
