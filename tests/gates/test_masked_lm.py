"""What stands behind masks is learnt as far as it can be known, and which segments belong together."""

from collections.abc import Iterator
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune_api.run_config import RunConfig
from pretune_trainer.data.stream import held_out
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import write_rows
from support.measured import Measured
from support.objectives import masked
from support.words import vocabulary

LETTERS = "abcdefgh"
LENGTH = 16
RATE = 0.15
BERT: dict[str, Any] = {
    "type": "bert",
    "config": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}

ROFORMER = {"type": "roformer", "config": {**BERT["config"], "embedding_size": 64}}
"""BERT with rotary positions: it need not learn for each place anew who its neighbours are."""


def documents(first: np.ndarray, transitions: np.ndarray, random: np.random.Generator) -> Iterator[str]:
    for _ in range(20_000):
        letters = [random.choice(len(LETTERS), p=first)]
        for value in random.random(LENGTH - 1):
            letters.append(int(np.searchsorted(transitions[letters[-1]].cumsum(), value)))
        yield " ".join(LETTERS[min(letter, 7)] for letter in letters)


def posterior(seen: np.ndarray, first: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """P(letter | all that is seen, this place was chosen), [places, letters], by forward and backward sums.

    `seen` has letters from 0 on, and -1 for a mask. What was chosen is as many places as the rate says, rounded up or
    down at random; of these 80% are masked, 10% random, 10% as they were.
    """
    size, least = len(LETTERS), int(RATE * LENGTH)
    most = least + 1
    up = RATE * LENGTH - least
    kept = np.where(seen[:, None] == -1, 0.0, np.eye(size)[np.maximum(seen, 0)])
    chosen = np.where(seen[:, None] == -1, 0.8, 0.1 * kept + 0.1 / size)

    def emit(place: int, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Over (letter, number chosen so far), if this place was not chosen, and if it was."""
        moved = np.concatenate([np.zeros((size, 1)), before[:, :-1]], axis=1)
        return before * kept[place][:, None], moved * chosen[place][:, None]

    start = np.zeros((size, most + 1))
    start[:, 0] = first
    taken = []
    state = start
    for place in range(LENGTH):
        not_chosen, was_chosen = emit(place, state)
        taken.append(was_chosen)
        state = transitions.T @ (not_chosen + was_chosen)
    after = np.zeros((size, most + 1))
    after[:, least], after[:, most] = (1 - up) / comb(LENGTH, least), up / comb(LENGTH, most)
    result = np.zeros((LENGTH, size))
    for place in reversed(range(LENGTH)):
        result[place] = (taken[place] * after).sum(1)
        moved = np.concatenate([after[:, 1:], np.zeros((size, 1))], axis=1)
        after = transitions @ (after * kept[place][:, None] + moved * chosen[place][:, None])
    shares: np.ndarray = result / np.maximum(result.sum(1, keepdims=True), 1e-300)
    return shares


def exact_loss(inputs: Inputs, first: np.ndarray, transitions: np.ndarray) -> float:
    """Of a model that knows the chain and the masks' law, on the very rows that the model is judged on."""
    letters = inputs.build.tokenizer.convert_tokens_to_ids(list(LETTERS))
    number = np.full(len(inputs.build.tokenizer), -1)
    number[letters] = np.arange(len(LETTERS))
    losses = []
    for pack in held_out(inputs.cache.validation, inputs.task.layout, 0, 1):
        batch = inputs.task.batch([pack])
        seen = number[batch.inputs["input_ids"][0, 1 : LENGTH + 1].numpy()]
        known = posterior(seen, first, transitions)
        losses.append(-np.log(known[batch.targets["places"].numpy() - 1, number[batch.targets["mlm"].numpy()]]))
    return float(np.concatenate(losses).mean())


def test_a_masked_language_model_reaches_the_exact_entropy_behind_its_masks(tmp_path: Path, measured: Measured) -> None:
    random = np.random.default_rng(3)
    transitions = random.dirichlet(np.full(len(LETTERS), 0.5), size=len(LETTERS))
    first = np.full(len(LETTERS), 1 / len(LETTERS))
    rows = ({"text": text} for text in documents(first, transitions, random))
    config = masked(
        tmp_path,
        model__architecture=ROFORMER,
        tokenizer={"from": {"uri": vocabulary(tmp_path / "tokenizer", list(LETTERS))}},
        data={
            "train": [{"uri": write_rows(tmp_path / "chain.jsonl", rows)}],
            "validation": {"fraction": 0.1},
            "sequenceLength": LENGTH + 2,
        },
        training=training(rows=128, steps=700),
        checkpoint={"everySteps": 10_000},
    )
    result = run(config)
    expected = exact_loss(gather_inputs(config, Ranks(), Silent()), first, transitions)
    measured({"exact": expected, "loss": result["loss"], "ratio": result["loss"] / expected})
    assert result["loss"] == pytest.approx(expected, rel=0.02)


def topics(random: np.random.Generator) -> Iterator[str]:
    """Documents of four sentences, each with words of one of 24 topics."""
    for _ in range(4000):
        words = [f"t{random.integers(24)}w{number}" for number in range(4)]
        topic = words[0].partition("w")[0]
        yield "\n".join(" ".join(f"{topic}w{word}" for word in random.integers(0, 4, 4)) for _ in range(4))


def test_the_next_sentence_is_known_by_its_topic(tmp_path: Path, measured: Measured) -> None:
    random = np.random.default_rng(4)
    words = [f"t{topic}w{word}" for topic in range(24) for word in range(4)]
    config = masked(
        tmp_path,
        spec={"nextSentence": True},
        model__architecture=BERT,
        tokenizer={"from": {"uri": vocabulary(tmp_path / "tokenizer", words)}},
        data={
            "train": [{"uri": write_rows(tmp_path / "topics.jsonl", ({"text": text} for text in topics(random)))}],
            "validation": {"fraction": 0.1},
            "sequenceLength": 24,
        },
        training=training(rows=64, steps=600),
        checkpoint={"everySteps": 10_000},
    )
    result = run(config)
    measured({"guess": 0.5, "accuracy": result["nextSentenceAccuracy"]})
    assert result["nextSentenceAccuracy"] > 0.95


def training(rows: int, steps: int) -> dict[str, object]:
    return {
        "examplesPerStep": rows,
        "maxSteps": steps,
        "learningRate": 3e-3,
        "weightDecay": 0.0,
        "warmupSteps": 50,
        "precision": "fp32",
        "seed": 1,
    }


def run(config: RunConfig) -> dict[str, float]:
    torch.set_num_threads(1)
    return run_rank(config, Ranks(), Silent()).metrics
