"""How much at once: micro-batches, and the ranks that share one copy of the weights."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.fsdp import FSDPModule

from pretune_api.run_config import RunConfig
from pretune_api.training import EarlyStopping
from pretune_trainer import step
from pretune_trainer.microbatch import choose_rows, rows_that_fit
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Step
from pretune_trainer.result import RankResult
from pretune_trainer.step import mesh_shape
from pretune_trainer.stopping import Improvement
from pretune_trainer.trainee import make_trainee
from pretune_trainer.training_plan import TrainingPlan, plan_training
from support.group import in_ranks
from support.jobs import pretrain
from support.runs import gathered, named, run


@given(fixed=st.integers(0, 10**9), each=st.integers(1, 10**8), free=st.integers(0, 10**11))
def test_as_many_rows_as_fit_and_not_one_more(fixed: int, each: int, free: int) -> None:
    rows = rows_that_fit(fixed + each, fixed + 2 * each, free)
    assert fixed + rows * each <= free or rows == 0
    assert fixed + (rows + 1) * each > free


@given(most=st.integers(1, 10_000), length=st.integers(8, 100_000))
def test_a_cpu_computes_as_much_as_its_caches_hold(most: int, length: int) -> None:
    rows = choose_rows(most, length, Ranks(), lambda _: None)
    assert 1 <= rows <= most
    assert rows == 1 or rows * length <= 8192


@given(size=st.integers(1, 5000))
def test_every_rank_has_its_place_in_the_mesh(size: int) -> None:
    shape = mesh_shape(size)
    assert (shape[0] if len(shape) == 1 else shape[0] * shape[1]) == size


@given(size=st.integers(1, 5000))
def test_no_rank_holds_much_more_than_with_64_ranks(size: int) -> None:
    assert mesh_shape(size)[-1] >= min(size, 32)


def test_many_nodes_hold_several_copies() -> None:
    assert mesh_shape(8) == (8,)
    assert mesh_shape(512) == (8, 64)
    assert mesh_shape(96) == (2, 48)
    assert mesh_shape(67) == (67,)
    assert mesh_shape(8 * 67) == (8, 67)


def _with_two_copies(ranks: Ranks, config: RunConfig) -> tuple[RankResult, list[Step]]:
    step.mesh_shape = lambda size: (2, size // 2)
    return run(ranks, config)


def test_ranks_that_hold_several_copies_learn_what_one_rank_learns(tmp_path: Path) -> None:
    config = pretrain(tmp_path, training__max_steps=4, training__micro_batch_rows=1)
    whole, steps = run(Ranks(), config)
    (copied, others), *_ = in_ranks(4, _with_two_copies, named(config, "copies"))
    assert [each.loss for each in others] == pytest.approx([each.loss for each in steps], abs=1e-6)
    assert copied.metrics == pytest.approx(whole.metrics, rel=1e-5)


def test_a_probe_holds_gradients_of_other_rows_where_a_step_does(tmp_path: Path) -> None:
    inputs = gathered(pretrain(tmp_path))
    trainee, longest = make_trainee(inputs, Ranks()), inputs.cache.train[0].example(0)
    parameters, held = list(trainee.step.parameters()), []
    trainee.step.register_forward_pre_hook(lambda *_: held.append(all(each.grad is not None for each in parameters)))
    trainee.probe(longest, inputs.config.training, Ranks(), most=4, rows=2)
    assert held == [False, True]
    trainee.probe(longest, inputs.config.training, Ranks(), most=2, rows=2)
    assert held[2:] == [False]
    assert all(each.grad is None for each in parameters)


def _reducing(ranks: Ranks, config: RunConfig, most: int) -> tuple[set[bool], list[float]]:
    """Whether micro-batches' gradients were reduced at once, where `most` bytes may wait; and the losses."""
    seen: set[bool] = set()
    sync = FSDPModule.set_requires_gradient_sync

    def noted(module: FSDPModule, now: bool) -> None:
        seen.add(now)
        sync(module, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "_MOST_WHOLE_GRADIENTS", most)  # a limit that a model of this size reaches
        patch.setattr(FSDPModule, "set_requires_gradient_sync", noted)
        return seen, [each.loss for each in run(ranks, config)[1]]


def test_gradients_of_large_models_are_not_held_whole_until_a_step_s_last_micro_batch(tmp_path: Path) -> None:
    config = pretrain(tmp_path, training__max_steps=3, training__micro_batch_rows=2)
    (waiting, losses), _ = in_ranks(2, _reducing, config, 1 << 30)
    (reducing, others), _ = in_ranks(2, _reducing, named(config, "large"), 0)
    assert (waiting, reducing) == ({False, True}, {True})
    assert others == pytest.approx(losses, abs=1e-6)


def test_training_ends_with_the_last_row_of_its_epochs_or_after_so_many_steps_whichever_comes_first(
    tmp_path: Path,
) -> None:
    inputs = gathered(pretrain(tmp_path))

    def plan(epochs: float | None, max_steps: int | None) -> TrainingPlan:
        training = inputs.config.training.model_copy(update={"epochs": epochs, "max_steps": max_steps})
        return plan_training(replace(inputs, config=inputs.config.model_copy(update={"training": training})), Ranks())

    whole = plan(0.7, None)
    rows, steps = 0.7 * whole.stream.rows_per_epoch(), whole.total_steps
    assert (steps - 1) * whole.rows_per_step < rows <= steps * whole.rows_per_step
    assert [plan(*limits).total_steps for limits in ((0.7, 1), (0.7, 1000), (None, 7))] == [1, steps, 7]


def _improvement(*, larger: bool, min_delta: float = 0.0) -> Improvement:
    return Improvement(EarlyStopping(metric="loss", patience=2, min_delta=min_delta), larger)


def test_patience_ends_after_so_many_evaluations_without_improvement() -> None:
    improvement = _improvement(larger=False)
    losses = [3.0, 3.5, 2.0, 2.5, 2.0]
    heard = [(improvement.improved(step, {"loss": loss}), improvement.exhausted) for step, loss in enumerate(losses)]
    assert [improved for improved, _ in heard] == [True, False, True, False, False]
    assert [exhausted for _, exhausted in heard] == [False, False, False, False, True]
    assert (improvement.best, improvement.best_step) == (2.0, 2)


def test_a_change_below_the_smallest_is_none() -> None:
    improvement = _improvement(larger=True, min_delta=0.1)
    assert [improvement.improved(1, {"loss": value}) for value in (0.5, 0.55, 0.61)] == [True, False, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_never_improves(value: float) -> None:
    for larger in (False, True):
        improvement = _improvement(larger=larger)
        assert not improvement.improved(1, {"loss": value})
        assert improvement.best is None, "a checkpoint could not say it"
        assert improvement.improved(2, {"loss": 1.0})
