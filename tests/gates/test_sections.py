"""A few labels are enough for who has read: Debian's packages, told to be of a section by what is said of them."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from support.debian import Package, Sides, reader
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.runs import run

BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
STEADY = {"learningRate": 3e-3, "precision": "fp32", "seed": 1}
LENGTH = 64
LABELS = 600


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, sides: Sides) -> Folder:
    """A masked language model that has read of 20,000 packages, and not of their sections."""
    training = {**STEADY, "maxSteps": 1500, "warmupSteps": 100}
    return reader(tmp_path_factory.mktemp("parent"), sides[0][:20_000], BERT, training)


def test_the_section_of_a_package_is_told_from_few_labels(
    tmp_path: Path, measured: Measured, sides: Sides, parent: Folder
) -> None:
    sections = [section for section, _ in Counter(each.section for each in sides[0]).most_common(10)]

    def rows(side: list[Package]) -> Iterator[dict[str, str]]:
        return ({"text": each.english.text, "label": each.section} for each in side if each.section in sections)

    judged = list(islice(rows(sides[1]), 800))
    train = write_rows(tmp_path / "train.jsonl", islice(rows(sides[0]), LABELS))
    validation = write_rows(tmp_path / "judged.jsonl", iter(judged))

    def accuracy(name: str, origin: Folder | None) -> float:
        new = {"model__architecture": {"type": "bert", "config": BERT}, "tokenizer": {"from": {"uri": parent.uri}}}
        config = finetune(
            tmp_path / name,
            {"sequenceClassification": {"labels": sections}},
            train,
            origin,
            data={
                "train": [{"uri": train}],
                "validation": {"sources": [{"uri": validation}]},
                "sequenceLength": LENGTH,
            },
            training={**STEADY, "examplesPerStep": 16, "epochs": 6, "warmupSteps": 10},
            checkpoint={"everySteps": 10_000},
            **({} if origin else new),
        )
        return run(Ranks(), config)[0].metrics["accuracy"]

    majority = Counter(row["label"] for row in judged).most_common(1)[0][1] / len(judged)
    scratch, chain = accuracy("scratch", None), accuracy("chain", parent)
    measured({"majority": majority, "from scratch": scratch, "chain": chain})
    assert chain > scratch + 0.05
    assert scratch > majority
