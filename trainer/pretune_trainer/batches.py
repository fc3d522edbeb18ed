"""From packs to what a step computes: micro-batches, and the global counts that their losses are divided by."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from pretune_trainer.data.example import Cursor, Pack, StepPacks
from pretune_trainer.parallel import Ranks
from pretune_trainer.spread import Spread
from pretune_trainer.tasks.base import Batch, Task


@dataclass(frozen=True)
class StepBatches:
    """What one rank computes in one optimizer step, as tensors."""

    micro_batches: list[Batch]
    """On the CPU; the same number on every rank."""
    counts: dict[str, int]
    """Targets of the step over all ranks, by key of the loss."""
    tokens: int
    """Tokens of the step over all ranks."""
    predicted: int
    """Those of them whose logits are computed."""
    after: Cursor
    """Where the next step begins."""
    spread: Spread
    """How long ranks took to make it."""


def step_batches(steps: Iterable[StepPacks], task: Task[Any], rows: int, ranks: Ranks) -> Iterator[StepBatches]:
    """The batches of each step. Runs ahead in a background thread, so `ranks` must be a channel of its own."""
    mark = time.perf_counter()
    for step in steps:
        batches = [pinned(task.batch(packs), ranks) for packs in split(step.packs, rows)]
        keys = sorted(batches[0].counts)
        mine = [sum(batch.counts[key] for batch in batches) for key in keys]
        spread = Spread.over(ranks, time.perf_counter() - mark)
        size = [sum(batch.tokens for batch in batches), sum(batch.predicted for batch in batches)]
        *counts, tokens, predicted = ranks.add([*mine, *size])
        yield StepBatches(batches, dict(zip(keys, counts, strict=True)), tokens, predicted, step.after, spread)
        mark = time.perf_counter()


def judged(packs: Sequence[Pack], task: Task[Any], rows: int, ranks: Ranks) -> Iterator[Batch]:
    """What is evaluated on, in batches of at most `rows`, each of packs of the same slices."""
    for slices, alike in groupby(packs, key=lambda pack: pack.slices):
        for part in split(list(alike), rows):
            yield replace(pinned(task.batch(part), ranks), slices=slices)


def split(packs: Sequence[Pack], rows: int) -> Iterator[Sequence[Pack]]:
    """The packs in micro-batches of `rows`; the last may be smaller."""
    return (packs[start : start + rows] for start in range(0, len(packs), rows))


def pinned(batch: Batch, ranks: Ranks) -> Batch:
    """In page-locked memory where that lets the copy to the device overlap with arithmetic."""
    if ranks.device.type != "cuda":
        return batch
    # A thread begins on device 0, and pinning there would make a context on it for every rank of the node.
    with torch.cuda.device(ranks.device):
        return batch.map(torch.Tensor.pin_memory)
