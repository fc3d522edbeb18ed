"""Tensors as shards: which rows each rank holds, and how they lie in safetensors files.

Rows are cut as FSDP2 cuts them (torch.chunk along the first dimension), so that where row r of a tensor lies is
arithmetic at any number of ranks; where it lies in the file, the file's own header says.
"""

import hashlib
import json
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
import torch
from torch import Tensor

from pretune_api.checkpoint import TensorEntry, TensorIndex
from pretune_trainer.errors import DamagedError, UserError
from pretune_trainer.storage.store import PART, Store

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PARALLEL_READS: Final = 4
_SHARD: Final = re.compile(r"shard-(\d{5,})\.safetensors")


@dataclass(frozen=True)
class Piece:
    """The rows of one tensor that this rank holds."""

    name: str
    entry: TensorEntry
    """The whole tensor."""
    shard: int
    """Which part of it this is."""
    rows: Tensor
    """The part itself, on whatever device."""
    writes: bool
    """Whether this rank writes it: of several that hold the same rows, the first does."""


def pieces(tensors: Mapping[str, Tensor], *, is_first: bool) -> list[Piece]:
    """What this rank holds of `tensors`, in order of their names; `is_first` ranks write what is not distributed."""
    return [_piece(name, tensors[name].detach(), is_first=is_first) for name in sorted(tensors)]


def index(held: Sequence[Piece]) -> TensorIndex:
    """What a checkpoint of these tensors says about each; the same on every rank."""
    return TensorIndex(tensors={piece.name: piece.entry for piece in held})


def shard_name(shard: int) -> str:
    """The file of a shard."""
    return f"shard-{shard:05d}.safetensors"


def shard_of(path: str) -> int | None:
    """The shard that a file of a checkpoint holds; None where it holds none."""
    found = _SHARD.fullmatch(path)
    return int(found[1]) if found else None


