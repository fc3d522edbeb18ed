"""What a model has read helps it: on what Debian says of its packages, a chain is better than a model from scratch."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import log
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.parallel import Ranks
from pretune_trainer.tasks.language import encode
from support.debian import Package, Sides
from support.jobs import finetune, pretrain, write_rows
from support.measured import Measured
from support.runs import as_parent, run

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "tie_word_embeddings": True,
}
STEADY = {"learningRate": 4e-3, "precision": "fp32", "seed": 1}
LENGTH = 128
LONGEST = 64
"""Characters of a synopsis, and so its tokens at most."""

Pairs = list[tuple[str, str]]
"""What is read, and what is to be written."""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, sides: Sides) -> Folder:
    """A language model that has read of 8,000 packages in English, and of all that are translated in German."""
    folder = tmp_path_factory.mktemp("parent")
    config = pretrain(
        folder,
        model__architecture={"type": "llama", "config": LLAMA},
        tokenizer={"train": {"algorithm": "bpe", "vocabSize": 4096}},
        data={"train": [{"uri": write_rows(folder / "read.jsonl", told(sides[0]))}], "sequenceLength": LENGTH},
        training={**STEADY, "tokensPerStep": 1024, "epochs": 1, "warmupSteps": 50},
        checkpoint={"everySteps": 10_000},
    )
    return as_parent(run(Ranks(), config)[0])


def told(read: list[Package]) -> Iterator[dict[str, str]]:
    """In a document, what is said of a package in one language."""
    english, german = (each.english for each in read[:8000]), (each.german for each in read if each.german)
    for about in (*english, *german):
        yield {"text": about.text}


def test_a_synopsis_is_written_better_by_who_has_read_others(
    tmp_path: Path, measured: Measured, sides: Sides, parent: Folder
) -> None:
    def pairs(side: list[Package]) -> Iterator[tuple[str, str]]:
        for english in (each.english for each in side):
            if len(english.synopsis) < LONGEST:
                yield english.description, english.synopsis

    read, judged = list(islice(pairs(sides[0]), 2000)), list(islice(pairs(sides[1]), 300))
    task = {"summarization": {"maxTargetTokens": LONGEST}}
    scratch, chain = compared(tmp_path, task, read, judged, parent, measured)
    assert chain < scratch - 0.5


def test_a_synopsis_is_translated_better_by_who_has_read_both_languages(
    tmp_path: Path, measured: Measured, sides: Sides, parent: Folder
) -> None:
    def pairs(side: list[Package]) -> Iterator[tuple[str, str]]:
        for english, german in ((each.english.synopsis, each.german.synopsis) for each in side if each.german):
            if max(len(english), len(german)) < LONGEST:
                yield english, german

    read, judged = list(islice(pairs(sides[0]), 4000)), list(islice(pairs(sides[1]), 300))
    task = {"translation": {"maxTargetTokens": LONGEST}}
    scratch, chain = compared(tmp_path, task, read, judged, parent, measured)
    assert chain < scratch - 0.5


def compared(
    folder: Path, task: dict[str, Any], read: Pairs, judged: Pairs, parent: Folder, measured: Measured
) -> tuple[float, float]:
    """Losses a token of what is to be written: of a model from scratch, and of the chain."""
    architecture = {"type": "llama", "config": LLAMA}
    new = {"model__architecture": architecture, "tokenizer": {"from": {"uri": parent.uri}}}
    frequencies = of_frequencies(read, judged, parent)
    scratch = run(Ranks(), learning(folder / "scratch", task, read, judged, None, **new))[0].metrics["loss"]
    chain = run(Ranks(), learning(folder / "chain", task, read, judged, parent))[0].metrics["loss"]
    measured({"loss of frequencies": frequencies, "from scratch": scratch, "chain": chain})
    return scratch, chain


def learning(
    folder: Path, task: dict[str, Any], read: Pairs, judged: Pairs, parent: Folder | None, **changes: Any
) -> RunConfig:
    """The run config of a model that learns to write what is to be written."""
    target = "summary" if "summarization" in task else "translation"
    train, validation = (
        write_rows(folder / f"{name}.jsonl", ({"text": text, target: wanted} for text, wanted in pairs))
        for name, pairs in {"read": read, "judged": judged}.items()
    )
    return finetune(
        folder,
        task,
        train,
        parent,
        data={"train": [{"uri": train}], "validation": {"sources": [{"uri": validation}]}, "sequenceLength": LENGTH},
        training={**STEADY, "examplesPerStep": 8, "epochs": 2, "warmupSteps": 20},
        evaluation={"metrics": ["loss"]},
        checkpoint={"everySteps": 10_000},
        **changes,
    )


def of_frequencies(read: Pairs, judged: Pairs, parent: Folder) -> float:
    """Loss where each token is guessed to be as frequent, in every place, as in what was to be written of `read`.

    Every token is counted once more than it stood there (Laplace), so that none is impossible.
    """
    tokenizer = AutoTokenizer.from_pretrained(parent.uri.removeprefix("file://"))

    def counted(pairs: Pairs) -> Counter[int]:
        written = encode(tokenizer, [wanted for _, wanted in pairs])
        return Counter(token for ids in written for token in [*ids, tokenizer.eos_token_id])

    known, wanted = counted(read), counted(judged)
    total = known.total() + len(tokenizer)
    return sum(times * log(total / (known[token] + 1)) for token, times in wanted.items()) / wanted.total()
