from collections import Counter
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from pretune_trainer.data.long_words import LONGEST, with_few_long_words

ALPHABET = "ab \n犬猫。"
texts = st.lists(st.text(ALPHABET, max_size=40).map(lambda text: text * 20), max_size=8)


def characters(several: list[str]) -> Counter[str]:
    return Counter(chain.from_iterable("".join(text.split()) for text in several))


@given(texts)
def test_nothing_of_few_long_words_is_lost(several):
    found = list(with_few_long_words(iter(several)))
    assert characters(found) == characters(several)
    assert all(len(word) <= LONGEST for text in found for word in text.split())


def test_texts_of_short_words_stay_as_they_are():
    several = ["the quick  brown\tfox", "", " \n", "Donaudampfschifffahrtsgesellschaft"[:32]]
    assert list(with_few_long_words(iter(several))) == several


def test_of_many_long_words_as_many_are_kept_as_there_is_room_for_wherever_they_stand():
    several = [f"word {number:06}{'犬' * 40}" for number in range(10_000)]
    found = list(with_few_long_words(iter(several), kept=400))
    assert {text.strip() for text in found[: len(several)]} == {"word"}
    kept = found[len(several) :]
    assert len(kept) == 400
    quarters = Counter(int(text[:6]) // 2_500 for text in kept)
    assert all(70 <= quarters[quarter] <= 130 for quarter in range(4)), quarters


def test_the_same_texts_give_the_same_sample():
    several = [f"{number:06}{'猫' * 40}" for number in range(1_000)]
    first, second = (list(with_few_long_words(iter(several), kept=10)) for _ in range(2))
    assert first == second
