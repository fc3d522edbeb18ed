"""How much of a device's arithmetic training uses: model FLOPs utilization (PaLM, Chowdhery 2022, appendix B)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_api.training import Training
from pretune_trainer.model.body import token_embedding
from pretune_trainer.parallel import Ranks

_TERA: Final = 1e12
_PEAKS: Final = {
    "H200 NVL": 835.5,
    "H200": 989.4,
    "H100 80GB HBM3": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L4": 121.0,
}
"""Dense bf16 TFLOP/s by what a device's name holds; the first that fits. From NVIDIA's data sheets (H200, H100, A100,
L40S, A10, L4: half of the figure with sparsity, where that is the one given), A10G from AWS' of the g5 instances."""


def peak_flops(name: str) -> float:
    """Dense bf16 FLOP/s of the device that calls itself `name`; not a number where unknown, as of a MIG slice."""
    words = f"{name} ".replace("-", " ")
    if " MIG " in words:
        return math.nan
    return next((peak * _TERA for key, peak in _PEAKS.items() if f"{key} " in words), math.nan)


def flops_per_token(computed: int, trained: int) -> float:
    """FLOPs of training on a token, attention's own left out: 2 a parameter forward, 2 backward, 2 for its gradient.

    Args:
        computed: parameters that take part in matrix products: all but the input embedding, unless it is the head too.
        trained: those of them that are trained.
    """
    return 4.0 * computed + 2.0 * trained


@dataclass(frozen=True)
class Utilization:
    """What a token costs, and what all ranks' devices could do."""

    flops_per_token: float
    """Without its logits."""
    flops_per_logits: float
    """Of one token's logits: not all that is read is predicted."""
    peak: float
    """FLOP/s of all devices; not a number where it is not known."""

    def of(self, tokens: int, predicted: int, seconds: float) -> float:
        """Share of the peak that `tokens`, and the logits of those `predicted`, in `seconds` are: at least so much, as
        attention's own is not counted.
        """
        return (tokens * self.flops_per_token + predicted * self.flops_per_logits) / (seconds * self.peak)


def utilization(model: PreTrainedModel, training: Training, ranks: Ranks) -> Utilization:
    """Of this model on these devices; call before it is sharded. Known for bf16 on some GPUs."""
    # By the tensors: BERT's configuration says that the two are one also where there is no such head, to classify.
    embedding, head = _weight(token_embedding(model)), _weight(model.get_output_embeddings())
    body = [parameter for parameter in model.parameters() if parameter is not embedding and parameter is not head]
    known = ranks.device.type == "cuda" and training.precision == "bf16"
    peak = peak_flops(torch.cuda.get_device_name(ranks.device)) if known else math.nan
    return Utilization(_flops(body), _flops([] if head is None else [head]), peak * ranks.size)


def _weight(module: nn.Module | None) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _flops(parameters: Sequence[Tensor]) -> float:
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return flops_per_token(sum(parameter.numel() for parameter in parameters), trained)
