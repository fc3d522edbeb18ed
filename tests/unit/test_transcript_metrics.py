"""WER and CER are those of jiwer, however the clips are split over batches and ranks."""

from collections.abc import Sequence

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.metrics.sequences import edits
from pretune_trainer.metrics.transcripts import Transcript, TranscriptReport

texts = st.lists(st.sampled_from(["the", "a", "cat", "cats", "sat", "est", "ça"]), max_size=9).map(" ".join)
spoken = texts.filter(bool)
clips = st.lists(st.builds(Transcript, st.just(1.5), st.just(3), spoken, texts), min_size=1, max_size=6)


def report(outcomes: Sequence[Transcript]) -> TranscriptReport:
    metric = TranscriptReport()
    metric.update(outcomes)
    return metric


@given(clips)
def test_error_rates_are_those_of_jiwer(outcomes: list[Transcript]) -> None:
    said, written = [each.said for each in outcomes], [str(each.written) for each in outcomes]
    figures = report(outcomes).result()
    assert figures["wer"] == pytest.approx(jiwer.wer(said, written), abs=1e-12)
    assert figures["cer"] == pytest.approx(jiwer.cer(said, written), abs=1e-12)
    assert figures["loss"] == pytest.approx(0.5)


@given(clips, st.integers(0, 6))
def test_figures_are_the_same_however_the_clips_are_split(outcomes: list[Transcript], cut: int) -> None:
    split = report(outcomes[:cut])
    split.merge(report(outcomes[cut:]))
    assert split.result() == pytest.approx(report(outcomes).result(), abs=1e-12)


def test_what_nobody_wrote_is_not_judged_but_for_its_loss() -> None:
    figures = report([Transcript(2.0, 4, "a b", None), Transcript(2.0, 4, "a b", "a")]).result()
    assert figures == {"loss": 0.5, "wer": 0.5, "cer": pytest.approx(2 / 3)}


@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_edits_are_as_many_from_either_side(one: str, other: str) -> None:
    assert edits(one, other) == edits(other, one) == by_table(one, other)


def by_table(one: str, other: str) -> int:
    """Of a table, filled place by place."""
    row = list(range(len(other) + 1))
    for count, letter in enumerate(one, start=1):
        above, row[0] = row[0], count
        for place, candidate in enumerate(other, start=1):
            above, row[place] = row[place], min(above + (letter != candidate), row[place] + 1, row[place - 1] + 1)
    return row[-1]
