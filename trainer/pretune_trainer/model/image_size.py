"""How large the images are that a model reads, and how they are normalised."""

from transformers import PretrainedConfig
from transformers.image_processing_base import ImageProcessingMixin

from pretune_api.model import Architecture
from pretune_trainer.data.images import Images
from pretune_trainer.errors import UserError
from pretune_trainer.model.configuration import make_config
from pretune_trainer.model.origin import Source, parent_config

_PATCHES = frozenset({"siglip2"})
"""Types that are given an image's patches instead of it (NaFlex)."""
_USUAL = 224
"""Pixels in height and width, where neither model nor job says."""


def images_for(origin: Architecture | Source, asked: int | None, where: str) -> Images:
    """The images that the model reads; `asked` is the side that the job asks for, in the field `where`.

    Raises:
        UserError: it reads no images, or none of that size, or none in colour.
    """
    whole, model = _config(origin)
    config = getattr(whole, "vision_config", whole)
    if getattr(config, "num_channels", None) is None:
        raise UserError(model, f"{whole.model_type} models do not take images; use a vit or a resnet")
    if whole.model_type in _PATCHES:
        raise UserError(model, f"{whole.model_type} models take patches of images of any size; use a siglip or a vit")
    if config.num_channels != 3:
        raise UserError(model, f"it takes {config.num_channels} channels, but images have 3 (num_channels)")
    settings = {} if isinstance(origin, Architecture) else _settings(origin)
    own = getattr(config, "image_size", None)
    height, width = _sides(own or asked or settings.get("size") or _USUAL)
    if asked not in (None, height) or asked not in (None, width):
        raise UserError(where, f"the model takes images of {width} x {height} pixels; remove it")
    return Images(height, width).normalised_as(settings)


def _config(origin: Architecture | Source) -> tuple[PretrainedConfig, str]:
    """The model's configuration, and the field that it comes from."""
    if isinstance(origin, Architecture):
        return make_config(origin, None, 0, {}), "spec.model.architecture"
    return parent_config(origin), "spec.model.from"


def _settings(source: Source) -> dict[str, object]:
    """The image processor's, where the parent has one."""
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source.name, revision=source.revision)
    except OSError:
        return {}
    return dict(settings)


def _sides(size: object) -> tuple[int, int]:
    """Height and width, in any of transformers' forms: 224, [224, 192], {height, width}, {shortest_edge}."""
    match size:
        case {"height": int(height), "width": int(width)} | [int(height), int(width)]:
            return height, width
        case {"shortest_edge": int(side)} | int(side):
            return side, side
    return _USUAL, _USUAL
