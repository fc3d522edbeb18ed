"""AdamW, its schedules, and what is done when a step goes wrong."""

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pretune_api.training import Instability, Schedule, Training
from pretune_trainer.errors import NumericalError


def make_optimizer(
    model: nn.Module, training: Training, rates: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained; vectors (biases, norms) are exempt from weight decay.

    `rates` are shares of the learning rate by name of parameter, 1 where absent; each group has its own as "share".
    """
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((rates.get(name, 1.0), parameter.ndim < 2), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": tensors, "share": share, "weight_decay": 0.0 if exempt else training.weight_decay}
            for (share, exempt), tensors in groups.items()
        ],
        lr=training.learning_rate,
        betas=(training.beta1, training.beta2),
        eps=training.epsilon,
        fused=True,
    )


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as NAME.exp_avg, NAME.exp_avg_sq, NAME.step; made, as zeros, where there is none."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            state = optimizer.state[parameter] or _fresh_state(optimizer, parameter)
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
    return tensors


def _fresh_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What AdamW itself makes at its first step."""
    state = {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, requires_grad=False),
        "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
    }
    optimizer.state[parameter] = state
    return state


def warmup_steps(training: Training, total_steps: int) -> int:
    """Steps of the warm-up in a training of `total_steps`; a share of them is rounded up, as transformers does."""
    if training.warmup_ratio is None:
        return training.warmup_steps
    return math.ceil(training.warmup_ratio * total_steps)


def schedule(training: Training, total_steps: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0, for a training of `total_steps`."""
    warmup = warmup_steps(training, total_steps)
    shape = _SHAPES[training.schedule]
    decay = training.decay_steps or max(1, total_steps // 10)
    floor = training.min_learning_rate_ratio

    def rate(step: int) -> float:
        if step < warmup:
            return training.learning_rate * (step + 1) / (warmup + 1)
        share = shape(step - warmup, total_steps - warmup, max(1, warmup), decay)
        return training.learning_rate * (floor + (1.0 - floor) * share)

    return rate


def _linear(step: int, steps: int, warmup: int, decay: int) -> float:
    return 1.0 - step / steps


def _cosine(step: int, steps: int, warmup: int, decay: int) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _constant(step: int, steps: int, warmup: int, decay: int) -> float:
    return 1.0


def _inverse_square_root(step: int, steps: int, warmup: int, decay: int) -> float:
    return math.sqrt(warmup / (warmup + step))


def _warmup_stable_decay(step: int, steps: int, warmup: int, decay: int) -> float:
    """Hu et al. (MiniCPM, 2024), with a linear decay."""
    return min(1.0, (steps - step) / min(decay, steps))


_SHAPES: Final[dict[Schedule, Callable[[int, int, int, int], float]]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverseSquareRoot": _inverse_square_root,
    "warmupStableDecay": _warmup_stable_decay,
}
"""Share of the peak after the warm-up, by (steps since, steps after the warm-up, warm-up, decay)."""


def clip_gradients(parameters: Iterable[Tensor], largest: float | None) -> Tensor:
    """Scale the gradients so that their whole norm is at most `largest`; the norm before, on the device."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if largest is not None:
        torch.nn.utils.clip_grads_with_norm_(trained, largest, norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


class Stability:
    """Leaves bad steps out, on the device: a step that is read by nobody waits for nobody.

    The fused optimizer skips an update whose `found_inf` is 1. Every rank sees the same values: all decide alike.
    """

    _DECAY: Final = 0.98
    """Weight of the running mean against the loss of one more step."""

    def __init__(self, policy: Instability, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._policy = policy
        self._optimizer = optimizer
        self.mean = torch.full((), math.nan, device=device)
        """Running mean of the loss of good steps; not a number before the first."""
        self.skipped = 0
        """Bad steps so far."""

    def judge(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether the step is bad, as 0 or 1 (float32 on the device); tells the optimizer."""
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        if self._policy.spike_factor is not None:
            bad = bad | (loss > self._policy.spike_factor * self.mean)
        good_mean = torch.where(self.mean.isnan(), loss, self.mean * self._DECAY + loss * (1.0 - self._DECAY))
        self.mean = torch.where(bad, self.mean, good_mean)
        verdict = bad.float()
        self._optimizer.found_inf = verdict  # type: ignore[attr-defined]  # how GradScaler tells fused optimizers, too
        return verdict

    def count(self, step: int, loss: float, norm: float) -> None:
        """Note a bad step.

        Raises:
            NumericalError: there were more than the spec allows.
        """
        self.skipped += 1
        if self.skipped > self._policy.max_skipped_steps:
            raise NumericalError(
                f"step {step}: loss {loss:g}, gradient norm {norm:g}; this is bad step {self.skipped}, and "
                f"spec.training.instability.maxSkippedSteps allows {self._policy.max_skipped_steps}; "
                "a lower learning rate or a longer warm-up usually helps"
            )
