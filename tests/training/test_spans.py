"""Spans are taken out of texts as the papers say: as many, as long, and everything is still there."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.tasks.spans import Spans, longest_text, segments

Draw = Callable[[int, float, float, np.random.Generator], Spans]
DRAWS: dict[str, Draw] = {"T5": Spans.segmented, "BART": Spans.poisson}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@given(tokens=st.integers(2, 200), rate=st.floats(0.01, 0.99), mean=st.floats(1, 20), seed=st.integers(0, 1000))
def test_what_is_kept_and_what_is_taken_make_up_the_text(
    draw: Draw, tokens: int, rate: float, mean: float, seed: int
) -> None:
    ids = np.arange(tokens)
    spans = draw(tokens, rate, mean, np.random.default_rng(seed))
    kept, taken = spans.kept(ids), spans.taken(ids)
    assert [len(span) for span in taken] == spans.lengths.tolist()
    together = [part for pair in zip(kept, [*taken, ids[:0]], strict=True) for part in pair]
    assert np.concatenate(together).tolist() == ids.tolist()
    assert 1 <= spans.lengths.sum() <= tokens


def drawn(draw: Draw, rate: float) -> list[Spans]:
    return [draw(512, rate, 3.0, np.random.default_rng(seed)) for seed in range(400)]


def test_t5_takes_15_percent_in_spans_of_3_tokens() -> None:
    """As the paper: 512 tokens, of which 77 are in 26 spans."""
    spans = drawn(Spans.segmented, 0.15)
    assert {(len(each.starts), int(each.lengths.sum())) for each in spans} == {(26, 77)}
    assert np.mean([each.starts[0] for each in spans]) == pytest.approx((512 - 77) / 26, rel=0.1)
    assert all(each.lengths.min() >= 1 and each.starts[0] >= 1 for each in spans)


def test_t5_reads_568_tokens_in_a_row_of_512() -> None:
    """As in the paper's code: 512 - 1 places for text and sentinels, 114 for the answer with its end."""
    assert longest_text(511, 0.15, 3.0) == 568
    assert sum(segments(568, 0.15, 3.0)) + 1 == 114


def test_bart_takes_30_percent_in_spans_of_poisson_lengths() -> None:
    spans = drawn(Spans.poisson, 0.3)
    assert {int(each.lengths.sum()) for each in spans} == {154}
    lengths = np.concatenate([each.lengths[:-1] for each in spans])  # the last one is cut where the rate is reached
    assert lengths.mean() == pytest.approx(3.0, rel=0.03)
    assert lengths.var() == pytest.approx(3.0, rel=0.06)
    assert (lengths == 0).mean() == pytest.approx(np.exp(-3), abs=0.01)
    assert all((np.diff(each.starts) > each.lengths[:-1]).all() for each in spans), "masks do not touch"
