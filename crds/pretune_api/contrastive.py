"""The objective and task contrastive."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.images import Pictures
from pretune_api.units import LABEL_PROMPT, ColumnName, UniqueList


class ZeroShot(Spec):
    """Labels that evaluations tell images apart by, from their names alone (Radford et al., 2021, section 3.1)."""

    labels: Annotated[
        UniqueList[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=2, max_length=10_000)
    ]
    """The labels; an image is given the one whose prompts it is most like."""
    label_column: ColumnName = "label"
    """Column with the right label; an image without one is not counted."""
    prompts: Annotated[
        list[Annotated[str, Field(min_length=7, max_length=4_096, pattern=LABEL_PROMPT)]],
        Field(min_length=1, max_length=100),
    ] = ["a photo of a {label}"]
    """Captions that a label stands in for {label}; of several the mean is taken."""


class Contrastive(Pictures):
    """Match images with their captions (CLIP, Radford et al., 2021): a clip model, with a tower for each.

    The source is Parquet, and its column holds the caption; or a folder of image files with metadata.csv or
    metadata.jsonl, whose file_name names the image, as in Hugging Face's imagefolder. Each image is compared with all
    captions of its step, over all ranks, and each caption with all images: so ranks compute their rows at once, and
    microBatchRows has nothing to say.
    """

    image_column: ColumnName = "image"
    """Column with PNG or JPEG bytes, or with an object {bytes}."""
    zero_shot: ZeroShot | None = None
    """Whether evaluations tell labels apart, too; without it, they find images by captions and captions by images."""
