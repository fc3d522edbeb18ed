"""Documents that say the same are found, and no others: by how much they have in common."""

from collections.abc import Collection, Iterable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_trainer.data.cleaning.duplicates import Documents, decide
from pretune_trainer.data.cleaning.minhash import PLACES, signature
from pretune_trainer.data.cleaning.reasons import KEPT, REASONS, Reason, verdict

RUNS = 120


def pair(similarity: float, number: int) -> tuple[str, str]:
    """Two texts whose sets of runs of five words have that Jaccard similarity: runs from the start are the same."""
    shared = round(2 * RUNS * similarity / (1 + similarity))
    names = [f"p{number}w{at}" for at in range(2 * RUNS + 8)]
    first, second = names[: RUNS + 4], names[: shared + 4] + names[RUNS + 4 : 2 * RUNS + 4 - shared]
    return " ".join(first), " ".join(second)


def jaccard(one: str, other: str) -> float:
    first, second = ({tuple(text.split()[at : at + 5]) for at in range(len(text.split()) - 4)} for text in (one, other))
    return len(first & second) / len(first | second)


def documents(
    texts: Sequence[str], held_out: Collection[int] = (), protected: Collection[int] = (), near: bool = True
) -> Documents:
    numbers = {text: number for number, text in enumerate(sorted(set(texts)), start=1)}
    return Documents(
        np.zeros(len(texts), np.uint8),
        np.array([(numbers[text], 7) for text in texts], np.uint64).reshape(-1, 2),
        np.array([signature(text) for text in texts], np.uint16).reshape(len(texts), PLACES)
        if near
        else np.zeros((len(texts), 0), np.uint16),
        np.array([at in held_out for at in range(len(texts))], np.bool_),
        np.array([at in protected for at in range(len(texts))], np.bool_),
    )


def reasons(verdicts: Iterable[int]) -> list[Reason | None]:
    return [None if said == KEPT else REASONS[said - 1] for said in verdicts]


@pytest.mark.parametrize(("similarity", "least", "most"), [(0.5, 0, 0), (0.6, 0, 12), (0.8, 194, 200), (0.9, 200, 200)])
def test_near_duplicates_are_found_with_the_stated_probability(similarity: float, least: int, most: int) -> None:
    pairs = [pair(similarity, number) for number in range(200)]
    assert all(abs(jaccard(*each) - similarity) < 0.01 for each in pairs)
    found = reasons(decide(documents([text for each in pairs for text in each])))
    assert found[::2] == [None] * 200
    assert least <= found.count(Reason.NEAR_DUPLICATE) <= most


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8])
def test_equal_places_of_signatures_estimate_the_jaccard_similarity(similarity: float) -> None:
    estimates = [
        (signature(one) == signature(other)).mean() for one, other in (pair(similarity, at) for at in range(100))
    ]
    expected = jaccard(*pair(similarity, 0))
    assert np.mean(estimates) == pytest.approx(expected, abs=0.02)
    assert np.std(estimates) < 1.3 * np.sqrt(expected * (1 - expected) / PLACES)


def test_case_punctuation_and_white_space_are_no_difference() -> None:
    assert (signature("One two,  three\nFOUR five-six") == signature("one two three four five six")).all()
    assert (signature("一二三四五六") != signature("六五四三二一")).any()


@pytest.mark.parametrize("text", ["", "?!", "one", "one two", "\ud800 lone"])
def test_any_text_has_a_signature_that_only_its_like_shares(text: str) -> None:
    assert (signature(text) == signature(text)).all()
    assert (signature(text) == signature("quite another text of some words")).mean() < 0.1


SAME = "the same words in every copy of this text"


@pytest.mark.parametrize(
    ("held_out", "protected", "expected"),
    [
        ((), (), [None, None, Reason.DUPLICATE, Reason.DUPLICATE]),
        ((3,), (), [None, Reason.CONTAMINATION, Reason.CONTAMINATION, None]),
        ((2, 3), (), [None, Reason.CONTAMINATION, None, Reason.DUPLICATE]),
        ((2, 3), (2, 3), [None, Reason.CONTAMINATION, None, None]),
        ((0,), (0,), [None, None, Reason.DUPLICATE, Reason.DUPLICATE]),
    ],
)
def test_the_first_copy_stays_but_for_one_that_is_in_the_validation(
    held_out: Collection[int], protected: Collection[int], expected: list[Reason | None]
) -> None:
    copies = documents(["another", SAME, SAME, SAME], held_out, protected, near=False)
    assert reasons(decide(copies)) == expected


def test_a_near_copy_of_the_validation_is_contamination_and_linked_copies_are_one_group() -> None:
    one, other = pair(0.9, 0)
    unlike = pair(0.9, 1)[0]
    found = reasons(decide(documents([one, unlike, other], held_out={2})))
    assert found == [Reason.NEAR_CONTAMINATION, None, None]


def test_who_is_dropped_already_drops_nobody() -> None:
    copies = documents([SAME, SAME])
    copies.verdicts[0] = verdict(Reason.TOO_SHORT)
    assert reasons(decide(copies)) == [Reason.TOO_SHORT, None]


def test_of_no_documents_none_is_dropped() -> None:
    assert len(decide(documents([], near=False))) == 0


POOL = [text for number in range(4) for text in pair(0.9, number)] + [SAME, "short", "short one"]
corpora = st.lists(st.tuples(st.sampled_from(POOL), st.booleans()), min_size=1, max_size=14)


def kept(corpus: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    texts = [text for text, _ in corpus]
    found = decide(documents(texts, {at for at, (_, held_out) in enumerate(corpus) if held_out}))
    return [document for document, said in zip(corpus, found, strict=True) if said == KEPT]


@given(corpora)
@settings(max_examples=60)
def test_what_is_clean_stays_as_it_is(corpus: list[tuple[str, bool]]) -> None:
    once = kept(corpus)
    assert kept(once) == once


@given(corpora, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_documents_decides_which_copy_stays_and_nothing_else(
    corpus: list[tuple[str, bool]], random: Random
) -> None:
    shuffled = random.sample(corpus, len(corpus))

    def groups(corpus: list[tuple[str, bool]]) -> list[tuple[int, bool]]:
        return sorted(
            (min(POOL.index(text) // 2 * 2 if POOL.index(text) < 8 else POOL.index(text), 99), side)
            for text, side in kept(corpus)
        )

    assert groups(shuffled) == groups(corpus)


@given(corpora)
@settings(max_examples=60)
def test_without_the_validation_no_fewer_training_documents_stay(corpus: list[tuple[str, bool]]) -> None:
    training = [document for document in corpus if not document[1]]
    assert len(kept(training)) >= sum(not held_out for _, held_out in kept(corpus))
