"""A language model learns a language whose entropy is known, and no more than can be known of it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import pretrain, write_rows

LETTERS = "abcdefgh"
LENGTH = 63
"""Letters of a document: with its begin token, a row."""


Floats = NDArray[np.float64]


def chain(random: np.random.Generator) -> Floats:
    """Probabilities of the next letter, by letter."""
    return random.dirichlet(np.full(len(LETTERS), 0.5), size=len(LETTERS))


def stationary(transitions: Floats) -> Floats:
    """How often each letter comes in the long run."""
    values, vectors = np.linalg.eig(transitions.T)
    most = np.real(vectors[:, np.argmax(np.real(values))])
    shares: Floats = most / most.sum()
    return shares


def entropy(probabilities: Floats) -> Floats:
    """In nats, of each row."""
    found: Floats = -(probabilities * np.log(probabilities)).sum(-1)
    return found


def document(transitions: np.ndarray, random: np.random.Generator) -> str:
    letters = [random.choice(len(LETTERS), p=stationary(transitions))]
    while len(letters) < LENGTH:
        letters.append(random.choice(len(LETTERS), p=transitions[letters[-1]]))
    return "".join(LETTERS[letter] for letter in letters)


def letters_are_tokens(folder: Path) -> str:
    """A tokenizer that knows letters and the begin of a document; its URI."""
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "<unk>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder.as_uri()


def test_a_model_of_a_markov_chain_reaches_its_entropy(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    transitions = chain(random)
    uri = write_rows(tmp_path / "chain.jsonl", ({"text": document(transitions, random)} for _ in range(2000)))
    config = pretrain(
        tmp_path,
        tokenizer={"from": {"uri": letters_are_tokens(tmp_path / "tokenizer")}},
        data={"train": [{"uri": uri}], "validation": {"fraction": 0.1}, "sequenceLength": LENGTH + 1},
        training={"examplesPerStep": 32, "maxSteps": 150, "learningRate": 0.01, "precision": "fp32", "warmupSteps": 10},
        checkpoint={"everySteps": 1000},
    )
    result = run_rank(config, Ranks(), Silent())
    usual = stationary(transitions)
    # A document's first letter comes as often as in the long run; each other one depends on the letter before it.
    expected = (entropy(usual) + (LENGTH - 1) * usual @ entropy(transitions)) / LENGTH
    assert result.metrics["loss"] == pytest.approx(expected, rel=0.02)
    assert result.metrics["loss"] < 0.9 * entropy(usual)
