"""A package is found by its synopsis: an encoder that has read what Debian says of others learns to search."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.parallel import Ranks
from support.debian import Package, Sides, reader
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.runs import as_parent, before_and_after, run

BERT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
LENGTH = 64
JUDGED = 500
TRAINING = {"learningRate": 2e-3, "precision": "fp32", "warmupSteps": 10}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, sides: Sides) -> Folder:
    """A masked language model that has read of 10,000 packages."""
    return reader(tmp_path_factory.mktemp("parent"), sides[0][:10_000], BERT, {**TRAINING, "maxSteps": 500, "seed": 1})


def searches(packages: Sequence[Package]) -> Iterator[dict[str, str]]:
    return ({"text": each.english.synopsis, "positive": each.english.description} for each in packages)


def searching(folder: Path, sides: Sides, parent: Folder, spec: dict[str, Any], seed: int, steps: int) -> RunConfig:
    train = write_rows(folder / "train.jsonl", searches(sides[0][:6_000]))
    judged = write_rows(folder / "judged.jsonl", searches(sides[1][:JUDGED]))
    return finetune(
        folder,
        {"embedding": spec},
        train,
        parent,
        data={"train": [{"uri": train}], "validation": {"sources": [{"uri": judged}]}, "sequenceLength": LENGTH},
        training={**TRAINING, "examplesPerStep": 64, "maxSteps": steps, "seed": seed},
        evaluation={"baseline": True},
        checkpoint={"everySteps": 10_000},
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_package_is_found_by_its_synopsis(
    tmp_path: Path, measured: Measured, sides: Sides, parent: Folder, seed: int
) -> None:
    before, result = before_and_after(searching(tmp_path, sides, parent, {"positiveColumn": "positive"}, seed, 150))
    for name in ("recallAt1", "recallAt10", "mrrAt10"):
        measured({f"{name} of the parent": before[name], f"{name} tuned": result.metrics[name]})
    assert result.metrics["recallAt1"] > before["recallAt1"] + 0.2
    assert result.metrics["recallAt10"] > before["recallAt10"] + 0.3


def test_synopses_alone_make_an_encoder_search_better(
    tmp_path: Path, measured: Measured, sides: Sides, parent: Folder
) -> None:
    alone, _ = run(Ranks(), searching(tmp_path / "alone", sides, parent, {}, 1, 100))
    spec = {"positiveColumn": "positive"}
    untuned, tuned = (
        before_and_after(searching(tmp_path / name, sides, start, spec, 1, 1))[0]["recallAt10"]
        for name, start in (("parent", parent), ("child", as_parent(alone)))
    )
    measured({"recallAt10 of the parent": untuned, "after SimCSE": tuned})
    assert tuned > untuned + 0.05
