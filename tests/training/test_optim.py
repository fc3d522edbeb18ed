"""The optimizer: what decays, what is clipped, what is left out."""

import math

import pytest
import torch
from torch import nn

from pretune_api.training import Instability, Training
from pretune_trainer.errors import NumericalError
from pretune_trainer.optim import Stability, clip_gradients, make_optimizer, optimizer_tensors

TRAINING = Training(tokens_per_step=1, max_steps=1, learning_rate=0.1, weight_decay=0.5)


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def _with_gradients(model: nn.Module, value: float = 1.0) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    return model


def test_vectors_do_not_decay() -> None:
    decayed, exempt = make_optimizer(_model(), TRAINING).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 4), (3, 4)]
    assert [tuple(p.shape) for p in exempt["params"]] == [(4,), (4,), (3,)]
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.5, 0.0)


def test_it_is_adamw_with_the_numbers_of_the_spec() -> None:
    fields = {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6, "learning_rate": 0.3}
    optimizer = make_optimizer(_model(), TRAINING.model_copy(update=fields))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"], group["amsgrad"]) == (0.3, (0.8, 0.99), 1e-6, False)


def test_frozen_weights_are_not_the_optimizer_s() -> None:
    model = _model().requires_grad_(False)
    model[2].requires_grad_(True)
    optimizer = make_optimizer(model, TRAINING)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert {name.rsplit(".", 1)[0] for name in optimizer_tensors(model, optimizer)} == {"2.weight", "2.bias"}


def test_a_state_made_in_advance_is_the_one_that_adamw_would_make() -> None:
    made, late = _model(), _model()
    first, second = make_optimizer(made, TRAINING), make_optimizer(late, TRAINING)
    optimizer_tensors(made, first)
    for model, optimizer in ((made, first), (late, second)):
        _with_gradients(model)
        optimizer.step()
    for one, other in zip(made.parameters(), late.parameters(), strict=True):
        assert torch.equal(one, other)


def test_gradients_are_scaled_to_the_largest_norm_and_no_further() -> None:
    model = _with_gradients(_model())
    norm = clip_gradients(model.parameters(), 1.0)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert norm.item() == pytest.approx(math.sqrt(count))
    assert clip_gradients(model.parameters(), None).item() == pytest.approx(1.0, abs=1e-5)
    assert clip_gradients(model.parameters(), 5.0).item() == pytest.approx(1.0, abs=1e-5)
    assert clip_gradients(model.parameters(), None).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (3.1, 1.0)])
def test_a_bad_step_changes_no_weight(loss: float, norm: float) -> None:
    model = _with_gradients(_model())
    optimizer = make_optimizer(model, TRAINING)
    stability = Stability(Instability(max_skipped_steps=1, spike_factor=3.0), optimizer, torch.device("cpu"))
    assert not stability.judge(torch.tensor(1.0), torch.tensor(1.0))
    assert not stability.judge(torch.tensor(1.0), torch.tensor(9.0)), "a large norm is no spike: it is clipped"
    before = [parameter.clone() for parameter in model.parameters()]
    assert stability.judge(torch.tensor(loss), torch.tensor(norm))
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert stability.mean == 1.0


def test_after_a_bad_step_the_next_good_one_counts() -> None:
    model = _with_gradients(_model())
    optimizer = make_optimizer(model, TRAINING)
    stability = Stability(Instability(max_skipped_steps=1), optimizer, torch.device("cpu"))
    before = [parameter.clone() for parameter in model.parameters()]
    stability.judge(torch.tensor(math.nan), torch.tensor(1.0))
    optimizer.step()
    stability.judge(torch.tensor(1.0), torch.tensor(1.0))
    optimizer.step()
    assert not any(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_a_spike_is_one_beside_the_steps_before_it_not_beside_the_first() -> None:
    stability = Stability(
        Instability(max_skipped_steps=1, spike_factor=2.0), make_optimizer(_model(), TRAINING), torch.device("cpu")
    )
    falling = [9.0, *[1.0] * 300]
    assert not any(stability.judge(torch.tensor(loss), torch.tensor(1.0)) for loss in falling)
    assert stability.judge(torch.tensor(2.5), torch.tensor(1.0))


def test_more_bad_steps_than_allowed_end_training() -> None:
    stability = Stability(Instability(max_skipped_steps=1), make_optimizer(_model(), TRAINING), torch.device("cpu"))
    stability.count(7, math.nan, 1.0)
    with pytest.raises(NumericalError, match=r"step 9: loss nan, gradient norm 2; this is bad step 2, .* allows 1"):
        stability.count(9, math.nan, 2.0)
