"""What a run takes of each device's memory: an estimate of the least, made of shapes alone.

Weights, gradients and AdamW's moments are counted as in ZeRO (Rajbhandari et al., 2020, section 3.1, here with fp32
weights), shared out over ranks as FSDP2 does. Activations are what autograd keeps for the backward pass, in the sense
of Korthikanti et al. (2022, section 4), not by their formula for one kind of block, but counted: the forward pass is
carried out on tensors without content. What kernels and the allocator need for themselves comes on top.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from pretune_api.training import Training
from pretune_trainer.methods import Tuned
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import autocast, blocks_of, mesh_shape, whole_gradients
from pretune_trainer.tasks.base import Batch, Task

_FP32: Final = 4
_MOMENTS: Final = 2
_GATHERED_BLOCKS: Final = 2
"""FSDP2 gathers the next block while one is computed."""
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Held:
    """Bytes that a device holds from the first step on, whatever its batch."""

    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    """AdamW's two moments, and a count of steps for each parameter."""
    gathered: int
    """With several ranks: weights and gradients of the root and of the blocks at work, before they are shared out."""


def held(tuned: Tuned, training: Training, ranks: int, *, accumulates: bool = False) -> Held:
    """What one of `ranks` ranks holds of a model and its optimizer.

    Where a step `accumulates` gradients of several micro-batches, smaller models have theirs whole on each rank.
    """
    parameters = list(tuned.model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    shards = mesh_shape(ranks)[-1]
    shares = sum(_share(parameter, shards) for parameter in trained)
    whole = whole_gradients(trained) if accumulates and ranks > 1 else 0
    return Held(
        weights=sum(_share(each, shards) for each in parameters) + sum(each.nbytes for each in tuned.model.buffers()),
        gradients=whole or shares,
        optimizer=_MOMENTS * shares + _FP32 * len(trained),
        gathered=_gathered(tuned.model, training) if ranks > 1 else 0,
    )


def _share(tensor: Tensor, shards: int) -> int:
    """Bytes of the largest of the shards that a tensor is cut into, along its first dimension."""
    rows = tensor.shape[0] if tensor.ndim else 1
    return -(-rows // shards) * (tensor.nbytes // max(1, rows))


def _gathered(model: nn.Module, training: Training) -> int:
    width = torch.bfloat16.itemsize if training.precision == "bf16" else _FP32
    blocks = [sum(each.numel() for each in block.parameters()) for block in blocks_of(model)]
    largest = max(blocks, default=0)
    root = sum(each.numel() for each in model.parameters()) - sum(blocks)
    return width * (root + _GATHERED_BLOCKS * largest) + width * (root + largest)


def activations(tuned: Tuned, task: Task[Any], batch: Batch, training: Training, ranks: int) -> int:
    """Bytes that are kept between the forward pass of a batch and its backward pass.

    The model, which was made on the meta device, is used up. With activation checkpointing that is what enters each
    block, and all of the one that is computed again. On one rank autocast's bf16 copies of weights are among it.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    one = Ranks(size=ranks)
    casts = training.precision == "bf16" and ranks > 1  # as sharding does, where autocast is not needed
    model = tuned.model.to(torch.bfloat16) if casts else tuned.model
    with fake:
        model = model.to_empty(device="cpu").train()
        kept = _Kept(model)
        with kept.watched(), autocast(training, one):
            losses = task.loss(model, batch.map(fake.from_tensor))
    assert losses, "what is kept lives as long as the losses do"
    return kept.bytes(recomputed=training.activation_checkpointing)


class _Kept:
    """Counts what is kept for the backward pass: by block, and outside of them. Weights are held anyway."""

    def __init__(self, model: nn.Module) -> None:
        self._seen = {_storage(parameter) for parameter in model.parameters()}
        self._depth = 0
        self._outside = 0
        self._entering = 0
        self._blocks: list[int] = []
        for block in list(blocks_of(model)):
            block.register_forward_pre_hook(self._enter, with_kwargs=True)
            block.register_forward_hook(self._leave)

    def watched(self) -> AbstractContextManager[None]:
        """Within it everything counts."""
        return saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def bytes(self, *, recomputed: bool) -> int:
        """All that is kept, or with blocks that are computed again."""
        within = self._entering + max(self._blocks, default=0) if recomputed else sum(self._blocks)
        return self._outside + within

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._seen:
            self._seen.add(storage)
            size = tensor.untyped_storage().nbytes()
            if self._depth:
                self._blocks[-1] += size
            else:
                self._outside += size
        return tensor

    def _enter(self, block: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if self._depth == 0:  # blocks in blocks count as part of them
            entering = next((each for each in (*args, *given.values()) if isinstance(each, Tensor)), None)
            self._entering += 0 if entering is None else entering.nbytes
            self._blocks.append(0)
        self._depth += 1

    def _leave(self, block: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self._depth -= 1


def _storage(tensor: Tensor) -> int:
    """Names what a tensor's numbers lie in, as long as it lives."""
    name: int = tensor.untyped_storage()._cdata
    return name


def amount(count: float) -> str:
    """Bytes for people: 512 bytes, 3.4 MiB."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} {_UNITS[-1]}"
