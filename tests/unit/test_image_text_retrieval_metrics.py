"""Recall@k and the loss of a pool, against a plain computation; what is equal counts as one."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pretune_trainer.metrics.image_text_retrieval import Compared, ImageTextRetrieval
from support.ranks import over_ranks


def unit(random: np.random.Generator) -> np.ndarray:
    vector = random.normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


def pool(count: int, seed: int = 1) -> list[Compared]:
    random = np.random.default_rng(seed)
    return [
        Compared(unit(random), unit(random), b"i%05d" % number, b"t%05d" % number, 10.0, number % 4 == 0)
        for number in range(count)
    ]


def figures(*parts: list[Compared]) -> dict[str, float]:
    return over_ranks(lambda: ImageTextRetrieval(labelled=True), *parts)


def test_figures_are_those_of_a_plain_computation() -> None:
    pairs = pool(1500)
    images, texts = (torch.tensor(np.stack([getattr(pair, side) for pair in pairs])) for side in ("image", "text"))
    scores, own = (images @ texts.T).double(), torch.arange(1500)
    found = figures(pairs)
    for name, table in (("imageToText", scores), ("textToImage", scores.T)):
        ranks = (table > table.diagonal()[:, None]).sum(1)
        for best in (1, 5, 10):
            assert found[f"{name}RecallAt{best}"] == pytest.approx((ranks < best).double().mean().item())
    losses = [torch.nn.functional.cross_entropy(10 * table, own).item() for table in (scores, scores.T)]
    assert found["loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert found["zeroShotAccuracy"] == 0.25


def test_where_no_image_has_a_label_the_accuracy_is_not_a_number() -> None:
    found = figures([dataclasses.replace(pair, right=None) for pair in pool(8)])
    assert found.keys() == ImageTextRetrieval.known.keys() == figures([]).keys()
    assert math.isnan(found["zeroShotAccuracy"])


def test_images_without_labels_have_no_accuracy() -> None:
    metric = ImageTextRetrieval(labelled=False)
    for _ in range(2):
        assert metric.result().keys() == ImageTextRetrieval.of_pairs.keys()
        metric.update(pool(8))


def test_ranks_change_nothing() -> None:
    pairs = pool(40)
    assert figures(pairs[::2], pairs[1::2]) == figures(pairs)


def test_any_image_of_a_caption_and_any_caption_of_an_image_is_right() -> None:
    first, second, *_ = pool(2)
    twin = Compared(second.image, first.text, b"i2", first.text_name, 10.0)
    again = Compared(first.image, second.text, first.image_name, b"t9", 10.0)
    alike = Compared(first.text, first.text, b"i1", first.text_name, 10.0)
    found = figures([alike, twin, again])
    assert found["textToImageRecallAt1"] >= 0.5
    assert figures([alike, Compared(first.text, first.text, b"i7", first.text_name, 10.0)])["imageToTextRecallAt1"] == 1


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    for value in (0.5, np.nan):
        same = np.full(4, value, np.float32)
        pairs = [Compared(same, same, b"i%d" % number, b"t%d" % number, 10.0) for number in range(20)]
        assert figures(pairs)["imageToTextRecallAt5"] == 0.0
    assert np.isnan(figures([])["loss"])
