"""How large the images are that a model reads, and how they are normalised."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor

from pretune_api.model import Architecture
from pretune_trainer.data.images import Images
from pretune_trainer.errors import UserError
from pretune_trainer.model.image_size import images_for
from pretune_trainer.model.origin import Source
from support.images import ARCHITECTURES
from support.pairs import CLIP

WHERE = "spec.task.imageClassification.imageSize"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
USUAL: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 8, "width": 8},
    "resample": 2,
    "image_mean": MEAN,
    "image_std": STD,
}


def parent(folder: Path, kind: str, processor: dict[str, Any] | None = None) -> Source:
    """A model without weights, and what is said of its images."""
    AutoConfig.for_model(kind, **ARCHITECTURES[kind]["config"]).save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return Source(str(folder))


@pytest.mark.parametrize("normalised", [True, False])
def test_a_parent_sees_images_as_its_own_processor_shows_them(tmp_path: Path, normalised: bool) -> None:
    source = parent(tmp_path, "vit", USUAL | {"do_normalize": normalised})
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8))
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(images_for(source, None, WHERE).pixels(image), theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "processor", "asked", "expected"),
    [
        ("vit", None, None, Images(8, 8)),
        ("vit", USUAL | {"size": 32}, 8, Images(8, 8, tuple(MEAN), tuple(STD))),
        ("resnet", None, None, Images(224, 224)),
        ("resnet", None, 16, Images(16, 16)),
        ("resnet", USUAL | {"size": {"height": 16, "width": 24}}, None, Images(16, 24, tuple(MEAN), tuple(STD))),
        ("resnet", USUAL | {"size": {"shortest_edge": 32}}, None, Images(32, 32, tuple(MEAN), tuple(STD))),
        ("resnet", USUAL, 16, Images(16, 16, tuple(MEAN), tuple(STD))),
    ],
)
def test_the_model_says_first_how_large_images_are_then_the_job_then_the_parent_s_processor(
    tmp_path: Path, kind: str, processor: dict[str, Any] | None, asked: int | None, expected: Images
) -> None:
    assert images_for(parent(tmp_path, kind, processor), asked, WHERE) == expected


def test_of_two_towers_the_one_that_sees_says_how_large_images_are() -> None:
    assert images_for(Architecture.model_validate(CLIP), None, WHERE) == Images(16, 16)


def test_a_model_that_reads_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"^spec\.model\.architecture: roberta models do not take images"):
        images_for(Architecture(type="roberta"), None, WHERE)


def test_a_model_of_other_channels_than_colours_is_refused() -> None:
    config = ARCHITECTURES["vit"]["config"] | {"num_channels": 1}
    with pytest.raises(UserError, match=r"^spec\.model\.architecture: it takes 1 channels, but images have 3"):
        images_for(Architecture(type="vit", config=config), None, WHERE)
