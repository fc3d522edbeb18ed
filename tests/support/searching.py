"""Queries and documents of the language reference, and jobs that learn which belong together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pretune_api.run_config import Folder, RunConfig
from support.jobs import finetune, write_rows
from support.language import paragraphs
from support.objectives import ARCHITECTURES

SEARCH: dict[str, Any] = {"positiveColumn": "positive", "hardNegatives": {"perQuery": 2}}


def searches(number: int) -> Iterator[dict[str, object]]:
    """Beginnings of paragraphs, what follows them, and what follows others: of each number from none to three."""
    long = [text for text in paragraphs() if len(text) > 120][:number]
    for place, text in enumerate(long):
        others = [long[(place + step) % number][60:120] for step in range(1, 1 + place % 4)]
        yield {"text": text[:60], "positive": text[60:120], "negatives": others}


def embedding(
    folder: Path, spec: dict[str, Any] = SEARCH, parent: Folder | None = None, kind: str = "bert", **changes: Any
) -> RunConfig:
    """The run config of an encoder, new or from `parent`, that learns 100 searches."""
    new = {"model__architecture": ARCHITECTURES[kind]} if parent is None else {}
    uri = write_rows(folder / "searches.jsonl", searches(100))
    return finetune(folder, {"embedding": spec}, uri, parent, **(new | changes))
