"""Handwritten digits are told apart, whatever the seed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.images import ARCHITECTURES, classified
from support.measured import Measured

WIDE = {"initializer_range": 0.1}
"""About one over the root of the width; ViT's own 0.02 is for 768."""
VIT = {**ARCHITECTURES["vit"], "config": ARCHITECTURES["vit"]["config"] | WIDE}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_resnet_tells_digits_apart_whatever_the_seed(tmp_path: Path, measured: Measured, seed: int) -> None:
    reached = accuracy(tmp_path, "resnet", seed, steps=300, rate=3e-3)
    measured({"guess": 0.1, "accuracy": reached})
    assert reached >= 0.97


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_vit_tells_digits_apart_whatever_the_seed(tmp_path: Path, measured: Measured, seed: int) -> None:
    spec = {"crop": 0.7}  # a ViT knows nothing of places, and learns from few images only if it sees them anew
    reached = accuracy(tmp_path, "vit", seed, steps=500, rate=2e-3, spec=spec, model__architecture=VIT)
    measured({"guess": 0.1, "accuracy": reached})
    assert reached >= 0.95


def accuracy(
    folder: Path, kind: str, seed: int, *, steps: int, rate: float, spec: dict[str, Any] | None = None, **changes: Any
) -> float:
    """On a fifth of the digits, of a new model that has seen the others."""
    training = {
        "examplesPerStep": 64,
        "maxSteps": steps,
        "learningRate": rate,
        "warmupSteps": 30,
        "precision": "fp32",
        "seed": seed,
    }
    config = classified(folder, kind, spec, count=1797, training=training, checkpoint={"everySteps": 10_000}, **changes)
    torch.set_num_threads(1)
    return run_rank(config, Ranks(), Silent()).metrics["accuracy"]
