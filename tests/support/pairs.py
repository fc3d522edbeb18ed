"""Rendered shapes with captions that say what is on them, and tiny models with two towers that read both."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from pretune_api.run_config import Folder, RunConfig
from support.images import png
from support.jobs import run_config

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 30),
    "blue": (40, 60, 230),
    "yellow": (230, 220, 40),
}
PLACES = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
SCENES = list(itertools.product(COLOURS, SHAPES, PLACES))
"""64 of them, each with a caption of its own."""
SIDE = 16
DARK, GREY = range(60), range(90, 150)
"""Greys of the ground that shapes are drawn on."""
_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CLIP: dict[str, Any] = {
    "type": "clip",
    "config": {
        "projection_dim": 32,
        "text_config": _TOWER,
        "vision_config": {**_TOWER, "image_size": SIDE, "patch_size": 8},
    },
}


def drawn(scene: tuple[str, str, str], random: np.random.Generator, ground: range = DARK) -> bytes:
    """A picture of the scene: the shape's size and the ground's grey differ each time."""
    colour, shape, place = scene
    image = Image.new("RGB", (SIDE, SIDE), (int(random.integers(ground.start, ground.stop)),) * 3)
    down, right = PLACES[place]
    size = int(random.integers(7, 9))
    left, top = right * 8 + int(random.integers(0, 8 - size + 1)), down * 8 + int(random.integers(0, 8 - size + 1))
    box = (left, top, left + size - 1, top + size - 1)
    draw, ink = ImageDraw.Draw(image), COLOURS[colour]
    middle = left + size // 2, top + size // 2
    match shape:
        case "circle":
            draw.ellipse(box, fill=ink)
        case "square":
            draw.rectangle(box, fill=ink)
        case "triangle":
            draw.polygon([(middle[0], box[1]), (box[0], box[3]), (box[2], box[3])], fill=ink)
        case _:
            draw.line([(middle[0], box[1]), (middle[0], box[3])], fill=ink, width=2)
            draw.line([(box[0], middle[1]), (box[2], middle[1])], fill=ink, width=2)
    return png(np.asarray(image))


def caption(scene: tuple[str, str, str]) -> str:
    """What is said of a scene: no other has the same caption."""
    colour, shape, place = scene
    return f"a {colour} {shape} {place}"


def rows(
    times: int, seed: int, scenes: Sequence[tuple[str, str, str]] = SCENES, ground: range = DARK
) -> list[dict[str, Any]]:
    """Each scene drawn so many times."""
    random = np.random.default_rng(seed)
    return [
        {"text": caption(scene), "image": {"bytes": drawn(scene, random, ground), "path": None}, "label": scene[1]}
        for _ in range(times)
        for scene in scenes
    ]


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]]) -> str:
    """Parquet as Hugging Face datasets write it; its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(pairs)), path)
    return path.as_uri()


def matched(
    folder: Path, uri: str, spec: dict[str, Any] | None = None, parent: Folder | None = None, **changes: Any
) -> RunConfig:
    """The run config of a model with two towers, new or from `parent`, that learns the pairs at `uri`."""
    document: dict[str, Any] = {
        ("task" if parent else "objective"): {"contrastive": spec or {}},
        "model": {"from": {"uri": parent.uri}} if parent else {"architecture": CLIP},
        "data": {"train": [{"uri": uri}], "validation": {"fraction": 0.2}, "sequenceLength": 32},
        "training": {"examplesPerStep": 32, "maxSteps": 4, "learningRate": 0.003, "precision": "fp32", "seed": 1},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
    }
    if parent is None:
        document["tokenizer"] = {"train": {"algorithm": "bpe", "vocabSize": 312}}
    return run_config("FinetuneJob" if parent else "PretrainJob", "shop", document, changes)
