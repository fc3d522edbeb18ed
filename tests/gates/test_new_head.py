"""A ResNet that knows digits tells odd from even by two of each digit; its batch normalisations stay as they were."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from pretune_trainer.result import RankResult
from support.images import LABELS, digits, learning, write_images
from support.measured import Measured
from support.runs import as_parent, run, weights_of

Labelled = list[tuple[bytes, str]]
"""Images and their labels."""
SEEN = 1400
"""Images that the parent learns from, those of the new head among them; the others judge."""
FEW = 2
"""Images of each digit that the new head learns from."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_new_head_learns_from_few_images_and_leaves_batch_normalisations_as_they_were(
    tmp_path: Path, measured: Measured, seed: int
) -> None:
    every = digits()
    mixed = [every[number] for number in np.random.default_rng(seed).permutation(len(every))]
    few, judged = parities(first_of_each(mixed[:SEEN])), parities(mixed[SEEN:])
    parent = learnt(tmp_path / "parent", mixed[:SEEN], mixed[SEEN:], seed, steps=150, rate=3e-3)
    child = learnt(tmp_path / "child", few, judged, seed, steps=40, rate=1e-3, parent=as_parent(parent))
    figures = {
        "commoner parity": Counter(label for _, label in judged).most_common(1)[0][1] / len(judged),
        "from scratch": learnt(tmp_path / "scratch", few, judged, seed, steps=40, rate=3e-3).metrics["accuracy"],
        "new head": child.metrics["accuracy"],
    }
    measured({"parent's digits": parent.metrics["accuracy"]} | figures)
    before, after = weights_of(parent), weights_of(child)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if ".normalization." in name}
    assert figures["new head"] > figures["from scratch"] + 0.04
    assert figures["from scratch"] > figures["commoner parity"]


def parities(images: Labelled) -> Labelled:
    """The same digits, labelled by whether they are odd."""
    return [(content, "odd" if int(label) % 2 else "even") for content, label in images]


def first_of_each(images: Labelled) -> Labelled:
    """A few images of each digit."""
    return [image for label in LABELS for image in [each for each in images if each[1] == label][:FEW]]


def learnt(
    folder: Path, images: Labelled, judged: Labelled, seed: int, steps: int, rate: float, parent: Folder | None = None
) -> RankResult:
    """A classifier, new or with a parent whose batch normalisations are frozen, that has learnt from the images."""
    config = learning(
        folder,
        write_images(folder / "images.parquet", images),
        "resnet",
        {"labels": sorted({label for _, label in images}), "freezeBatchNorm": parent is not None},
        parent,
        data__validation={"sources": [{"uri": write_images(folder / "judged.parquet", judged), "column": "image"}]},
        training={
            "examplesPerStep": min(64, len(images)),
            "maxSteps": steps,
            "learningRate": rate,
            "warmupSteps": steps // 10,
            "precision": "fp32",
            "seed": seed,
        },
        checkpoint={"everySteps": 10_000},
    )
    return run(Ranks(), config)[0]
