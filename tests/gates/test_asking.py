"""Answers are found where only the question says which of several they are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.words import vocabulary

NAMES = ["anna", "bo", "carla", "dmitri", "eve", "farid", "gina", "hugo"]
PLACES = ["oslo", "bergen", "rome", "paris", "lima", "cairo", "delhi", "kyoto"]
SURROUNDINGS = ["old", "new", "north", "south"]
WORDS = [*NAMES, *PLACES, *SURROUNDINGS, ".", "lives", "in", "where", "does", "live", "who"]
ROFORMER = {
    "type": "roformer",
    "config": {
        "hidden_size": 64,
        "embedding_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "initializer_range": 0.12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
"""BERT with rotary positions: it need not learn for each place anew who its neighbours are."""


def stories(number: int, seed: int) -> Iterator[dict[str, Any]]:
    """Where three people live, in one word or two, and a question about one of them."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        names = random.permutation(NAMES)[:3].tolist()
        places = random.permutation(PLACES)[:3].tolist()
        homes = [f"{random.choice(SURROUNDINGS)} {place}" if random.random() < 0.5 else place for place in places]
        text = " . ".join(f"{name} lives in {home}" for name, home in zip(names, homes, strict=True))
        asked = int(random.integers(3))
        question, answer = (
            (f"where does {names[asked]} live", homes[asked])
            if random.random() < 0.5
            else (f"who lives in {homes[asked]}", names[asked])
        )
        yield {
            "text": text,
            "question": question,
            "answers": {"text": [answer], "answer_start": [text.index(answer)]},
        }


def test_who_lives_where_is_answered_from_the_text(tmp_path: Path, measured: Measured) -> None:
    rows = list(stories(8000, seed=3))
    config = finetune(
        tmp_path,
        {"questionAnswering": {}},
        write_rows(tmp_path / "stories.jsonl", iter(rows)),
        model__architecture=ROFORMER,
        tokenizer={"from": {"uri": vocabulary(tmp_path / "tokenizer", WORDS)}},
        data__sequence_length=32,
        data__validation={"fraction": 0.1},
        training={
            "examplesPerStep": 64,
            "maxSteps": 1200,
            "learningRate": 2e-3,
            "weightDecay": 0.0,
            "warmupSteps": 50,
            "precision": "fp32",
            "seed": 1,
        },
        checkpoint={"everySteps": 10_000},
    )
    torch.set_num_threads(1)
    figures = run_rank(config, Ranks(), Silent()).metrics
    trivial = Counter(first_of_its_kind(row) in row["answers"]["text"] for row in rows)[True] / len(rows)
    measured({"first of the right kind": trivial, "exact match": figures["exactMatch"], "F1": figures["f1"]})
    assert figures["exactMatch"] > 0.95
    assert figures["f1"] >= figures["exactMatch"] > trivial + 0.5


def first_of_its_kind(row: dict[str, str]) -> str:
    """Where, or who, the text names first."""
    name, _, home = row["text"].split(" . ")[0].partition(" lives in ")
    return home if row["question"].startswith("where") else name
