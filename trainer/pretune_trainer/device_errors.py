"""What an error says of a device: that its memory is full, or that it is broken."""

import re
import socket
from typing import Final

import torch

from pretune_trainer.errors import DeviceLostError, OutOfMemoryError, PretuneError, lines_of

_FULL: Final = re.compile(
    r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|Cuda failure (\d+ )?'out of memory'|Failed to CUDA [cm]alloc.*"
)
"""What CUDA, cuBLAS and NCCL say, which ask the device for memory beside PyTorch's."""
_BROKEN: Final = re.compile(r"uncorrectable (ECC|NVLink) error|hardware stack error|over nvlink or a hardware error")
"""What CUDA says of faults that no program makes (cudaGetErrorString)."""


def known_error(error: RuntimeError) -> PretuneError | None:
    """What an error of PyTorch's means that comes of a device; None where something else has happened."""
    if (said := out_of_memory(error)) is not None:
        return OutOfMemoryError(f"a device ran out of memory: {said}")
    if (found := _BROKEN.search(str(error))) is not None:
        return DeviceLostError(f"a GPU of {socket.gethostname()} is broken: {found[0]}")
    return None


def out_of_memory(error: RuntimeError) -> str | None:
    """What an error says of it if a device has run out of memory; None where something else has happened."""
    if isinstance(error, torch.OutOfMemoryError):
        return lines_of(error)[0]
    found = _FULL.search(str(error))
    return found and found[0]
