"""bf16: on several ranks the weights themselves are cast, but no targets; a device that has none is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_api.run_config import RunConfig
from pretune_trainer.data.stream import held_out
from pretune_trainer.errors import UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.group import in_ranks
from support.images import classified, digits, painted, write_images
from support.jobs import finetune, pretrain, write_rows
from support.language import paragraphs
from support.runs import as_parent, gathered, named, run

FEW: dict[str, Any] = {"training__max_steps": 2, "training__examples_per_step": 8}


def in_bf16(config: RunConfig) -> RunConfig:
    """The same job under another name."""
    training = config.training.model_copy(update={"precision": "bf16"})
    return named(config, "coarse").model_copy(update={"training": training})


def convolved(folder: Path) -> RunConfig:
    shape = {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2, "patch_size": 2, "image_size": 8}
    return classified(folder, count=40, model__architecture={"type": "convnext", "config": shape}, **FEW)


def frozen(folder: Path) -> RunConfig:
    return classified(folder, "resnet", {"freezeBatchNorm": True}, count=40, **FEW)


def shared(folder: Path) -> RunConfig:
    return classified(folder, "resnet", count=40, **FEW)


def rated(folder: Path) -> RunConfig:
    """Prices of which bf16 knows none: the nearest are 4 apart."""
    rows = ({"text": text[:80], "target": 1001.7 + number % 2} for number, text in enumerate(paragraphs()[:60]))
    task = {"sequenceRegression": {"targetColumn": "target"}}
    return finetune(folder, task, write_rows(folder / "prices.jsonl", rows), **FEW, training__learning_rate=1e-9)


@pytest.mark.parametrize(("job", "tolerance"), [(convolved, 0.02), (frozen, 0.02), (shared, 0.02), (rated, 1e-4)])
def test_two_ranks_learn_in_bf16_what_one_learns_in_fp32(
    tmp_path: Path, job: Callable[[Path], RunConfig], tolerance: float
) -> None:
    config = job(tmp_path)
    alone, steps = run(Ranks(), config)
    (together, others), *_ = in_ranks(2, run, in_bf16(config))
    assert [each.loss for each in others] == pytest.approx([each.loss for each in steps], rel=tolerance)
    assert together.metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=tolerance)


def test_two_ranks_compare_with_the_model_before_training_in_bf16_too(tmp_path: Path) -> None:
    parent, _ = run(Ranks(), pretrain(tmp_path / "parent", training__max_steps=1))
    rows = ({"prompt": text[:40], "chosen": text[40:90], "rejected": text[90:200]} for text in paragraphs()[:60])
    source = {"uri": write_rows(tmp_path / "pairs.jsonl", rows), "column": "prompt"}
    job = finetune(tmp_path, {"preference": {}}, source["uri"], as_parent(parent), data__train=[source], **FEW)
    (_, steps), _ = in_ranks(2, run, in_bf16(job))
    assert steps[0].loss == pytest.approx(math.log(2), abs=1e-3)


def test_which_patches_are_hidden_is_no_matter_of_precision(tmp_path: Path) -> None:
    inputs = gathered(painted(tmp_path, write_images(tmp_path / "digits.parquet", digits()[:60])))
    inputs.make_model()
    noise = inputs.task.batch(list(held_out(inputs.cache.validation, inputs.task.layout))).inputs["noise"]
    cast = noise.bfloat16() if noise.is_floating_point() else noise  # what sharding does where a block is entered
    assert all(len(row.unique()) == len(row) for row in cast)


def test_a_device_without_bf16_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    config = pretrain(tmp_path, training__precision="bf16")
    with pytest.raises(UserError, match=r"spec\.training\.precision: Tesla T4 knows no bf16"):
        run_rank(config, Ranks(device=torch.device("cuda")), Silent())
