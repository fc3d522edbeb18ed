"""What objectives and tasks on images have in common: their size, and how they are changed at random."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec


class RandomAugmentation(Spec):
    """Random changes of colours and position, one after another (RandAugment, Cubuk et al., 2020)."""

    operations: Annotated[int, Field(ge=1, le=16)] = 2
    """Changes an image."""
    magnitude: Annotated[int, Field(ge=1, le=10)] = 9
    """Strength of the changes, from 1 to 10."""


class Pictures(Spec):
    """Images as a model sees them: resized to its size, and changed at random each time that it learns from them."""

    image_size: Annotated[int | None, Field(ge=4, le=4_096)] = None
    """Height and width in pixels, for models that take any size (ResNet); by default the parent's, or 224."""
    smallest_side: Annotated[int, Field(ge=1, le=4_096)] = 8
    """Images with fewer pixels in height or width are refused."""
    flip: bool = False
    """Whether half of the images are mirrored, left to right."""
    crop: Annotated[float | None, Field(gt=0.0, lt=1.0)] = None
    """Smallest part of an image's area that is cut out at random and resized; without it, images stay whole."""
    rand_augment: RandomAugmentation | None = None
    """Random changes."""
