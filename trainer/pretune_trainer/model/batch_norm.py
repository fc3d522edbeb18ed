"""Batch normalisation: frozen, or over all ranks. It alone makes a row's loss depend on the other rows of its batch."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class FrozenBatchNorm(nn.BatchNorm2d):
    """Keeps its statistics and weights, in training too."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        """Stays in evaluation."""
        super().train(False)
        return self


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalises by the statistics of all ranks' rows, so that ranks share them too.

    nn.SyncBatchNorm does the same on GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name of it
        """float [rows, channels, height, width] -> the same, normalised; rows may differ by rank."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        totals = _over_ranks(torch.cat([x.sum((0, 2, 3)), count]))
        sums, rows = totals[:-1], totals[-1:]
        mean = sums / rows
        centred = x - mean[:, None, None]
        variance = _over_ranks(centred.square().sum((0, 2, 3))) / rows
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


def _over_ranks(part: Tensor) -> Tensor:
    total: Tensor = all_reduce(part)  # type: ignore[no-untyped-call]
    return total


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
