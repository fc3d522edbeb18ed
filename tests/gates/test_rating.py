"""A number is learnt that no sum over words gives: what stands before a word turns it round, or doubles it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.words import vocabulary

OPINIONS = {"great": 3.0, "good": 2.0, "fine": 1.0, "dull": -1.0, "bad": -2.0, "awful": -3.0}
MODIFIERS = {"not": -1.0, "very": 2.0, "rather": 0.5}
SUBJECTS = ["food", "view", "staff", "room", "price"]
WORDS = [*OPINIONS, *MODIFIERS, *SUBJECTS]
LLAMA = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def reviews(number: int, seed: int) -> Iterator[dict[str, str | float]]:
    """One to five remarks, such as "not good food", and the mean of what they say."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        remarks, worths = [], []
        for subject in random.permutation(SUBJECTS)[: random.integers(1, 6)]:
            modifier, opinion = random.choice(["", *MODIFIERS]), random.choice(list(OPINIONS))
            remarks.append(f"{modifier} {opinion} {subject}".strip())
            worths.append(MODIFIERS.get(modifier, 1.0) * OPINIONS[opinion])
        yield {"text": " ".join(remarks), "target": float(np.mean(worths))}


def test_what_a_review_says_is_a_number(tmp_path: Path, measured: Measured) -> None:
    train, unseen = list(reviews(8000, seed=6)), list(reviews(1000, seed=7))
    config = finetune(
        tmp_path,
        {"sequenceRegression": {}},
        write_rows(tmp_path / "train.jsonl", iter(train)),
        model__architecture={"type": "llama", "config": LLAMA},
        tokenizer={"from": {"uri": vocabulary(tmp_path / "tokenizer", WORDS)}},
        data__sequence_length=24,
        data__validation={"sources": [{"uri": write_rows(tmp_path / "unseen.jsonl", iter(unseen))}]},
        training={
            "examplesPerStep": 64,
            "maxSteps": 400,
            "learningRate": 3e-3,
            "weightDecay": 0.0,
            "warmupSteps": 40,
            "precision": "fp32",
            "seed": 1,
        },
        checkpoint={"everySteps": 10_000},
    )
    torch.set_num_threads(1)
    figures = run_rank(config, Ranks(), Silent()).metrics
    words = r2_of_words(train, unseen)
    measured({"R2 of a sum over words": words, "R2": figures["r2"]})
    assert figures["r2"] > 0.98 > words + 0.2


def r2_of_words(train: list[dict[str, str | float]], unseen: list[dict[str, str | float]]) -> float:
    """Share of the variance that linear regression on the words' shares explains."""

    def shares(rows: list[dict[str, str | float]]) -> tuple[np.ndarray, np.ndarray]:
        texts = [str(row["text"]).split() for row in rows]
        counts = np.array([[text.count(word) / len(text) for word in WORDS] for text in texts])
        return counts, np.array([row["target"] for row in rows])

    weights, *_ = np.linalg.lstsq(*shares(train), rcond=None)
    counts, targets = shares(unseen)
    return float(1 - np.var(targets - counts @ weights) / np.var(targets))
