"""The module that is trained: a model and its task as one forward pass, sharded over ranks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pretune_api.training import Training
from pretune_trainer.errors import UserError
from pretune_trainer.model.batch_norm import share_batch_norms
from pretune_trainer.model.body import token_embedding
from pretune_trainer.model.shapes import fill
from pretune_trainer.parallel import Ranks
from pretune_trainer.tasks.base import Batch, Task

SHARDED_RANKS: Final = 64
"""Ranks that share one copy of the weights, about; more ranks hold several copies (hybrid sharding)."""
_MOST_WHOLE_GRADIENTS: Final = 4 << 30
"""Bytes of gradients that a rank may hold whole: of more, 1 billion in float32, the arithmetic hides the reduction."""


class Step(nn.Module):
    """The root of sharding. Embedding and head stay in it, so that tied weights, chunked losses and generation work."""

    def __init__(self, model: nn.Module, task: Task[Any]) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, batch: Batch, counts: Mapping[str, int]) -> Tensor:
        """The batch's part of the mean loss over all targets of the optimizer step.

        Args:
            batch: what one rank computes at once.
            counts: targets of the whole step over all ranks, by key of the loss.
        """
        losses = self.task.loss(self.model, batch)
        parts = [loss / max(1, counts[key]) for key, loss in losses.items()]
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]

    def evaluate(self, batch: Batch) -> list[Any]:
        """The task's outcomes for the batch."""
        return self.task.evaluate(self.model, batch)


def prepare(step: Step, training: Training, ranks: Ranks) -> None:
    """Move to the device, recompute activations, compile and shard, as the spec asks. Of several ranks only the first
    needs the weights: each block goes from there to all, and is sharded before the next comes. Collective.
    """
    if training.activation_checkpointing:
        step.model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]  # of PreTrainedModel
    blocks = list(blocks_of(step.model))
    if training.compile:
        for block in blocks:
            block.compile()
    if ranks.size == 1:
        step.to(ranks.device)
        return
    policy = partial(
        MixedPrecisionPolicy,
        param_dtype=torch.bfloat16 if training.precision == "bf16" else None,
        reduce_dtype=torch.float32,
    )
    share_batch_norms(step.model)
    _widen_scalars(step.model)
    mesh = _mesh(ranks)
    for module in [*reversed(blocks), step]:  # blocks in blocks (of ConvNeXt's stages) first
        fill(module, ranks)
        # What enters the root are targets, too, which must not be rounded; tasks cast the inputs alone.
        shard = fully_shard(module, mesh=mesh, mp_policy=policy(cast_forward_inputs=module is not step))
        # The loss is divided by global counts already: gradients are summed, never averaged.
        shard.set_gradient_divide_factor(1.0)
        shard.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(step, "evaluate")


def _widen_scalars(model: nn.Module) -> None:
    """Make vectors of scalars, such as CLIP's temperature, which cannot be sharded."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                setattr(module, name, nn.Parameter(parameter.detach().reshape(1), parameter.requires_grad))


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The transformer blocks, in order: what transformers can recompute as a whole, or else never splits over devices.

    Not every type says what must not be split, and some mean parts of a block (MBart's attentions) or more than one.
    Token embeddings are none, though BERT's are never split either: they are tied to the head, and stay with it.
    """
    recomputed = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    inside = {part for block in recomputed for part in block.modules() if part is not block}
    if recomputed:
        return (block for block in recomputed if block not in inside)
    names = getattr(model, "_no_split_modules", None) or ()
    tied = token_embedding(model) if isinstance(model, PreTrainedModel) else None
    return (
        module for module in model.modules() if type(module).__name__ in names and tied not in set(module.modules())
    )


def _mesh(ranks: Ranks) -> DeviceMesh:
    shards = mesh_shape(ranks.size)
    if len(shards) == 1:
        return init_device_mesh(ranks.device.type, shards)
    return init_device_mesh(ranks.device.type, shards, mesh_dim_names=("replicate", "shard"))


def mesh_shape(size: int) -> tuple[int, ...]:
    """(ranks,) where all share one copy of the weights, else (copies, ranks of a copy).

    A copy is shared by SHARDED_RANKS, by fewer as long as that is half of them, else by more: of 67 ranks, a prime
    number, each would else hold a whole copy, and run out of memory with a model that fits on 64.
    """
    if size <= SHARDED_RANKS:
        return (size,)
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    fewer = max(number for number in divisors if number <= SHARDED_RANKS)
    shard = fewer if 2 * fewer >= SHARDED_RANKS else min(number for number in divisors if number > SHARDED_RANKS)
    return (size // shard, shard) if shard < size else (size,)


def check_precision(training: Training, device: torch.device) -> None:
    """Refuse bf16 where the device, the current one, has none: PyTorch would emulate it slowly, or fail within a step.

    Raises:
        UserError: it is one of NVIDIA's from before Ampere.
    """
    bf16 = training.precision == "bf16" and device.type == "cuda"
    if bf16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise UserError("spec.training.precision", f"{name} knows no bf16; take a pool of newer GPUs, or set fp32")


def autocast(training: Training, ranks: Ranks) -> AbstractContextManager[None]:
    """bf16 arithmetic on one rank; on several, sharding casts the weights itself."""
    if training.precision == "bf16" and ranks.size == 1:
        return torch.autocast(ranks.device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def judging(step: Step) -> Iterator[None]:
    """Without gradients, dropout and the like.

    Afterwards the root is sharded again: after a forward pass alone its parameters are whole tensors of their own, and
    whoever asks for them then, as optimizer and checkpoints do, would be given what is freed a moment later.
    """
    step.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        step.train()
        if isinstance(step, FSDPModule):
            step.reshard()


def defer_reduction(step: Step, *, last: bool) -> None:
    """Reduce gradients over ranks with the last micro-batch of a step alone, where all may be held whole until then."""
    if isinstance(step, FSDPModule):
        step.set_requires_gradient_sync(last or not whole_gradients(step.parameters()))


def whole_gradients(parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of gradients that a rank holds whole until a step's last micro-batch; 0 where each one reduces them."""
    size = sum(each.numel() * torch.float32.itemsize for each in parameters if each.requires_grad)
    return size if size <= _MOST_WHOLE_GRADIENTS else 0
