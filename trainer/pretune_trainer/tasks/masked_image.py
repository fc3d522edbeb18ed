"""Painting what is hidden of an image, by a masked autoencoder (MAE, He et al., 2022)."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from pretune_api.masked_image import MaskedImage as Spec
from pretune_api.model import Architecture
from pretune_trainer.data.augment import shown
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.data.images import DECODED_AT_ONCE, Images, Pixels, checked
from pretune_trainer.errors import UserError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.mean_loss import MeanLoss
from pretune_trainer.model.build import Build
from pretune_trainer.model.origin import check_type
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.logits import fitting

_EPSILON = 1e-6
"""Added to a patch's variance, as in the paper's code."""


class MaskedImage(Task[float]):
    """Mean squared error of the hidden patches' pixels.

    Which patches are hidden belongs to the row: the same at any number of ranks, and for what is held out always.
    """

    metrics_known: Mapping[str, bool] = MeanLoss.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.seed = context.seed
        self.images = context.images
        self.decoders = ThreadPoolExecutor(DECODED_AT_ONCE)
        self.layout = Layout(length=self.images.tokens, packs=False)
        self.fingerprint = f"maskedImage/1/{self.spec.smallest_side}"
        self.patches = 0
        """Patches of an image. Known once the model is made."""

    def model(self, build: Build) -> PreTrainedModel:
        """A masked autoencoder."""
        check_type(build.origin, "vit_mae", "maskedImage")
        model = build.make(AutoModelForPreTraining)
        patches = _patches(model.config, self.images)
        if isinstance(build.origin, Architecture):
            _place(model, patches)
        model.config.mask_ratio = self.spec.mask_ratio
        model.config.norm_pix_loss = self.spec.normalize_pixels
        return model

    def observe(self, model: PreTrainedModel) -> None:
        """How many patches the model makes of an image."""
        self.patches = _patches(model.config, self.images)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example an image: file uint8 [bytes]."""
        for content in checked(rows, self.spec.smallest_side):
            yield [{"file": np.frombuffer(content, np.uint8)}]

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Images [n, 3, height, width], and noise int64 [n, patches] that decides what is hidden: those with the most.

        Rows without an image are left out; one stays, blank, if there is no other.
        """
        kept = [pack for pack in packs if pack.examples]
        if not kept:
            blank = torch.zeros(1, 3, self.images.height, self.images.width)
            return Batch({"pixel_values": blank, "noise": torch.arange(self.patches)[None]}, {}, {"image": 0})
        pixels, noise = zip(*self.decoders.map(self._shown, kept), strict=True)
        inputs = {"pixel_values": torch.from_numpy(np.stack(pixels)), "noise": torch.from_numpy(np.stack(noise))}
        return Batch(inputs, {}, {"image": len(kept)}, len(kept))

    def _shown(self, pack: Pack) -> tuple[Pixels, NDArray[np.int64]]:
        """A row's image, and an order of its patches: whole numbers, as bf16 would make many of them the same."""
        random = pack.random(self.seed)
        pixels = shown(pack.examples[0]["file"], self.images, self.spec, None if pack.held_out else random)
        return pixels, random.random(self.patches, np.float32).argsort().argsort()

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over images."""
        losses = self._losses(model, batch)
        return {"image": losses.sum() if batch.counts["image"] else losses.sum() * 0.0}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[float]:
        """The loss of each image."""
        losses: list[float] = self._losses(model, batch).tolist()
        return losses[: batch.counts["image"]]

    def metrics(self) -> list[Metric[float]]:
        """The mean loss."""
        return [MeanLoss()]

    def _losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Of each image: float32 [n]."""
        painted = model(**fitting(batch.inputs, model))
        wanted = model.patchify(batch.inputs["pixel_values"])  # type: ignore[operator]  # of ViTMAEForPreTraining
        if self.spec.normalize_pixels:
            variance, mean = torch.var_mean(wanted, -1, keepdim=True)
            wanted = (wanted - mean) / (variance + _EPSILON).sqrt()
        errors: Tensor = (painted.logits.float() - wanted).square().mean(-1)
        hidden: Tensor = painted.mask.float()
        return (errors * hidden).sum(-1) / hidden.sum(-1)


def _place(model: PreTrainedModel, patches: int) -> None:
    """Give a new model the fixed positions of its patches.

    transformers 5.23 leaves them at zero: the encoder's since its projection is initialised before, the decoder's since
    it clears them afterwards.
    """
    embeddings = model.vit.embeddings
    embeddings.patch_embeddings.projection._is_hf_initialized = False
    embeddings.initialize_weights()
    model.decoder.initialize_weights(patches)


def _patches(config: PretrainedConfig, images: Images) -> int:
    """Patches of an image.

    Raises:
        UserError: images are not square, or not made of whole patches.
    """
    side, patch = images.height, config.patch_size
    if images.width != side or not isinstance(patch, int) or side % patch:
        raise UserError(
            "spec.model.architecture.config.image_size",
            f"{side} x {images.width} pixels cannot be cut into patches (patch_size {patch}); "
            "images must be square, and their sides a multiple of the patch size",
        )
    return (side // patch) ** 2
