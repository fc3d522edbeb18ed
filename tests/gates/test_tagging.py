"""What fills the slots of templates is found in sentences that were never read."""

from collections import Counter, defaultdict
from pathlib import Path

import torch
from seqeval.metrics import f1_score

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.slots import LABELS, sentences

BERT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def test_what_fills_slots_is_found(tmp_path: Path, measured: Measured) -> None:
    train = list(sentences(400, seed=1))
    judged = [row for row in sentences(1500, seed=2) if row not in train]
    config = finetune(
        tmp_path,
        {"tokenClassification": {"labels": LABELS}},
        write_rows(tmp_path / "train.jsonl", iter(train)),
        model__architecture={"type": "bert", "config": BERT},
        tokenizer={"train": {"algorithm": "wordpiece", "vocabSize": 160}},
        data__sequence_length=32,
        data__validation={"sources": [{"uri": write_rows(tmp_path / "validation.jsonl", iter(judged))}]},
        training={
            "examplesPerStep": 32,
            "maxSteps": 250,
            "learningRate": 2e-3,
            "warmupSteps": 20,
            "precision": "fp32",
            "seed": 1,
        },
    )
    torch.set_num_threads(1)
    found = run_rank(config, Ranks(), Silent()).metrics["f1"]
    by_word = of_words_alone(train, judged)
    measured({"each word's commonest tag": by_word, "F1": found})
    assert found > 0.98 > by_word


def of_words_alone(train: list[dict[str, list[str]]], judged: list[dict[str, list[str]]]) -> float:
    """F1 of giving each word the tag that it has most often, wherever it stands."""
    tags: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row["text"], row["labels"], strict=True):
            tags[word][tag] += 1
    said = [[tags[word].most_common(1)[0][0] for word in row["text"]] for row in judged]
    return float(f1_score([row["labels"] for row in judged], said))
