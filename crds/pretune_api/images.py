"""What objectives and tasks on images have in common: image size and augmentation."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec


class RandomAugmentation(Spec):
    """Random changes of color and geometry, applied in sequence (RandAugment, Cubuk et al., 2020)."""

    operations: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of changes per image."""
    magnitude: Annotated[int, Field(ge=1, le=10)] = 9
    """Strength of the changes, from 1 to 10."""


class Pictures(Spec):
    """Images as a model sees them: resized to its size, and changed at random each time that it learns from them."""

    image_size: Annotated[int | None, Field(ge=4, le=4_096)] = None
    """Height and width in pixels, for models that accept any size (ResNet); defaults to the parent's, or 224."""
    smallest_side: Annotated[int, Field(ge=1, le=4_096)] = 8
    """Minimum height and width in pixels; smaller images are rejected."""
    flip: bool = False
    """Mirror each image horizontally with a probability of one half."""
    crop: Annotated[float | None, Field(gt=0.0, lt=1.0)] = None
    """Minimum share of an image's area for random cropping, after which it is resized; by default, images are not
    cropped."""
    rand_augment: RandomAugmentation | None = None
    """Random changes of color and geometry."""
