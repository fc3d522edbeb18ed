"""Prints the score of the chain beside that of training from scratch, and of always saying the commonest label."""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Score:
    """How well the validation functions are told apart."""

    accuracy: float
    f1_macro: float


def main() -> None:
    """Print the table; end with 1 unless the chain is best."""
    chain, scratch, majority = of_job("classify"), of_job("from-scratch"), of_majority()
    table = Table("validation", "accuracy", "macro F1")
    for name, score in {"chain": chain, "from scratch": scratch, "commonest label": majority}.items():
        table.add_row(name, f"{score.accuracy:.3f}", f"{score.f1_macro:.3f}")
    Console().print(table)
    best = chain.accuracy > max(scratch.accuracy, majority.accuracy) and chain.f1_macro > scratch.f1_macro
    sys.exit(0 if best else "The chain is not better than training from scratch.")


def of_job(name: str) -> Score:
    """The final metrics of a FinetuneJob's newest artifact."""
    committed = (DATA / "storage/local").glob(f"finetunejob-{name}-????????/artifact/*/COMMITTED")
    newest = max(committed, key=lambda marker: marker.stat().st_mtime)
    metrics = json.loads((newest.parent / "metrics.json").read_text())["metrics"]
    return Score(metrics["accuracy"], metrics["f1Macro"])


def of_majority() -> Score:
    """What the commonest label of the training data would score; its F1 is the only one that is not 0."""
    label, _ = Counter(labels("train")).most_common(1)[0]
    truth = labels("validation")
    share = truth.count(label) / len(truth)
    return Score(share, 2 * share / (1 + share) / len(set(truth)))


def labels(split: str) -> list[str]:
    """The labels of `train` or `validation`."""
    found: list[str] = pq.read_table(DATA / "labels" / f"{split}.parquet").column("label").to_pylist()
    return found


if __name__ == "__main__":
    main()
