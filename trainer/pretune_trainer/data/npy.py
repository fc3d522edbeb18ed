"""Arrays as files of NumPy's own format."""

import io

import numpy as np

from pretune_trainer.data.example import Array


def npy(array: Array) -> bytes:
    """The array as `np.load` reads it, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
