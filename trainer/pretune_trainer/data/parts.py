"""Parts of the token cache: examples in Arrow IPC files, read in place.

Arrow IPC and not Parquet: an uncompressed record batch is mapped into memory and its examples are views of it, so that
a random example costs a few microseconds and no copy; Parquet would decode a page for each.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pretune_trainer.data.example import Array, Example, length_of

_NUMBERS: Final = 2**22
"""Numbers after which a record batch is written: what a writer holds in memory."""


class PartWriter:
    """Writes examples, which all have the same arrays, to a file; numbers of 8 to 64 bits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[Example] = []
        self._numbers = 0
        self._lengths: list[NDArray[np.int32]] = []
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

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
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), batch.schema)
        self._writer.write_batch(batch)
        self._lengths.append(np.array([length_of(example) for example in self._pending], np.int32))
        self._pending, self._numbers = [], 0


def _column(arrays: Sequence[Array]) -> pa.ListArray:
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays)))


class Part:
    """A file of examples, mapped into memory."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._starts = [0, *np.cumsum([batch.num_rows for batch in batches]).tolist()]
        self._batches = [_views(batch) for batch in batches]

    def example(self, index: int) -> Example:
        """An example; its arrays are read-only views of the file."""
        number = bisect_right(self._starts, index) - 1
        row = index - self._starts[number]
        return {
            name: values[offsets[row] : offsets[row + 1]] for name, (values, offsets) in self._batches[number].items()
        }


def _views(batch: pa.RecordBatch) -> Mapping[str, tuple[Array, Array]]:
    """Values and offsets of each column."""
    return {
        name: (column.values.to_numpy(), column.offsets.to_numpy())
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
