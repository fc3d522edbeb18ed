"""How many rows a rank computes at once."""

from collections.abc import Callable
from typing import Final

import torch
from pydantic import BaseModel

from pretune_trainer.errors import OutOfMemoryError, UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.runs import Run
from pretune_trainer.storage.store import Store

_CPU_TOKENS: Final = 8_192
_MEMORY_SHARE: Final = 0.85
"""Of the free device memory; the rest is for fragmentation and what the probe has not seen."""

_NOTES: Final = "memory"
"""Folder of a job with one file for each run whose device ran out of memory."""


class _Note(BaseModel):
    """What was too much."""

    micro_batch_rows: int


def note_too_many(run: Run, rows: int) -> None:
    """Leave word that a device ran out of memory with so many rows. Any rank may: those that fail write the same."""
    run.store.put(f"{_NOTES}/{run.ordinal:04d}.json", _Note(micro_batch_rows=rows).model_dump_json().encode())


def most_rows(job: Store) -> int | None:
    """Half of the fewest rows that were too many for an earlier run of the job, at least 1; None where none was."""
    notes = [_Note.model_validate_json(job.get(note.path)) for note in job.list(_NOTES)]
    return min((max(1, note.micro_batch_rows // 2) for note in notes), default=None)


def too_many(rows: int, said: str, *, coupled: bool) -> str:
    """What the job's author is told; `coupled` rows are compared with each other, and so computed at once."""
    found = f"a device ran out of memory (rows at once: {rows}): {said}"
    if coupled:
        return f"{found}; set spec.training.activationCheckpointing, use more ranks, or lower examplesPerStep"
    if rows > 1:
        return f"{found}; the next run resumes from the last checkpoint with {rows // 2}"
    return f"{found}; set spec.training.activationCheckpointing, or use more ranks"


def check_whole(asked: int | None, rows: int) -> None:
    """Refuse to compute fewer rows at once than a rank has in a step, where they are compared with each other.

    Raises:
        UserError: fewer are asked for.
    """
    if asked is not None and asked < rows:
        raise UserError(
            "spec.training.microBatchRows",
            f"a row's loss depends on the other rows of its step, of which a rank has {rows}: they cannot be computed "
            f"{asked} at a time; remove it, use more ranks, or lower examplesPerStep",
        )


def choose_rows(most: int, length: int, ranks: Ranks, run: Callable[[int], None]) -> int:
    """Rows of the longest kind that fit at once: as many as possible, at most `most`, the same on every rank.

    On a CPU memory is not the limit, the caches are. On CUDA one and two rows are tried with `run`, which computes
    forward and backward, and the memory of more is extrapolated: nothing runs out of memory, so ranks stay in step.

    Raises:
        OutOfMemoryError: not even one row fits.
    """
    if ranks.device.type != "cuda":
        return max(1, min(most, _CPU_TOKENS // length))
    run(1)  # what libraries and the compiler allocate once would make one row look larger, and the next one smaller
    one, two = _peak(run, 1), _peak(run, min(2, most))
    torch.compiler.reset()  # having seen these shapes, it would generate code for any, which is slower
    free, _ = torch.cuda.mem_get_info(ranks.device)
    free += torch.cuda.memory_reserved(ranks.device) - torch.cuda.memory_allocated(ranks.device)
    rows = rows_that_fit(one, two, int(free * _MEMORY_SHARE))
    rows = -ranks.largest([-rows])[0]
    if rows < 1:
        raise OutOfMemoryError(
            f"one row of {length} tokens needs {one >> 20} MiB beside weights and optimizer, {free >> 20} MiB are free;"
            " set spec.training.activationCheckpointing, shorten spec.data.sequenceLength, or use more ranks"
        )
    return min(most, rows)


def rows_that_fit(one: int, two: int, free: int) -> int:
    """Rows whose memory, a straight line through that of one and of two rows (bytes), stays within `free`."""
    each = max(two - one, 1)
    return (free - one) // each + 1 if free >= one else 0


def _peak(run: Callable[[int], None], rows: int) -> int:
    """Bytes that `run(rows)` allocates at most, beyond what is allocated before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(rows)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
