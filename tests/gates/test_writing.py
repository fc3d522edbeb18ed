"""Translations and summaries that follow from rules are written word for word, of texts that were never read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.grammar import WORDS, long_translations, reports
from support.jobs import finetune, write_rows
from support.measured import Measured
from support.words import vocabulary

T5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2, "dropout_rate": 0.0}
LLAMA = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SHAPES: dict[str, dict[str, Any]] = {"t5": T5, "llama": LLAMA}


@pytest.mark.parametrize(("family", "steps"), [("t5", 400), ("llama", 200)])
def test_words_are_translated_and_put_in_order(tmp_path: Path, measured: Measured, family: str, steps: int) -> None:
    figures = learnt(tmp_path, "translation", family, long_translations(5000, seed=1), steps, rate=4e-3)
    measured({"exact match": figures["exactMatch"], "chrF": figures["chrf"]})
    assert figures["exactMatch"] >= 0.95


def test_the_sentence_that_matters_is_found_and_shortened(tmp_path: Path, measured: Measured) -> None:
    rows = list(reports(5000, seed=2))
    first = sum(row["text"].startswith("above") for row in rows) / len(rows)
    figures = learnt(tmp_path, "summarization", "t5", iter(rows), 700, rate=4e-3)
    measured({"first sentence": first, "exact match": figures["exactMatch"], "ROUGE-L": figures["rougeL"]})
    assert figures["exactMatch"] >= 0.95


def learnt(
    folder: Path, task: str, family: str, rows: Iterator[dict[str, str]], steps: int, rate: float
) -> dict[str, float]:
    """The figures of a new model on texts that it has not read: equal texts fall on the same side."""
    config = finetune(
        folder,
        {task: {"maxTargetTokens": 10}},
        write_rows(folder / "pairs.jsonl", rows),
        model__architecture={"type": family, "config": SHAPES[family]},
        tokenizer={"from": {"uri": vocabulary(folder / "tokenizer", WORDS)}},
        data__sequence_length=40,
        data__validation={"fraction": 0.05},
        training={
            "examplesPerStep": 64,
            "maxSteps": steps,
            "learningRate": rate,
            "weightDecay": 0.0,
            "warmupSteps": 50,
            "precision": "fp32",
            "seed": 1,
        },
        evaluation={"metrics": ["loss", "exactMatch", "rougeL", "chrf"]},
        checkpoint={"everySteps": 10_000},
    )
    torch.set_num_threads(1)
    return run_rank(config, Ranks(), Silent()).metrics
