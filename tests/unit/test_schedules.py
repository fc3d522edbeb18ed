"""The learning rate's course."""

from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_api.training import Schedule, Training
from pretune_trainer.optim import schedule
from pretune_trainer.training_plan import warmup_sentence

SCHEDULES: list[Schedule] = ["constant", "linear", "cosine", "inverseSquareRoot", "warmupStableDecay"]


def _rates(shape: Schedule, steps: int, **fields: Any) -> list[float]:
    training = Training(tokens_per_step=1, max_steps=steps, learning_rate=1.0, schedule=shape, **fields)
    rate = schedule(training, steps)
    return [rate(step) for step in range(steps)]


@pytest.mark.parametrize("shape", SCHEDULES)
@given(steps=st.integers(1, 300), warmup=st.integers(0, 350), floor=st.floats(0, 1))
def test_every_schedule_stays_between_its_bounds(shape: Schedule, steps: int, warmup: int, floor: float) -> None:
    rates = _rates(shape, steps, warmup_steps=warmup, min_learning_rate_ratio=floor)
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert all(rate >= floor - 1e-9 for rate in rates[warmup:])


@pytest.mark.parametrize("shape", SCHEDULES)
@given(steps=st.integers(2, 300), warmup=st.integers(1, 100))
def test_the_rate_rises_to_its_peak_and_never_rises_again(shape: Schedule, steps: int, warmup: int) -> None:
    rates = _rates(shape, steps + warmup, warmup_steps=warmup)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup] == 1.0
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_the_warm_up_rises_by_equal_steps_from_the_first_to_the_peak() -> None:
    assert _rates("constant", 6, warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@given(steps=st.integers(1, 300), ratio=st.floats(0, 1))
def test_a_warm_up_may_be_a_share_of_all_steps(steps: int, ratio: float) -> None:
    assert _rates("cosine", steps, warmup_ratio=ratio) == _rates("cosine", steps, warmup_steps=ceil(ratio * steps))


def test_warmup_stable_decay_is_stable_until_its_decay() -> None:
    rates = _rates("warmupStableDecay", 100, warmup_steps=10, decay_steps=20)
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)


def test_without_decay_steps_the_last_tenth_decays() -> None:
    rates = _rates("warmupStableDecay", 100)
    assert rates[90] == 1.0 > rates[91]


def test_a_decay_that_is_longer_than_the_training_takes_all_of_it() -> None:
    rates = _rates("warmupStableDecay", 14, warmup_steps=4, decay_steps=20)
    assert rates[4:] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_linear_falls_by_equal_steps_to_its_floor() -> None:
    assert _rates("linear", 6, warmup_steps=2, min_learning_rate_ratio=0.2)[2:] == pytest.approx([1.0, 0.8, 0.6, 0.4])


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert _rates("cosine", 100)[50] == pytest.approx(0.5)
    assert _rates("cosine", 100)[25] == pytest.approx(0.8535534)


def test_inverse_square_root_falls_as_in_attention_is_all_you_need() -> None:
    rates = _rates("inverseSquareRoot", 400, warmup_steps=100)
    assert rates[399] == pytest.approx((100 / 399) ** 0.5)


@pytest.mark.parametrize(("steps", "told"), [(101, False), (100, False), (90, True), (1, True)])
def test_a_warm_up_is_told_where_the_rate_that_it_ends_at_is_another(steps: int, told: bool) -> None:
    training = Training(tokens_per_step=1, max_steps=steps, learning_rate=3e-4, warmup_steps=100)
    assert (warmup_sentence(training, steps) is not None) == told


def test_who_is_told_of_the_warm_up_is_told_of_the_field_that_asks_for_it() -> None:
    training = Training(tokens_per_step=1, max_steps=9, learning_rate=3e-4, warmup_ratio=1.0)
    said = warmup_sentence(training, 9)
    assert said is not None
    assert said.startswith("spec.training.warmupRatio: ")
