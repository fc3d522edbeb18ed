"""Images changed at random, so that few of them teach more. All randomness comes from the row's own generator.

torchvision has the same changes, but draws from PyTorch's global generator, from which dropout draws on another thread.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from pretune_api.images import Pictures, RandomAugmentation
from pretune_api.objectives import ImageClassification
from pretune_trainer.data.example import Array
from pretune_trainer.data.images import Images, Pixels, decode

_ASPECT: Final = 4 / 3
"""Crops are at most so much wider than high, or higher than wide, beyond the image's own shape."""
_LARGEST: Final = 10
"""Magnitude at which changes are strongest."""
_GREY: Final = (128, 128, 128)
"""What comes in where an image is moved away."""

Change = Callable[[Image.Image, float], Image.Image]
"""(image, strength from -1 to 1) -> image."""


def shown(file: Array, images: Images, spec: Pictures, random: np.random.Generator | None) -> Pixels:
    """The image in a file (uint8 [bytes]) as a model sees it; without `random` it is shown as it is."""
    image = decode(file.tobytes())
    return images.pixels(augmented(image, spec, random) if random is not None else image)


def augmented(image: Image.Image, spec: Pictures, random: np.random.Generator) -> Image.Image:
    """The image as this row shows it: cut out, mirrored, changed; as `spec` asks."""
    if spec.crop is not None:
        image = image.crop(_box(image.size, spec.crop, random))
    if spec.flip and random.random() < 0.5:
        image = ImageOps.mirror(image)
    return _changed(image, spec.rand_augment, random) if spec.rand_augment is not None else image


def mixed(one: Pixels, other: Pixels, spec: ImageClassification, random: np.random.Generator) -> tuple[Pixels, float]:
    """Two images in one, by mixup or CutMix, and the share of the first in it. Arrays float32 [3, height, width]."""
    ways = [(alpha, mix) for alpha, mix in ((spec.mixup, _blended), (spec.cutmix, _pasted)) if alpha is not None]
    alpha, mix = ways[int(random.integers(len(ways)))]
    return mix(one, other, float(random.beta(alpha, alpha)), random)


def _blended(one: Pixels, other: Pixels, share: float, random: np.random.Generator) -> tuple[Pixels, float]:
    return np.float32(share) * one + np.float32(1 - share) * other, share


def _pasted(one: Pixels, other: Pixels, share: float, random: np.random.Generator) -> tuple[Pixels, float]:
    """`one` with a rectangle of `other` in it, and the share that it keeps: edges cut some of the rectangle off."""
    _, height, width = one.shape
    side = math.sqrt(1 - share)
    top, bottom = _edges(height, side, random)
    left, right = _edges(width, side, random)
    both = one.copy()
    both[:, top:bottom, left:right] = other[:, top:bottom, left:right]
    return both, 1 - (bottom - top) * (right - left) / (height * width)


def _edges(length: int, share: float, random: np.random.Generator) -> tuple[int, int]:
    centre, half = random.integers(length), round(length * share) / 2
    return max(0, int(centre - half)), min(length, int(centre + half))


def _box(size: tuple[int, int], smallest: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """A part of the image, of a random area and shape (Inception, Szegedy et al., 2015): left, top, right, bottom."""
    area = random.uniform(smallest, 1.0)
    most = min(math.log(_ASPECT), -math.log(area))  # more would be wider, or higher, than the image
    shape = math.exp(random.uniform(-most, most) / 2)
    shares = (math.sqrt(area) * shape, math.sqrt(area) / shape)
    sides = [max(1, round(length * share)) for length, share in zip(size, shares, strict=True)]
    left, top = (int(random.integers(length - side + 1)) for length, side in zip(size, sides, strict=True))
    return left, top, left + sides[0], top + sides[1]


def _changed(image: Image.Image, spec: RandomAugmentation, random: np.random.Generator) -> Image.Image:
    for _ in range(spec.operations):
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        image = change(image, spec.magnitude / _LARGEST * random.choice((-1.0, 1.0)))
    return image


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_GREY)


_CHANGES: Final[tuple[Change, ...]] = (
    lambda image, strength: image,
    lambda image, strength: ImageOps.autocontrast(image),
    lambda image, strength: ImageOps.equalize(image),
    lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    lambda image, strength: ImageOps.solarize(image, round(255 * (1 - abs(strength)))),
    lambda image, strength: ImageEnhance.Color(image).enhance(1 + 0.9 * strength),
    lambda image, strength: ImageEnhance.Contrast(image).enhance(1 + 0.9 * strength),
    lambda image, strength: ImageEnhance.Brightness(image).enhance(1 + 0.9 * strength),
    lambda image, strength: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * strength),
    lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=_GREY),
    lambda image, strength: _affine(image, 1, 0.3 * strength, 0, 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0.3 * strength, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0.3 * strength * image.width, 0, 1, 0),
    lambda image, strength: _affine(image, 1, 0, 0, 0, 1, 0.3 * strength * image.height),
)
"""The changes of the paper, with its largest ranges; translations by shares of the side."""
