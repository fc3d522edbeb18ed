"""The objective maskedImage."""

from typing import Annotated

from pydantic import Field

from pretune_api.images import Pictures


class MaskedImage(Pictures):
    """Paint what is hidden of an image (MAE, He et al., 2022): a vit_mae model.

    Its encoder sees the patches that are left, a small decoder paints the others; which are hidden is chosen anew in
    every epoch. An imageClassification that starts from it takes the encoder, as a ViT. The source's column holds PNG
    or JPEG bytes, or an object {bytes}; or the source consists of image files.
    """

    mask_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    """Share of the patches that are hidden; it takes the place of mask_ratio in the model's config."""
    normalize_pixels: bool = True
    """Whether each patch is painted with mean 0 and deviation 1, which makes better encoders."""
