"""How queries find documents, against a plain computation; what is equal counts as one."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pretune_trainer.metrics.text_retrieval import Searched, TextRetrieval
from support.ranks import over_ranks

SCALE = 20.0


def unit(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = random.normal(size=(count, 8)).astype(np.float32)
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def some(count: int, seed: int = 1) -> list[Searched]:
    """Queries with documents and from none to two hard negatives, all different."""
    random = np.random.default_rng(seed)
    sizes = [2 + number % 3 for number in range(count)]
    return [
        Searched(unit(random, size), tuple(range(1 + 10 * number, 1 + 10 * number + size)), SCALE)
        for number, size in enumerate(sizes)
    ]


def figures(*parts: list[Searched]) -> dict[str, float]:
    return over_ranks(lambda: TextRetrieval(searches=True), *parts)


def test_figures_are_those_of_a_plain_computation() -> None:
    found = some(1_100)
    pool = np.concatenate([each.vectors[1:] for each in found]).astype(np.float64)
    own = np.cumsum([0, *(len(each.names) - 1 for each in found)])[:-1]
    scores = np.stack([each.vectors[0] for each in found]).astype(np.float64) @ pool.T
    right = scores[np.arange(1_100), own]
    ranks = (scores > right[:, None]).sum(1)
    losses = np.log(np.exp(SCALE * scores).sum(1)) - SCALE * right
    expected = {f"recallAt{best}": (ranks < best).mean() for best in (1, 5, 10)}
    expected |= {"mrrAt10": np.where(ranks < 10, 1 / (1 + ranks), 0).mean(), "loss": losses.mean()}
    assert figures(found) == pytest.approx(expected, rel=1e-5)


def test_ranks_change_nothing() -> None:
    found = some(40)
    assert figures(found[::2], found[1::2]) == figures(found)


def test_any_document_of_a_query_answers_it_and_equal_documents_are_one() -> None:
    query, right, wrong = unit(np.random.default_rng(1), 3)
    one = Searched(np.stack([query, wrong]), (1, 3), SCALE)
    both = Searched(np.stack([query, query, wrong]), (1, 2, 3), SCALE)
    assert figures([one, both])["recallAt1"] == 1.0
    twins = [Searched(np.stack([vector, right]), (name, 9), SCALE) for name, vector in ((1, query), (2, wrong))]
    assert figures(twins) == pytest.approx({"loss": 0.0, **dict.fromkeys(figures(twins).keys() - {"loss"}, 1.0)})


def test_what_stands_eleventh_is_not_found() -> None:
    for place in (10, 11):
        ahead = np.linspace(1.0, 0.9, place, dtype=np.float32)  # the document's own place comes last
        similar = np.stack([ahead, np.sqrt(1 - ahead**2)], axis=1)
        vectors = np.concatenate([[[1.0, 0.0]], similar[::-1]]).astype(np.float32)
        found = figures([Searched(vectors, tuple(range(1, place + 2)), SCALE)])
        assert (found["recallAt10"], found["mrrAt10"]) == ((1.0, 0.1) if place == 10 else (0.0, 0.0))


def test_the_loss_is_a_mean_over_all_right_documents() -> None:
    query, far, near = (np.array(vector, np.float32) for vector in ([1, 0], [0, 1], [0.6, 0.8]))
    both = [Searched(np.stack([query, right, wrong]), (1, name, 9), 1.0) for name, right, wrong in ((2, near, far),)]
    both.append(Searched(np.stack([query, query, far]), (1, 3, 9), 1.0))
    losses = [math.log(1 + math.exp(-score)) for score in (0.6, 1.0)]
    assert figures(both)["loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    for value in (0.5, np.nan):
        found = [Searched(np.full((2, 4), value, np.float32), (2 * name, 2 * name + 1), 1.0) for name in range(1, 20)]
        assert figures(found)["recallAt10"] == figures(found)["mrrAt10"] == 0.0
    assert math.isnan(figures([])["mrrAt10"])


def test_texts_that_are_their_own_documents_are_not_searched() -> None:
    report = TextRetrieval(searches=False)
    assert report.result().keys() == {"loss"}
    report.update(some(3))
    assert report.result().keys() == {"loss"}


def test_early_stopping_waits_for_a_smaller_loss_and_for_more_that_is_found() -> None:
    assert {name for name, larger in TextRetrieval.known.items() if not larger} == {"loss"}
    assert TextRetrieval.of_texts.items() <= TextRetrieval.known.items()
