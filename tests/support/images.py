"""Real images: scikit-learn's handwritten digits of 8 x 8 pixels, as PNG."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pretune_api.run_config import Folder, RunConfig
from support.jobs import run_config

LABELS = [str(digit) for digit in range(10)]
_VIT = {
    "image_size": 8,
    "patch_size": 2,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit": {"type": "vit", "config": _VIT},
    "vit_mae": {
        "type": "vit_mae",
        "config": {
            **_VIT,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 4,
            "decoder_intermediate_size": 64,
        },
    },
    "resnet": {
        "type": "resnet",
        "config": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
    },
}


def png(pixels: np.ndarray) -> bytes:
    """An image from uint8 [height, width] or [height, width, 3]."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def digits() -> list[tuple[bytes, str]]:
    """All 1,797 digits with their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pairs = zip(found.images, found.target, strict=True)
    return [(png((image * 15.9).astype(np.uint8)), str(label)) for image, label in pairs]


def write_images(path: Path, images: list[tuple[bytes, str]]) -> str:
    """Parquet as Hugging Face datasets write it; its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"image": {"bytes": content, "path": None}, "label": label} for content, label in images]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path.as_uri()


def classified(
    folder: Path, kind: str = "vit", spec: dict[str, Any] | None = None, count: int = 200, **changes: Any
) -> RunConfig:
    """The run config of a model of 0.1 million parameters that learns digits."""
    uri = write_images(folder / "digits.parquet", digits()[:count])
    return learning(folder, uri, kind, spec, **changes)


def painted(folder: Path, uri: str, spec: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """The run config of a masked autoencoder that learns from the images at `uri`."""
    document = {
        "objective": {"maskedImage": spec or {}},
        "model": {"architecture": ARCHITECTURES["vit_mae"]},
        "data": {"train": [{"uri": uri, "column": "image"}], "validation": {"fraction": 0.2}},
        "training": {"examplesPerStep": 32, "maxSteps": 4, "learningRate": 0.003, "precision": "fp32", "seed": 1},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    return run_config("PretrainJob", "painter", document, changes)


def learning(
    folder: Path,
    uri: str,
    kind: str = "vit",
    spec: dict[str, Any] | None = None,
    parent: Folder | None = None,
    **changes: Any,
) -> RunConfig:
    """The run config of a job on the images at `uri`."""
    sizes = {"imageSize": 8} if kind == "resnet" and parent is None else {}
    model = {"from": {"uri": parent.uri}} if parent else {"architecture": ARCHITECTURES[kind]}
    document = {
        "task": {"imageClassification": {"labels": LABELS} | sizes | (spec or {})},
        "model": model,
        "data": {"train": [{"uri": uri, "column": "image"}], "validation": {"fraction": 0.2}},
        "training": {"examplesPerStep": 32, "maxSteps": 6, "learningRate": 0.003, "precision": "fp32", "seed": 1},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    return run_config("FinetuneJob", "digits", document, changes)
