"""Losses: what is saved in memory changes nothing in the numbers, and what is not there adds nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pretune_trainer.model import losses
from pretune_trainer.model.losses import IGNORED, head_cross_entropy, token_cross_entropy
from pretune_trainer.step import Step


def _problem(*, bias: bool) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 40, (50,))
    targets[::7] = IGNORED
    return hidden, nn.Linear(16, 40, bias=bias), targets


@pytest.mark.parametrize(("bias", "cap"), [(False, None), (True, None), (False, 2.0)])
def test_chunks_have_the_loss_and_the_gradients_of_the_whole(
    bias: bool, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets = _problem(bias=bias)
    parameters = [hidden, *head.parameters()]
    logits = head(hidden) if cap is None else cap * torch.tanh(head(hidden) / cap)
    whole = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    expected = torch.autograd.grad(whole / 43, parameters)

    monkeypatch.setattr(losses, "_CHUNK_TOKENS", 16)
    monkeypatch.setattr(losses, "_SMALL_LOGITS", 0)
    chunked = head_cross_entropy(hidden, head, targets, cap)
    actual = torch.autograd.grad(chunked / 43, parameters)

    torch.testing.assert_close(chunked, whole)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_chunks_have_the_loss_and_the_gradients_of_the_whole_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets = _problem(bias=False)
    found = []
    for most in (1 << 27, 0):
        monkeypatch.setattr(losses, "_SMALL_LOGITS", most)
        with torch.autocast("cpu", torch.bfloat16):
            loss = head_cross_entropy(hidden, head, targets)
        found.append((loss, *torch.autograd.grad(loss, [hidden, head.weight])))
    (whole, *expected), (chunked, *actual) = found
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.02)


def test_a_frozen_head_has_no_gradients_that_would_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets = _problem(bias=True)
    (expected,) = torch.autograd.grad(head_cross_entropy(hidden, head, targets), hidden)
    monkeypatch.setattr(losses, "_SMALL_LOGITS", 0)
    chunked = head_cross_entropy(hidden, head.requires_grad_(False), targets)
    graph: Any = chunked.grad_fn  # of a Function of ours, which saves tensors; not every Node does
    held = [tensor for tensor in graph.saved_tensors if tensor is not None]
    assert [tensor.shape for tensor in held] == [hidden.shape]
    torch.autograd.backward(chunked)
    torch.testing.assert_close(hidden.grad, expected)


def test_a_token_s_loss_is_zero_where_nothing_is_learnt() -> None:
    hidden, head, targets = _problem(bias=False)
    each = token_cross_entropy(hidden.detach(), head, targets)
    assert each.shape == targets.shape
    assert (each[targets == IGNORED] == 0).all()
    torch.testing.assert_close(each.sum(), head_cross_entropy(hidden, head, targets))


def test_a_step_without_targets_of_a_kind_learns_from_the_others() -> None:
    sums = {"mlm": torch.tensor(0.0), "nsp": torch.tensor(6.0)}
    task: Any = SimpleNamespace(loss=lambda *_: sums)
    step = Step(nn.Identity(), task)
    assert step(None, {"mlm": 0, "nsp": 4}) == 1.5
