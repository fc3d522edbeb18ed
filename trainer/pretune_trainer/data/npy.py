"""Arrays as files of NumPy's own formats, without pickle."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune_trainer.data.example import Array


def npy(array: Array) -> bytes:
    """The array as `np.load` reads it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """Arrays by name, and what JSON can say beside them, as `read_npz` takes them apart."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def read_npz(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head and the arrays that `npz` was given."""
    with np.load(io.BytesIO(content)) as found:
        arrays = dict(found)
    return json.loads(arrays.pop("head").tobytes()), arrays