def encode(held: Sequence[Piece]) -> list[memoryview]:
    """The safetensors file of pieces that lie in the CPU's memory: its header, then each piece, uncopied."""
    header: dict[str, object] = {}
    end = 0
    for piece in held:
        start, end = end, end + piece.rows.nbytes
        header[piece.name] = {
            "dtype": piece.entry.dtype,
            "shape": list(piece.rows.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = memoryview(struct.pack("<Q", len(text)) + text)
    return [head, *(_bytes(piece.rows).numpy().data for piece in held)]


def require_same(saved: TensorIndex, held: Sequence[Piece], uri: str) -> None:
    """Make sure that a checkpoint holds these very tensors.

    Raises:
        UserError: it is the checkpoint of another model.
    """
    wanted = {piece.name: piece.entry for piece in held}
    advice = "this is the checkpoint of another model; use another storage.uri or job, or undo the change"
    for name in sorted(saved.tensors.keys() ^ wanted.keys()):
        where = "the checkpoint" if name in saved.tensors else "the model"
        raise UserError(uri, f"only {where} has '{name}': {advice}")
    for name, entry in wanted.items():
        other = saved.tensors[name]
        # Where ranks share a scalar it is a vector of one.
        if (entry.dtype, entry.shape or [1]) != (other.dtype, other.shape or [1]):
            raise UserError(
                uri,
                f"'{name}' is {other.dtype} {other.shape} in the checkpoint, {entry.dtype} {entry.shape} in the model:"
                f" {advice}",
            )


class Reading:
    """A checkpoint on its way into this rank's tensors, whatever number of ranks wrote it.

    Of a file that this rank verifies it keeps what it needs: where as many ranks wrote the checkpoint that is all of
    the file, and all that it needs. The tensors change in `fill` alone.
    """

    def __init__(
        self, folder: Store, saved: TensorIndex, held: Sequence[Piece], buffer: Callable[[Piece], Piece]
    ) -> None:
        """`buffer` gives a piece that this rank writes with the memory that it is written from, to keep it there."""
        self._folder = folder
        self._needs: dict[str, list[_Need]] = {}
        self._buffers: dict[str, list[_Need]] = {}
        """The same needs, of what can be kept, met in buffers."""
        self._kept: list[tuple[_Need, _Need]] = []
        for piece in held:
            _add(self._needs, _needs(piece, saved.tensors[piece.name]))
            if piece.writes:
                _add(self._buffers, _needs(buffer(piece), saved.tensors[piece.name]))

    def digest(self, path: str, size: int) -> str:
        """SHA-256 of a shard's file of `size` bytes, in hex; what this rank needs of it is kept."""
        digest, at = hashlib.sha256(), 0
        spans: deque[_Span] = deque()
        for chunk in self._folder.stream(path, size):
            digest.update(chunk)
            spans = spans if at else self._spans_kept(path, chunk)
            _take(spans, chunk, at)
            at += len(chunk)
        return digest.hexdigest()

    def _spans_kept(self, path: str, beginning: memoryview) -> deque["_Span"]:
        """Where in a file that begins so lies what is kept; nothing where it is damaged, as its digest will tell."""
        buffers = self._buffers.pop(path, [])
        try:
            (length,) = struct.unpack_from("<Q", beginning)
            header = json.loads(bytes(beginning[8 : 8 + length]))
            spans = sorted((_span(need, header, length) for need in buffers), key=lambda span: span.start)
        except (ValueError, LookupError, TypeError, struct.error):
            return deque()
        whole = {need.name: need for need in self._needs.get(path, [])}
        self._kept += [(whole.pop(need.name), need) for need in buffers]
        self._needs[path] = list(whole.values())
        return deque(spans)

    def fill(self) -> None:
        """Change the tensors to what was kept, and to what is read now, of files that others have verified."""
        for need, kept in self._kept:
            need.target.copy_(kept.target)
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            for path, needs in self._needs.items():
                spans = _locate(self._folder, path, needs)
                for _ in pool.map(lambda batch, path=path: _read(self._folder, path, batch), _batches(spans)):
                    pass


@dataclass(frozen=True)
class _Need:
    """Rows that this rank needs from one shard."""

    name: str
    shard: int
    offset: int
    """First byte of them, counted from the tensor's own in that shard."""
    target: Tensor
    """Where they belong: uint8 [bytes]."""


@dataclass(frozen=True)
class _Span:
    """Bytes of a file, and where they belong: uint8 [length]."""

    start: int
    target: Tensor


def _piece(name: str, tensor: Tensor, *, is_first: bool) -> Piece:
    shape = list(tensor.shape)
    dtype = _DTYPES[tensor.dtype]
    if not _is_distributed(tensor):
        return Piece(name, TensorEntry(dtype=dtype, shape=shape, shards=1), 0, tensor, is_first)
    shard, shards, writes = _share(name, tensor)
    local = tensor.to_local()
    assert shape == [] or local.shape[0] == len(_rows(shape[0], shards, shard)), f"{name} is not cut as FSDP2 does"
    return Piece(name, TensorEntry(dtype=dtype, shape=shape, shards=shards), shard, local, writes)


def _is_distributed(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Asked without importing DTensor, which takes seconds, and which one rank alone does not need."""
    return hasattr(tensor, "device_mesh")


def _share(name: str, tensor: "DTensor") -> tuple[int, int, bool]:
    """Which part of how many this rank holds, and whether it is the first of those that hold it."""
    coordinates = tensor.device_mesh.get_coordinate()
    assert coordinates is not None, f"this rank takes no part in {name}"
    shard, shards, writes = 0, 1, True
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_shard(0) and shards == 1:
            shard, shards = coordinates[dimension], tensor.device_mesh.size(dimension)
        else:
            assert placement.is_replicate(), f"{name} is laid out as {tensor.placements}, which FSDP2 does not do"
            writes = writes and coordinates[dimension] == 0
    return shard, shards, writes


def _rows(total: int, shards: int, shard: int) -> range:
    """Rows of the part `shard` of `shards`, as torch.chunk cuts `total` of them."""
    size = -(-total // shards)
    return range(min(shard * size, total), min((shard + 1) * size, total))


def _needs(piece: Piece, saved: TensorEntry) -> Iterator[_Need]:
    """Which bytes of which shards make up a piece."""
    target = _bytes(piece.rows)
    if target.numel() == 0:
        return
    total = saved.shape[0] if saved.shape else 1
    row_bytes = prod(saved.shape[1:]) * piece.rows.element_size()
    mine = _rows(total, piece.entry.shards, piece.shard)
    for shard in range(saved.shards):
        theirs = _rows(total, saved.shards, shard)
        start, stop = max(mine.start, theirs.start), min(mine.stop, theirs.stop)
        if start < stop:
            part = target[(start - mine.start) * row_bytes : (stop - mine.start) * row_bytes]
            yield _Need(piece.name, shard, (start - theirs.start) * row_bytes, part)


def _add(by_file: dict[str, list[_Need]], needs: Iterator[_Need]) -> None:
    for need in needs:
        by_file.setdefault(shard_name(need.shard), []).append(need)


def _locate(folder: Store, path: str, needs: Sequence[_Need]) -> Iterator[_Span]:
    """Where needed rows lie in a shard's file, in spans of at most a part."""
    if not needs:
        return
    (length,) = struct.unpack("<Q", folder.get_range(path, 0, 8))
    header = json.loads(bytes(folder.get_range(path, 8, length)))
    for need in needs:
        if need.name not in header:
            raise DamagedError(f"{folder.uri} is damaged: {path} does not hold '{need.name}'")
        span = _span(need, header, length)
        for done in range(0, span.target.numel(), PART):
            yield _Span(span.start + done, span.target[done : done + PART])


def _span(need: _Need, header: Mapping[str, Any], length: int) -> _Span:
    """Where needed rows lie in a file with that header, of `length` bytes."""
    return _Span(8 + length + int(header[need.name]["data_offsets"][0]) + need.offset, need.target)


def _take(spans: deque[_Span], chunk: memoryview, at: int) -> None:
    """Copy what a file holds from byte `at` on to where it belongs; `spans` are those left, in order. Where the file is
    damaged they may overlap."""
    end = at + len(chunk)
    while spans and spans[0].start < end:
        span = spans[0]
        stop = span.start + span.target.numel()
        first = max(span.start, at)
        last = max(first, min(stop, end))
        part = np.frombuffer(chunk[first - at : last - at], dtype=np.uint8)
        span.target.numpy()[first - span.start : last - span.start] = part
        if stop > end:
            return  # the next chunk goes on with it
        spans.popleft()


def _batches(spans: Iterator[_Span]) -> Iterator[list[_Span]]:
    """Spans in order, in groups of about one part that are worth a request."""
    batch: list[_Span] = []
    size = 0
    for span in sorted(spans, key=lambda span: span.start):
        if batch and size + span.target.numel() > PART:
            yield batch
            batch, size = [], 0
        batch.append(span)
        size += span.target.numel()
    if batch:
        yield batch


def _read(folder: Store, path: str, batch: Sequence[_Span]) -> None:
    parts = folder.get_ranges(path, [(span.start, span.target.numel()) for span in batch])
    for span, part in zip(batch, parts, strict=True):
        on_cpu = torch.empty(len(part), dtype=torch.uint8)
        on_cpu.numpy()[:] = np.frombuffer(part, dtype=np.uint8)
        span.target.copy_(on_cpu)


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of a contiguous tensor: uint8 [bytes]."""
    return tensor.view(-1).view(torch.uint8)
