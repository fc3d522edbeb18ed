"""An encoder that has painted what was hidden of digits tells them apart by ten of each, better than a random one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.result import RankResult
from support.images import LABELS, digits, learning, painted, write_images
from support.measured import Measured

LABELLED = 10
"""Images of each digit."""
SEEN = 1400
"""Images without labels, those with labels among them; the others judge."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_probe_on_the_pretrained_encoder_beats_the_random_one(tmp_path: Path, measured: Measured, seed: int) -> None:
    torch.set_num_threads(1)
    every = digits()
    mixed = [every[number] for number in np.random.default_rng(seed).permutation(len(every))]
    few = [image for label in LABELS for image in [each for each in mixed[:SEEN] if each[1] == label][:LABELLED]]
    seen, labelled, judged = (
        write_images(tmp_path / f"{name}.parquet", images)
        for name, images in {"seen": mixed[:SEEN], "labelled": few, "judged": mixed[SEEN:]}.items()
    )
    random = encoder(tmp_path / "random", seen, steps=1, rate=1e-8, seed=seed)
    pretrained = encoder(tmp_path / "pretrained", seen, steps=600, rate=3e-3, seed=seed)
    figures = {
        "guess": 0.1,
        "random encoder": accuracy(tmp_path / "random", labelled, judged, seed, random, method={"freeze": {}}),
        "from scratch": accuracy(tmp_path / "scratch", labelled, judged, seed, None),
        "pretrained encoder": accuracy(
            tmp_path / "pretrained", labelled, judged, seed, pretrained, method={"freeze": {}}
        ),
    }
    measured(figures)
    assert figures["pretrained encoder"] > figures["random encoder"] + 0.05


def encoder(folder: Path, seen: str, steps: int, rate: float, seed: int) -> Folder:
    """A masked autoencoder that has seen images for so many steps."""
    training = {"examplesPerStep": 128, "maxSteps": steps, "learningRate": rate, "warmupSteps": steps // 20}
    result = run(painted(folder, seen, data__validation=None, training=paced(training, seed)))
    return Folder(uri=result.artifact_uri, digest=result.artifact_digest)


def accuracy(folder: Path, labelled: str, judged: str, seed: int, parent: Folder | None, **changes: Any) -> float:
    """Of a classifier that has learnt from the labelled images."""
    training = {"examplesPerStep": 100, "maxSteps": 150, "learningRate": 0.02 if parent else 2e-3}
    config = learning(
        folder / "probe",
        labelled,
        parent=parent,
        data__validation={"sources": [{"uri": judged, "column": "image"}]},
        training=paced(training, seed),
        checkpoint={"everySteps": 10_000},
        **changes,
    )
    return run(config).metrics["accuracy"]


def paced(training: dict[str, Any], seed: int) -> dict[str, Any]:
    return {**training, "precision": "fp32", "seed": seed}


def run(config: RunConfig) -> RankResult:
    return run_rank(config, Ranks(), Silent())
