"""Ranks: how many there are, which one this is, and how they agree."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Generic, Self, TypeVar

import torch
import torch.distributed as dist

from pretune_trainer.errors import PretuneError

T = TypeVar("T")


PATIENCE: Final = timedelta(days=1)
"""How long ranks wait for what one of them does alone, such as uploading a model of hundreds of gigabytes.

gloo's own 30 minutes would end the group each time it gets there. A rank that is lost is noticed without it: its
connections close, and Ray watches its process and its node.
"""


@dataclass(frozen=True)
class _Done(Generic[T]):
    """What one rank's work has returned."""

    value: T


@dataclass(frozen=True)
class _Failed:
    """What it has raised instead."""

    error: Exception


def _attempt(do: Callable[[], T]) -> _Done[T] | _Failed:
    try:
        return _Done(do())
    except Exception as error:  # whatever it is, the other ranks wait to hear of it
        return _Failed(error)


def _portable(outcome: _Done[T] | _Failed) -> _Done[T] | _Failed:
    """The same for other processes: they know our errors, and of others only the text."""
    if isinstance(outcome, _Done) or isinstance(outcome.error, PretuneError):
        return outcome
    return _Failed(PretuneError(f"{type(outcome.error).__name__}: {outcome.error}"))


def _value(outcome: _Done[T] | _Failed) -> T:
    if isinstance(outcome, _Failed):
        raise outcome.error
    return outcome.value


@dataclass(frozen=True)
class Ranks:
    """The group of training processes, seen from one of them. With size 1 nothing is ever communicated.

    Objects and counts travel over gloo on the CPU, so that no call waits for a device.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this rank does what is done once: rank 0."""
        return self.rank == 0

    def fork(self, patience: timedelta | None = None) -> Self:
        """The same ranks with a communication channel of their own, for a background thread, or for waits of `patience`
        instead of gloo's 30 minutes. Collective."""
        if self.size == 1:
            return self
        group = dist.new_group(backend="gloo", timeout=patience)
        assert isinstance(group, dist.ProcessGroup), "every rank is in the group"
        return replace(self, group=group)

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, in order of ranks, on every rank. Collective."""
        if self.size == 1:
            return [value]
        values = [value] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def collect(self, value: T) -> list[T]:
        """Every rank's `value`, in order of ranks, on rank 0; nothing on the others. Collective."""
        if self.size == 1:
            return [value]
        values = [value] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.group)
        return values or []

    def share(self, value: T) -> T:
        """Rank 0's `value`, on every rank. Collective.

        It is sent, not gathered: for that each rank would hold it as many times as there are ranks, and a list of a
        million files is hundreds of megabytes.
        """
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def together(self, do: Callable[[], T]) -> list[T]:
        """Every rank's `do()`, on every rank; where it fails on one, it fails on all. Collective.

        Raises:
            Exception: what `do` raised on the first rank where it failed, so that all ranks go on alike.
        """
        mine = _attempt(do)
        every = self.gather(_portable(mine))
        every[self.rank] = mine  # as it was raised, with its traceback
        return [_value(outcome) for outcome in every]

    def once(self, do: Callable[[], T]) -> T:
        """What rank 0's `do()` returns, on every rank; where it fails, it fails on all. Collective."""
        mine = _attempt(do) if self.is_first else None
        shared = self.share(_portable(mine) if mine else None)
        outcome = mine or shared  # on rank 0 as it was raised, with its traceback
        assert outcome is not None, "rank 0 has shared what came of it"
        return _value(outcome)

    def add_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """The element-wise sum over ranks, on the device, in place. Collective."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def send_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Rank 0's tensor, contiguous, on every rank's device, in place. Collective."""
        if self.size > 1 and tensor.numel():
            dist.broadcast(tensor.view(-1).view(torch.uint8), src=0)  # bytes: gloo does not know every type
        return tensor

    def add(self, values: list[int]) -> list[int]:
        """Element-wise sums over ranks. Collective."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: list[int]) -> list[int]:
        """Element-wise maxima over ranks. Collective."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _reduce(self, values: list[int], operation: dist.ReduceOp.RedOpType) -> list[int]:
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, operation, group=self.group)
        return [int(value) for value in tensor]
