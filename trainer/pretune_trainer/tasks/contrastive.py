"""Images and their captions, brought together by two towers (CLIP, Radford et al., 2021)."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForZeroShotImageClassification, PretrainedConfig, PreTrainedModel

from pretune_api.contrastive import Contrastive as Spec
from pretune_trainer.data.augment import shown
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row
from pretune_trainer.data.images import DECODED_AT_ONCE, Pixels, checked
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.image_text_retrieval import Compared, ImageTextRetrieval
from pretune_trainer.model.build import Build
from pretune_trainer.model.gather import gathered
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.model.matching import matching_loss, own_places, unit
from pretune_trainer.model.origin import check_type
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.encoding import encode_whole
from pretune_trainer.tasks.labels import label_number

_MOST: Final = math.log(100)
"""Largest logarithm of the scale of similarities, as in the paper: more is unstable."""
_ARGMAX: Final = 2
"""The end's id in the configs of OpenAI's models, which stands for the largest id of a text."""
_TEXTS: Final = 256
"""Prompts of labels computed at once."""


class Contrastive(Task[Compared]):
    """Each image finds its caption among all of the step, and each caption its image: cross-entropy, both ways.

    The similarities' scale is learnt. Rows are compared over all ranks, so each computes its rows of a step at once.
    """

    couples_rows = True

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.seed = context.seed
        self.images = context.images
        self.decoders = ThreadPoolExecutor(DECODED_AT_ONCE)
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.layout = Layout(length=context.sequence_length, packs=False)
        zero_shot = self.spec.zero_shot
        self.labels = zero_shot.labels if zero_shot else []
        self.columns = (self.spec.image_column, *((zero_shot.label_column,) if zero_shot else ()))
        self.metrics_known = ImageTextRetrieval.known if zero_shot else ImageTextRetrieval.of_pairs
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        self.where = f"spec.{context.part}.contrastive.zeroShot.labels"
        self.fingerprint = f"contrastive/1/{self.spec.smallest_side}/{self.columns}/{self.labels}"
        self._classifier: Tensor | None = None

    def model(self, build: Build) -> PreTrainedModel:
        """A model with two towers."""
        check_type(build.origin, "clip", "contrastive")
        model = build.make(AutoModelForZeroShotImageClassification)
        self._check_end(model.config.text_config)
        return model

    def _check_end(self, config: PretrainedConfig) -> None:
        """Refuse a tokenizer that does not end texts where the text tower looks for their summary."""
        end, read = self.tokenizer.eos_token_id, config.eos_token_id
        if end is None or self.tokenizer("a")["input_ids"][-1] != end:
            raise UserError("spec.tokenizer", "it adds no end token to a text, which clip needs; train a bpe")
        if end != (len(self.tokenizer) - 1 if read == _ARGMAX else read):
            looked = "the largest id" if read == _ARGMAX else f"id {read}"
            raise UserError("spec.tokenizer", f"its end token has id {end}, but the model looks for {looked}")

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a pair: ids int32 [n] with an end, file uint8 [bytes], and label int32 [1] with zeroShot."""
        captions = [_caption(row) for row in rows]
        encoded = encode_whole(self.tokenizer, captions, self.layout.length)
        files = checked(rows, self.spec.smallest_side, self.spec.image_column)
        for row, (ids, needed), content in zip(rows, encoded, files, strict=True):
            example: dict[str, Array] = {"ids": np.array(ids, np.int32), "file": np.frombuffer(content, np.uint8)}
            yield [fitted(example | self._label(row), needed, self.layout.length)]

    def _label(self, row: Row) -> dict[str, Array]:
        if self.spec.zero_shot is None:
            return {}
        column = self.spec.zero_shot.label_column
        label = row.labels(column) if column in row.values else None
        number = IGNORED if label is None else label_number(row, label, self.numbers, self.where)
        return {"label": np.array([number], np.int32)}

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Ids int64 [n, longest] and images [n, 3, height, width]; target "pair" bool [n]: rows without one are blank.

        Every rank has as many rows, so that they can be gathered.
        """
        pixels = list(self.decoders.map(self._shown, packs))
        ids = [pack.examples[0]["ids"].tolist() if pack.examples else [] for pack in packs]
        inputs = {"input_ids": self._padded(ids), "pixel_values": torch.from_numpy(np.stack(pixels))}
        pairs = torch.tensor([bool(pack.examples) for pack in packs])
        return Batch(inputs, {"pair": pairs}, {"pair": int(pairs.sum())}, sum(map(len, ids)), packs)

    def _shown(self, pack: Pack) -> Pixels:
        if not pack.examples:
            return np.zeros((3, self.images.height, self.images.width), np.float32)
        random = None if pack.held_out else pack.random(self.seed)
        return shown(pack.examples[0]["file"], self.images, self.spec, random)

    def _padded(self, ids: Sequence[list[int]]) -> Tensor:
        """Attention is causal: what stands behind the end is never looked at."""
        longest = max(1, *map(len, ids))
        return torch.tensor([each + [self.pad] * (longest - len(each)) for each in ids])

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over this rank's pairs, each compared with those of all ranks."""
        images = unit(_images(model, batch.inputs["pixel_values"]))
        texts = unit(_texts(model, batch.inputs["input_ids"]))
        pairs = batch.targets["pair"]
        own, blank, scale = own_places(pairs), gathered(pairs.float()) == 0, _scale(model)
        ways = ((images, gathered(texts)), (texts, gathered(images)))
        losses = [matching_loss(ones, others, own, blank, scale) for ones, others in ways]
        return {"pair": (losses[0] + losses[1]) / 2}

    def settle(self, model: nn.Module) -> None:
        """Keep the scale of similarities at 100 or less."""
        parameter = model.logit_scale
        assert isinstance(parameter, nn.Parameter)
        with torch.no_grad():
            parameter.clamp_(max=_MOST)

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Compared]:
        """Both vectors of each pair, and whether the image is given its label."""
        images = unit(_images(model, batch.inputs["pixel_values"]))
        texts = unit(_texts(model, batch.inputs["input_ids"]))
        guesses = (images @ self._labels(model).T).argmax(-1).tolist() if self.labels else [IGNORED] * len(images)
        scale = float(_scale(model))
        found = zip(batch.packs, images.cpu().numpy(), texts.cpu().numpy(), guesses, strict=True)
        return [
            Compared(image, text, _name(one["file"]), _name(one["ids"]), scale, _right(one, guess))
            for pack, image, text, guess in found
            for one in pack.examples
        ]

    def _labels(self, model: nn.Module) -> Tensor:
        """The unit vector of each label, float32 [labels, width]: computed once an evaluation."""
        if self._classifier is None:
            assert self.spec.zero_shot is not None
            means = [self._prompted(model, prompt) for prompt in self.spec.zero_shot.prompts]
            self._classifier = unit(torch.stack(means).mean(0))
        return self._classifier

    def _prompted(self, model: nn.Module, prompt: str) -> Tensor:
        """The unit vectors of all labels in a prompt."""
        texts = [prompt.replace("{label}", label) for label in self.labels]
        ids = [found for found, _ in encode_whole(self.tokenizer, texts, self.layout.length)]
        device = next(model.parameters()).device
        parts = (self._padded(ids[start : start + _TEXTS]).to(device) for start in range(0, len(ids), _TEXTS))
        return torch.cat([unit(_texts(model, part)) for part in parts])

    def metrics(self) -> list[Metric[Compared]]:
        """Retrieval, and the accuracy of labels. A new evaluation begins: labels are computed anew."""
        self._classifier = None
        return [ImageTextRetrieval(labelled=bool(self.labels))]


def _caption(row: Row) -> str:
    if row.values.get(row.column) is None or not row.text().strip():
        raise BadRowError(str(row.place), f"column '{row.column}' holds no caption; every image needs one")
    return row.text()


def _images(model: nn.Module, pixels: Tensor) -> Tensor:
    found = model.get_image_features(pixel_values=pixels).pooler_output  # type: ignore[operator]  # of CLIPModel
    assert isinstance(found, Tensor)
    return found


def _texts(model: nn.Module, ids: Tensor) -> Tensor:
    found = model.get_text_features(input_ids=ids).pooler_output  # type: ignore[operator]  # of CLIPModel
    assert isinstance(found, Tensor)
    return found


def _scale(model: nn.Module) -> Tensor:
    scale = model.logit_scale
    assert isinstance(scale, Tensor)
    return scale.float().exp()


def _name(array: Array) -> bytes:
    return blake2b(array.tobytes(), digest_size=16).digest()


def _right(example: Example, guess: int) -> bool | None:
    """Whether the image is given its label; None where it has none."""
    label = int(example["label"][0]) if "label" in example else IGNORED
    return None if label == IGNORED else label == guess
