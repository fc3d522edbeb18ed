"""What is written to a store: cut into parts, which are counted and hashed as they pass."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

Data = bytes | Path | Sequence[bytes | memoryview]
"""What can be written: bytes, a local file, or what is to lie one behind the other. It may be sent more than once."""


class Upload:
    """Data on its way to a store; hashing lets other threads run."""

    def __init__(self, data: Data, part: int) -> None:
        """`part` is the size of the largest part, in bytes."""
        self.digest = hashlib.sha256()
        """Of what has passed."""
        self.size = 0
        """Bytes that have passed."""
        self._parts = _parts(data, part)

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        part = next(self._parts)
        self.digest.update(part)
        self.size += len(part)
        return part

    def content(self) -> bytes | Iterator[memoryview]:
        """All of it: a single part goes in a plain request."""
        head = list(islice(self, 2))
        return chain(head, self) if len(head) == 2 else b"".join(head)


def _parts(data: Data, most: int) -> Iterator[memoryview]:
    """`data` in pieces of at most `most` bytes, and none of them empty."""
    if isinstance(data, Path):
        yield from _parts_of_file(data, most)
        return
    for block in [data] if isinstance(data, bytes) else data:
        view = memoryview(block)
        for start in range(0, len(view), most):
            yield view[start : start + most]


def _parts_of_file(path: Path, most: int) -> Iterator[memoryview]:
    with path.open("rb") as file:
        while block := file.read(most):
            yield memoryview(block)
