from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.data.long_words import LONGEST, with_few_long_words

ALPHABET = "ab \n犬猫。"
texts = st.lists(st.text(ALPHABET, max_size=80).map(lambda text: text * 20), max_size=8)


def characters(several: list[str]) -> Counter[str]:
    return Counter(chain.from_iterable("".join(text.split()) for text in several))


@given(texts)
def test_nothing_of_few_long_words_is_lost(several: list[str]) -> None:
    found = list(with_few_long_words(iter(several)))
    assert characters(found) == characters(several)
    assert all(len(word) <= LONGEST for text in found for word in text.split())


def test_texts_without_words_that_are_too_long_stay_as_they_are() -> None:
    several = ["the quick  brown\tfox", "", " \n", "犬" * LONGEST]
    assert list(with_few_long_words(iter(several))) == several


def test_many_long_words_are_thinned_and_some_of_the_last_ones_stay() -> None:
    several = [f"word {number:06}{'犬' * 34}" for number in range(10_000)]
    found = list(with_few_long_words(iter(several), kept=400 * 40))
    assert {text.split()[0] for text in found} == {"word"}
    assert found[:400] == several[:400]
    stayed = [number for number, text in enumerate(found) if text == several[number]]
    assert len(stayed) == pytest.approx(400 * (1 + 3.2), rel=0.1)  # ln(10,000 / 400)
    assert sum(number >= 5_000 for number in stayed) == pytest.approx(400 * 0.69, rel=0.2)  # ln(2)


def test_the_same_texts_give_the_same_sample() -> None:
    several = [f"{number:06}{'猫' * 40}" for number in range(1_000)]
    first, second = (list(with_few_long_words(iter(several), kept=460)) for _ in range(2))
    assert first == second
