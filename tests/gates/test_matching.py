"""Drawn shapes find their captions among 64, their captions find them, and labels are told apart by their names."""

from pathlib import Path

import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated
from support.jobs import Recorder
from support.measured import Measured
from support.pairs import COLOURS, PLACES, SHAPES, SIDE, matched, rows, write_pairs

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


def test_images_captions_and_labels_find_each_other(tmp_path: Path, measured: Measured) -> None:
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
    recorder = Recorder()
    metrics = run_rank(config, Ranks(), recorder).metrics
    untrained = recorder.of(Evaluated)[0].metrics
    found = {name: metrics[figure] for name, figure in FIGURES.items()}
    measured({f"{name} untrained": untrained[figure] for name, figure in FIGURES.items()} | found)
    assert min(found["image to text R@1"], found["text to image R@1"]) > 0.95
    assert found["zero-shot accuracy"] > 0.9
