"""Batch normalisation: frozen, or over all ranks. It alone makes a row's loss depend on the other rows of its batch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretune_trainer.model.gather import summed


class FrozenBatchNorm(nn.BatchNorm2d):
    """Keeps its statistics and weights, in training too."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        """Stays in evaluation."""
        super().train(False)
        return self

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name of it
        """float [rows, channels, height, width] -> the same, normalised."""
        return _as_remembered(self, input)


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalises by the statistics of all ranks' rows, so that ranks share them too.

    nn.SyncBatchNorm does the same on GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name of it
        """float [rows, channels, height, width] -> the same, normalised; rows may differ by rank."""
        if not self.training:
            return _as_remembered(self, input)
        x = input.float()
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        totals = summed(torch.cat([x.sum((0, 2, 3)), count]))
        sums, rows = totals[:-1], totals[-1:]
        mean = sums / rows
        centred = x - mean[:, None, None]
        variance = summed(centred.square().sum((0, 2, 3))) / rows
        self._remember(mean.detach(), (variance * rows / (rows - 1)).detach())
        scaled = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        shown: Tensor = scaled * self.weight[:, None, None] + self.bias[:, None, None]
        return shown.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


def _as_remembered(norm: nn.BatchNorm2d, rows: Tensor) -> Tensor:
    """Normalised by statistics, which are float32 always: sharding makes weights bf16, and kernels want one type."""
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.batch_norm(rows, norm.running_mean, norm.running_var, weight, bias, eps=norm.eps)


def has_batch_norms(model: nn.Module) -> bool:
    """Whether rows are normalised by those beside them."""
    return any(type(module) in (nn.BatchNorm2d, SharedBatchNorm) for module in model.modules())


def freeze_batch_norms(model: nn.Module) -> None:
    """Keep all batch normalisations as they are."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = FrozenBatchNorm
            module.requires_grad_(False).train(False)


def share_batch_norms(model: nn.Module) -> None:
    """Let all ranks normalise together."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
