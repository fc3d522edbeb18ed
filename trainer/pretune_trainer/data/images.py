"""Images: decoded, resized and normalised as an image processor of transformers does, many times faster."""

import io
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pretune_trainer.ahead import ahead
from pretune_trainer.data.example import Place, Row
from pretune_trainer.errors import BadRowError

Pixels = NDArray[np.float32]
"""An image as a model reads it: channels first, normalised."""

FILE_NAME: Final = "preprocessor_config.json"
"""Where transformers looks for an image processor."""
DECODED_AT_ONCE: Final = 8
"""Images decoded, and changed, at once, each in a thread: Pillow lets others work meanwhile."""
_CHANNELS: Final = 3
_COLOUR: Final = "RGB"
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF")
"""Formats that Pillow decodes itself. Whatever else it knows is not to be had from anybody's data: to show EPS, it has
Ghostscript carry out a program."""
_DEEP: Final = ("I", "F")
"""What Pillow calls greys of 16 and 32 bits, as microscopes and scanners write them."""
_PATCH: Final = 16
"""Height and width of a usual ViT's patches."""


@dataclass(frozen=True)
class Images:
    """How images become pixels; what `ViTImageProcessor` of transformers does with the same settings."""

    height: int
    width: int
    mean: tuple[float, ...] = (0.5,) * _CHANNELS
    """Subtracted from each channel, which is from 0 to 1."""
    std: tuple[float, ...] = (0.5,) * _CHANNELS
    """What each channel is divided by then."""

    @property
    def tokens(self) -> int:
        """Tokens that an image weighs as much as, for the number of rows computed at once: patches of a usual ViT."""
        return -(-self.height * self.width // _PATCH**2)

    def pixels(self, image: Image.Image) -> Pixels:
        """The image, resized and normalised: float32 [3, height, width]."""
        resized = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        values = np.asarray(resized, np.float32) / np.float32(255)
        normalised = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))

    def save(self, folder: Path) -> None:
        """Write the settings as `AutoImageProcessor` reads them."""
        settings = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": self.height, "width": self.width},
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / FILE_NAME).write_text(json.dumps(settings, indent=2))

    def normalised_as(self, settings: dict[str, object]) -> Self:
        """The same size, normalised as an image processor's settings say, where they do: by its mean and deviation, or
        not at all."""
        if settings.get("do_normalize") is False:
            return replace(self, mean=(0.0,) * _CHANNELS, std=(1.0,) * _CHANNELS)
        mean, std = (settings.get(name) for name in ("image_mean", "image_std"))
        if not isinstance(mean, list) or not isinstance(std, list):
            return self
        return replace(self, mean=tuple(mean), std=tuple(std))


def decode(content: bytes) -> Image.Image:
    """The image in a PNG, JPEG or other file, in colour, the right way up.

    Raises:
        ValueError: it is no image, a damaged one, or one of more than 8 bits a channel.
    """
    try:
        return _in_colour(_upright(_opened(content)))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the image has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller") from error
    except (OSError, SyntaxError, ValueError) as error:
        gist = f" ({error})" if not isinstance(error, UnidentifiedImageError) else ""
        raise ValueError(f"the image cannot be decoded{gist}; supported formats are PNG and JPEG") from error


def _opened(content: bytes) -> Image.Image:
    """The image, as yet not decoded.

    Of too many pixels Pillow merely warns, up to twice as many. For a while to make an error of a warning would be for
    the whole process, and images are decoded in several threads.
    """
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    if image.mode.startswith(_DEEP):  # as colour, Pillow would show white for all that is brighter than 255
        raise ValueError(f"its greys have more than 8 bits, {image.mode}, and most would be white; convert it to 8")
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held, which its EXIF data may say, and as pipelines of transformers show it."""
    image.load()
    with suppress(OSError, SyntaxError, ValueError, struct.error):  # the EXIF data is damaged, and the image is not
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _in_colour(image: Image.Image) -> Image.Image:
    """The image as RGB. One that is would be copied by Pillow: in each thread that decodes, 360 MB of a large one."""
    return image if image.mode == _COLOUR else image.convert(_COLOUR)


def checked(rows: Sequence[Row], smallest_side: int, column: str | None = None) -> Iterator[bytes]:
    """The file in the column of each row, which holds an image that is not too small.

    Raises:
        BadRowError: one does not.
    """
    return ahead(lambda row: _checked(row.content(column), row.place, smallest_side), rows, DECODED_AT_ONCE)


def _checked(content: bytes, place: Place, smallest_side: int) -> bytes:
    try:
        image = decode(content)
    except ValueError as error:
        raise BadRowError(str(place), str(error)) from error
    if min(image.size) < smallest_side:
        width, height = image.size
        raise BadRowError(str(place), f"the image has {width} x {height} pixels; smallestSide requires {smallest_side}")
    return content
