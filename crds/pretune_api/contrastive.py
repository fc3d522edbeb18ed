"""The objective and task contrastive."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.images import Pictures
from pretune_api.units import LABEL_PROMPT, ColumnName, Labels


class ZeroShot(Spec):
    """Zero-shot classification in evaluations, from the labels' names alone (Radford et al., 2021, section 3.1)."""

    labels: Labels
    """Candidate labels; each image is assigned the one whose prompts are most similar to it."""
    label_column: ColumnName = "label"
    """Column with the correct label; images without one are not counted."""
    prompts: Annotated[
        list[Annotated[str, Field(min_length=7, max_length=4_096, pattern=LABEL_PROMPT)]],
        Field(min_length=1, max_length=100),
    ] = ["a photo of a {label}"]
    """Captions in which {label} is replaced with each label; the embeddings of several captions are averaged."""


class Contrastive(Pictures):
    """Match images with their captions (CLIP, Radford et al., 2021): trains a clip model, which has a tower for each.

    The source is Parquet whose column holds the caption, or a folder of image files with a metadata.csv or
    metadata.jsonl whose file_name names the image, as in Hugging Face's imagefolder. Each image is compared with all
    captions of its step, across all ranks, and each caption with all images; ranks therefore compute all their rows
    at once, and a smaller microBatchRows is refused. data.validation.fraction holds out images, each with all of
    its captions.
    """

    image_column: ColumnName = "image"
    """Column with PNG or JPEG bytes, or with an object {bytes}."""
    zero_shot: ZeroShot | None = None
    """Also evaluate zero-shot classification; by default, evaluations only retrieve images by caption and captions by
    image."""
