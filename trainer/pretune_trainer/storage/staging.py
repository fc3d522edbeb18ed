"""A copy of a rank's tensors that training does not change: what the background writes to storage."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from pretune_trainer.storage.shards import Piece


class Staging:
    """Buffers in the CPU's memory, made once and used for every checkpoint.

    On a GPU the copy runs on a stream of its own into pinned memory: neither the CPU nor the training stream waits
    for it, until the tensors are about to change.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]  # torch's
        self._copied: torch.cuda.Event | None = None
        self._buffers: dict[str, Tensor] = {}

    def copy(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Begin to copy pieces; the same pieces, in the buffers, to be read once `arrived` returns."""
        if self._stream is None:
            return [self._copy(piece) for piece in pieces]
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            copies = [self._copy(piece) for piece in pieces]
            self._copied = self._stream.record_event()
        return copies

    def protect(self) -> None:
        """From here on the tensors may change: what the training stream does next happens after the copy."""
        if self._copied is not None:
            self._copied.wait()

    def arrived(self) -> None:
        """Wait until the buffers hold the copy."""
        if self._copied is not None:
            self._copied.synchronize()

    def buffer(self, piece: Piece) -> Piece:
        """The piece with its buffer in place of its rows, whatever the buffer holds."""
        buffer = self._buffers.get(piece.name)
        if buffer is None:
            pin = self._stream is not None
            buffer = torch.empty(piece.rows.shape, dtype=piece.rows.dtype, pin_memory=pin)
            self._buffers[piece.name] = buffer
        return replace(piece, rows=buffer)

    def _copy(self, piece: Piece) -> Piece:
        copy = self.buffer(piece)
        copy.rows.copy_(piece.rows, non_blocking=True)
        return copy
