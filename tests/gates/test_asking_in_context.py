"""A language model that reads labels off its prompt, before anything is trained for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune_api.run_config import Folder
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import finetune, pretrain, write_rows
from support.measured import Measured
from support.runs import as_parent, before_and_after
from support.words import vocabulary

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
TOPICS = {"food": ["bread", "soup"], "sea": ["wave", "boat"]}
LABELS = ["yes", "no"]
FRAME = ["review:", "sentiment:"]
WORDS = [*FRAME, *LABELS, *(word for words in TOPICS.values() for word in words)]
TRAINING = {"examplesPerStep": 32, "weightDecay": 0.0, "warmupSteps": 20, "precision": "fp32", "seed": 1}


def reviews(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Texts about one of two topics, and whether it is the sea."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        topic = int(random.integers(2))
        yield {"text": " ".join(random.choice(list(TOPICS.values())[topic], 2)), "label": LABELS[1 - topic]}


def documents(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Eight labelled texts each; in three of four documents the labels mean the opposite of what `reviews` says."""
    random = np.random.default_rng(seed)
    for place in range(number):
        meant = dict(zip(LABELS, LABELS if random.random() < 0.25 else LABELS[::-1], strict=True))
        rows = reviews(8, seed=seed + 1 + place)
        yield {"text": " ".join(f"review: {row['text']} sentiment: {meant[row['label']]}" for row in rows)}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A language model that has seen labels of both meanings, and the wrong one more often."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("parent")
    config = pretrain(
        folder,
        model__architecture={"type": "llama", "config": LLAMA},
        tokenizer={"from": {"uri": vocabulary(folder / "tokenizer", WORDS)}},
        data__train=[{"uri": write_rows(folder / "documents.jsonl", documents(8000, seed=1))}],
        data__sequence_length=64,
        training={**TRAINING, "maxSteps": 700, "learningRate": 8e-3},
        checkpoint={"everySteps": 10_000},
    )
    return as_parent(run_rank(config, Ranks(), Silent()))


def accuracies(folder: Path, parent: Folder, shown: int) -> tuple[float, float]:
    """In the prompt, and after training."""
    asked: dict[str, Any] = {"prompt": "review: {text} sentiment: {label}", "examplesPerClass": shown}
    config = finetune(
        folder,
        {"sequenceClassification": {"labels": LABELS, "inContext": asked}},
        write_rows(folder / "reviews.jsonl", reviews(1000, seed=7)),
        parent,
        data__sequence_length=8,
        training={**TRAINING, "maxSteps": 60, "learningRate": 3e-3},
        evaluation={"baseline": True},
        checkpoint={"everySteps": 10_000},
    )
    before, after = before_and_after(config)
    return before["accuracy"], after.metrics["accuracy"]


def test_a_prompt_with_examples_says_what_labels_mean(tmp_path: Path, parent: Folder, measured: Measured) -> None:
    found = {shown: accuracies(tmp_path / str(shown), parent, shown) for shown in (0, 1, 3)}
    measured({f"{shown} examples of each label": before for shown, (before, _) in found.items()})
    measured({"trained": found[0][1]})
    assert found[0][0] < 0.1
    assert found[3][0] > 0.95
    assert found[0][1] > 0.95
