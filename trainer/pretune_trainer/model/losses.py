"""Losses as sums over targets, in as little memory as their definition allows."""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED: Final = -100
"""Target of a position that is not learnt."""

_CHUNK_TOKENS: Final = 8_192
"""Tokens whose logits exist at once where not all may."""
_SMALL_LOGITS: Final = 1 << 27
"""Logits that may all exist at once: half a gigabyte as float32."""


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits that stay below `cap`, smoothly (Gemma 2); as they are where there is none."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def head_cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor, cap: float | None = None) -> Tensor:
    """Sum of the cross-entropies of `head(hidden)`, capped, against `targets`.

    Where the logits are large they never exist at once: chunks of 8,192 tokens are turned into gradients while they are
    in memory, as in Liger Kernel (Hsu et al., 2024).

    Args:
        hidden: float [tokens, width].
        head: the output layer.
        targets: int64 [tokens], `IGNORED` where nothing is learnt.
        cap: bound of the logits, if there is one.

    Returns:
        float32 scalar.
    """
    weight = head.weight
    if hidden.shape[0] * weight.shape[0] <= _SMALL_LOGITS:
        return F.cross_entropy(capped(head(hidden).float(), cap), targets, ignore_index=IGNORED, reduction="sum")
    loss = _ChunkedCrossEntropy.apply(hidden, weight, head.bias, targets, cap)
    assert isinstance(loss, Tensor)
    return loss


def token_cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor, cap: float | None = None) -> Tensor:
    """Cross-entropy of each token, float32 [tokens], 0 where the target is `IGNORED`. For evaluation: no gradient."""
    losses = [
        cross_entropies(capped(head(rows).float(), cap), wanted)
        for rows, wanted in zip(torch.split(hidden, _CHUNK_TOKENS), torch.split(targets, _CHUNK_TOKENS), strict=True)
    ]
    return torch.cat(losses)


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each row of logits [n, classes], float32 [n], 0 where the target is `IGNORED`."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="none")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, chunk by chunk, and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        cast = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        # A frozen head, as beside updates, has none: of 128,000 tokens they would take gigabytes.
        _, learns, biased, *_ = ctx.needs_input_grad
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and biased else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, hidden.shape[0], _CHUNK_TOKENS):
            rows = slice(start, start + _CHUNK_TOKENS)
            part = hidden[rows].to(dtype)
            logits = F.linear(part, cast, None if bias is None else bias.to(dtype)).float()
            loss, grad = _loss_and_gradient(logits, targets[rows], cap)
            total += loss
            grad_hidden[rows] = (grad.to(dtype) @ cast).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += (grad.to(dtype).T @ part).float()
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grads
        return *(None if grad is None else grad * scale.to(grad.dtype) for grad in ctx.saved_tensors), None, None


def _loss_and_gradient(logits: Tensor, targets: Tensor, cap: float | None) -> tuple[Tensor, Tensor]:
    """The summed loss, and its gradient by the logits (which are overwritten): softmax minus one-hot, behind a cap."""
    if cap is not None:
        logits = capped(logits, cap)
        slope = 1 - (logits / cap).square()
    kept = (targets != IGNORED)[:, None]
    places = targets.clamp_min(0)[:, None]
    log_sum = torch.logsumexp(logits, dim=-1, keepdim=True)
    loss = ((log_sum - logits.gather(1, places)) * kept).sum()
    gradient = logits.sub_(log_sum).exp_()
    gradient.scatter_add_(1, places, torch.full_like(log_sum, -1.0)).mul_(kept)
    return loss, gradient if cap is None else gradient.mul_(slope)
