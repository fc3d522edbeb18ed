"""The objective maskedImage."""

from typing import Annotated

from pydantic import Field

from pretune_api.images import Pictures


class MaskedImage(Pictures):
    """Reconstruct masked patches of an image (MAE, He et al., 2022): trains a vit_mae model.

    The encoder sees the visible patches, and a small decoder reconstructs the others; the mask changes every epoch. An
    imageClassification that starts from the model uses its encoder, as a ViT. The source's column holds PNG or JPEG
    bytes, or an object {bytes}; or the source consists of image files.
    """

    mask_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    """Share of the patches to mask; overrides mask_ratio in the model's config."""
    normalize_pixels: bool = True
    """Normalize the pixels of each patch to mean 0 and standard deviation 1, which yields better encoders."""
