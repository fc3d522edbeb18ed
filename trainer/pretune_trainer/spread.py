"""How ranks differ: which one needs longest for what it does alone, and how much memory is used.

What ranks compute together takes the same time on all of them, for all wait for the slowest: only the making of
batches, which is each rank's own, tells them apart. A device that computes slowly does not show here.
"""

import resource
import sys
from dataclasses import dataclass
from typing import Self

import torch

from pretune_trainer.parallel import Ranks

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Spread:
    """The slowest and the fastest rank of a step, and the memory of the one that uses most."""

    slowest_rank: int
    """The rank that took longest to make its batches."""
    slowest_seconds: float
    """Time that it took."""
    fastest_seconds: float
    """Time of the rank that was done first."""
    memory: int
    """Most bytes that a rank has used so far: of its device, or of its process where that is the CPU."""

    @classmethod
    def over(cls, ranks: Ranks, seconds: float) -> Self:
        """What all ranks find, each with the `seconds` that it took. Collective."""
        micros = round(seconds * 1e6)
        # The rank rides along in the low digits: one reduction finds the largest and where it is.
        slowest, fastest, memory = ranks.largest(
            [micros * ranks.size + ranks.rank, -micros, _peak_memory(ranks.device)]
        )
        return cls(slowest % ranks.size, slowest // ranks.size / 1e6, -fastest / 1e6, memory)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
