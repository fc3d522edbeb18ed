"""Drawn shapes find their captions among 64, their captions find them, and labels are told apart by their names."""

from pathlib import Path

import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.pairs import COLOURS, PLACES, SHAPES, SIDE, matched, rows, write_pairs

PROMPTS = [f"a {colour} {{label}} {place}" for colour in COLOURS for place in PLACES]
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


def test_images_captions_and_labels_find_each_other(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    drawn = write_pairs(tmp_path / "train.parquet", rows(40, seed=1))
    unseen = write_pairs(tmp_path / "validation.parquet", rows(1, seed=2))
    config = matched(
        tmp_path,
        drawn,
        {"zeroShot": {"labels": list(SHAPES), "prompts": PROMPTS}},
        model={"architecture": CLIP},
        data__validation={"sources": [{"uri": unseen}]},
        training=TRAINING,
        evaluation={"baseline": True},
    )
    metrics = run_rank(config, Ranks(), Silent()).metrics
    print(f"64 scenes: {metrics}")
    assert metrics["imageToTextRecallAt1"] > 0.95
    assert metrics["textToImageRecallAt1"] > 0.95
    assert metrics["zeroShotAccuracy"] > 0.9
