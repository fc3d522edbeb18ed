"""Logs in a job's storage, written while a process speaks: logs/attempt-0001/<process>/<when it began>-<chunk>.log.

Beside the last chunk of a driver lies an empty <when it began>.ended: then its attempt has ended.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

from pretune_trainer.errors import MissingObjectError
from pretune_trainer.storage.store import Store

DRIVER: Final = "driver"
"""The process that starts the ranks and hears how they end."""
CHUNK_BYTES: Final = 256 << 10
"""Size of a full chunk. It bounds what is written once more whenever the last chunk grows."""
MOST_CHUNKS: Final = 1_000
"""Chunks that are kept of one process, 250 MiB: beyond, the oldest make way."""
MOST_PENDING: Final = 1 << 20
"""Bytes that wait for a store that is slow or fails: beyond, the oldest are left out."""

_ENDED: Final = ".ended"
_BEGAN: Final = re.compile(r"^\d{8}T[\d.]+Z")
_FOLDER: Final = "logs"
_ATTEMPT: Final = re.compile(r"^logs/attempt-(\d{4,})$")


class Folder(Protocol):
    """What is asked of a store to keep a log in it."""

    def put(self, path: str, data: bytes, /) -> object:
        """Write an object, or replace it."""

    def delete(self, path: str, /) -> None:
        """Remove an object."""


def of_rank(rank: int) -> str:
    """The name of a rank's log."""
    return f"rank-{rank:05d}"


def log_folder(job: Store, attempt: int, process: str) -> Store:
    """Where a process of an attempt keeps its log."""
    return job.child(f"{_FOLDER}/attempt-{attempt:04d}/{process}")


def attempts_of(job: Store) -> list[int]:
    """The attempts that have left logs in a job's folder, in order.

    Raises:
        StorageError: the storage cannot be read.
    """
    found = [_ATTEMPT.match(path) for path in job.folders(_FOLDER)]
    return sorted(int(match[1]) for match in found if match)


def has_ended(job: Store, attempt: int) -> bool:
    """Whether the driver of an attempt that began last has said all that it had to say, or there is a later attempt.

    A driver that was killed says nothing of its end.
    """
    names = [object_.path for object_ in log_folder(job, attempt, DRIVER).list()]
    began = _BEGAN.match(max(names, default=""))
    return (began is not None and f"{began[0]}{_ENDED}" in names) or attempt < max(attempts_of(job), default=0)


def processes_of(job: Store, attempt: int) -> list[str]:
    """The processes of an attempt that have left logs, the driver first."""
    return [path.rpartition("/")[2] for path in job.folders(f"{_FOLDER}/attempt-{attempt:04d}")]


class LogWriter:
    """The log of one process, as numbered chunks.

    Object stores cannot append: the last chunk is written again until it is full. Each process has names of its own,
    so whoever takes the place of a rank that was lost goes on behind it, and a zombie overwrites nothing. `add` may be
    called from any thread, `flush` from one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._began = f"{datetime.now(tz=UTC):%Y%m%dT%H%M%S.%f}Z"
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._left_out = 0
        self._in_flight = b""
        self._chunk = b""
        self._number = 1

    def add(self, said: bytes) -> None:
        """Take in what was said. Never waits for the store."""
        with self._lock:
            self._pending += said
            if len(self._pending) > MOST_PENDING:
                self._leave_out()

    def flush(self) -> None:
        """Write what was taken in; what could not be written is written the next time.

        Raises:
            StorageError: the store failed.
        """
        while piece := self._piece():
            self._folder.put(self._path(self._number), self._chunk + piece)
            self._chunk, self._in_flight = self._chunk + piece, b""
            if len(self._chunk) == CHUNK_BYTES:
                self._begin_chunk()

    def end(self) -> None:
        """Say that no more will come.

        Raises:
            StorageError: the store failed.
        """
        self._folder.put(f"{self._began}{_ENDED}", b"")

    def _piece(self) -> bytes:
        """What comes next, as much as fits into the chunk."""
        with self._lock:
            if not self._in_flight:
                room = CHUNK_BYTES - len(self._chunk)
                self._in_flight = bytes(self._pending[:room])
                del self._pending[:room]
                self._left_out = 0
            return self._in_flight

    def _begin_chunk(self) -> None:
        self._chunk, self._number = b"", self._number + 1
        if self._number > MOST_CHUNKS:
            self._folder.delete(self._path(self._number - MOST_CHUNKS))

    def _leave_out(self) -> None:
        """Half of what waits goes, so that this is not done again with the next line."""
        kept = self._pending[-MOST_PENDING // 2 :]
        self._left_out += len(self._pending) - len(kept)
        self._pending = bytearray(f"\n[{self._left_out:,} bytes are left out: the store is too slow]\n".encode()) + kept

    def _path(self, number: int) -> str:
        return f"{self._began}-{number:07d}.log"


class LogReader:
    """The log of a process of an attempt, as it grows: chunks that are full are neither read nor listed again."""

    def __init__(self, folder: Store) -> None:
        self._folder = folder
        self._full: str | None = None
        self._read: dict[str, int] = {}

    def news(self) -> Iterator[bytes]:
        """What has been written since the last time, in order.

        Raises:
            StorageError: the storage cannot be read.
        """
        for chunk in self._folder.list(after=self._full):
            begin = self._read.get(chunk.path, 0)
            if chunk.size > begin:
                with suppress(MissingObjectError):  # it has made way for newer ones
                    yield bytes(self._folder.get_range(chunk.path, begin, chunk.size - begin))
                self._read[chunk.path] = chunk.size
        self._forget_full()

    def _forget_full(self) -> None:
        """The last chunk may grow; those before it are full, or of a process that has gone."""
        for path in sorted(self._read)[:-1]:
            self._full = path
            del self._read[path]
