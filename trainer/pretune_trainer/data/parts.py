"""Parts of the token cache: files of batches, each an Arrow IPC stream of one record batch, read in place.

Arrow IPC and not Parquet: an uncompressed record batch is mapped into memory and its examples are views of it, so that
a random example costs a few microseconds and no copy; Parquet would decode a page for each. Streams and not one file:
a batch of a part in a remote store can be fetched without the others.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pretune_trainer.data.cache_index import BatchEntry
from pretune_trainer.data.example import Array, Example, length_of

_NUMBERS: Final = 2**22
"""Numbers after which a batch is written: what a writer holds in memory, 16 MiB of tokens."""


class PartWriter:
    """Writes examples, which all have the same arrays, to a file; numbers of 8 to 64 bits."""

    def __init__(self, path: Path) -> None:
        self.batches: list[BatchEntry] = []
        """What has been written."""
        self._path = path
        self._pending: list[Example] = []
        self._numbers = self._size = 0
        self._lengths: list[NDArray[np.int32]] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        if self._file is not None:
            self._file.close()

    def add(self, examples: Sequence[Example]) -> None:
        """Append examples."""
        self._pending.extend(examples)
        self._numbers += sum(array.size for example in examples for array in example.values())
        if self._numbers >= _NUMBERS:
            self._flush()

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Lengths of the examples written so far, in order: int32 [examples]."""
        return np.concatenate([np.zeros(0, np.int32), *self._lengths])

    def _flush(self) -> None:
        if not self._pending:
            return
        names = sorted(self._pending[0])
        batch = pa.record_batch([_column([example[name] for example in self._pending]) for name in names], names)
        content = pa.BufferOutputStream()
        with pa.ipc.new_stream(content, batch.schema) as writer:
            writer.write_batch(batch)
        self._write(content.getvalue())
        self._lengths.append(np.array([length_of(example) for example in self._pending], np.int32))
        self._pending, self._numbers = [], 0

    def _write(self, content: pa.Buffer) -> None:
        if self._file is None:
            self._file = self._path.open("wb")
        self._file.write(content)
        digest = hashlib.sha256(content).hexdigest()
        self.batches.append(BatchEntry(self._size, content.size, digest, len(self._pending)))
        self._size += content.size


def _column(arrays: Sequence[Array]) -> pa.ListArray:
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays)))


class Batch:
    """Examples of a part, mapped into memory."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        file = pa.memory_map(str(path))
        file.seek(offset)
        self._columns = _views(pa.ipc.open_stream(file.read_buffer(size)).read_next_batch())

    def example(self, index: int) -> Example:
        """An example; its arrays are read-only views of the file."""
        return {name: values[offsets[index] : offsets[index + 1]] for name, (values, offsets) in self._columns.items()}


def _views(batch: pa.RecordBatch) -> Mapping[str, tuple[Array, Array]]:
    """Values and offsets of each column."""
    return {
        name: (column.values.to_numpy(), column.offsets.to_numpy())
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
