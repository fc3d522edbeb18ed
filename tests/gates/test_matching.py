"""Drawn shapes find their captions among 64, their captions find them, and labels are told apart by their names.

A model that has learnt it on dark grounds learns it on grey ones from four drawings of each scene.
"""

from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.result import RankResult
from support.measured import Measured
from support.pairs import COLOURS, DARK, GREY, PLACES, SHAPES, SIDE, matched, rows, write_pairs
from support.runs import as_parent, before_and_after

PROMPTS = [f"a {colour} {{label}} {place}" for colour in COLOURS for place in PLACES]
FIGURES = {
    "image to text R@1": "imageToTextRecallAt1",
    "text to image R@1": "textToImageRecallAt1",
    "zero-shot accuracy": "zeroShotAccuracy",
}
TOWER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
CLIP = {
    "type": "clip",
    "config": {
        "projection_dim": 64,
        "text_config": TOWER,
        "vision_config": {**TOWER, "image_size": SIDE, "patch_size": 8},
    },
}
TRAINING = {
    "examplesPerStep": 64,
    "maxSteps": 900,
    "learningRate": 2e-3,
    "warmupSteps": 30,
    "weightDecay": 0.0,
    "precision": "fp32",
    "seed": 1,
}

Figures = dict[str, float]


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> tuple[Figures, RankResult]:
    """What a new model knows of shapes on dark grounds, and the one that has learnt from 40 drawings of each scene."""
    folder = tmp_path_factory.mktemp("general")
    return before_and_after(matching(folder, ground=DARK, times=40))


def matching(folder: Path, ground: range, times: int, parent: Folder | None = None, **training: Any) -> RunConfig:
    """The run config of a model that learns from so many drawings of each scene, and is judged on another one."""
    return matched(
        folder,
        write_pairs(folder / "train.parquet", rows(times, seed=1, ground=ground)),
        {"zeroShot": {"labels": list(SHAPES), "prompts": PROMPTS}},
        parent,
        **({} if parent else {"model": {"architecture": CLIP}}),
        data__validation={"sources": [{"uri": write_pairs(folder / "unseen.parquet", rows(1, seed=2, ground=ground))}]},
        training={**TRAINING, **training},
        evaluation={"baseline": True},
        checkpoint={"everySteps": 10_000},
    )


def found(metrics: Figures) -> Figures:
    return {name: metrics[figure] for name, figure in FIGURES.items()}


def test_images_captions_and_labels_find_each_other(general: tuple[Figures, RankResult], measured: Measured) -> None:
    untrained, trained = (found(metrics) for metrics in (general[0], general[1].metrics))
    measured({f"{name} untrained": figure for name, figure in untrained.items()} | trained)
    assert min(trained["image to text R@1"], trained["text to image R@1"]) > 0.95
    assert trained["zero-shot accuracy"] > 0.9


def test_a_new_domain_is_learnt_from_few_pairs_sooner_than_from_scratch(
    tmp_path: Path, general: tuple[Figures, RankResult], measured: Measured
) -> None:
    few: dict[str, Any] = {"ground": GREY, "times": 4, "maxSteps": 60, "learningRate": 1e-3, "warmupSteps": 10}
    before, child = before_and_after(matching(tmp_path / "child", parent=as_parent(general[1]), **few))
    _, scratch = before_and_after(matching(tmp_path / "scratch", **few))
    parent, new, tuned = (found(metrics) for metrics in (before, scratch.metrics, child.metrics))
    for name in FIGURES:
        measured({f"{name} of the parent": parent[name], "from scratch": new[name], "fine-tuned": tuned[name]})
    assert all(tuned[name] > max(parent[name], new[name]) + 0.2 for name in FIGURES)
