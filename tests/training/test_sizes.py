"""How much at once: micro-batches, and the ranks that share one copy of the weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_api.training import EarlyStopping
from pretune_trainer.microbatch import choose_rows, rows_that_fit
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import mesh_shape
from pretune_trainer.stopping import Improvement


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
    assert shape[-1] <= 64
    assert (shape[0] if len(shape) == 1 else shape[0] * shape[1]) == size


def test_many_nodes_hold_several_copies() -> None:
    assert mesh_shape(8) == (8,)
    assert mesh_shape(512) == (8, 64)


def _improvement(*, larger: bool, min_delta: float = 0.0) -> Improvement:
    return Improvement(EarlyStopping(metric="loss", patience=2, min_delta=min_delta), larger)


def test_patience_ends_after_so_many_evaluations_without_improvement() -> None:
    improvement = _improvement(larger=False)
    heard = [improvement.improved(step, {"loss": loss}) for step, loss in enumerate([3.0, 2.0, 2.5, 2.1], start=1)]
    assert heard == [True, True, False, False]
    assert improvement.exhausted
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
