"""One label per image, by a classifier of images: a vision transformer, a convolutional network."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageClassification, PreTrainedModel

from pretune_api.objectives import ImageClassification as Spec
from pretune_trainer.data.augment import mixed, shown
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.data.images import DECODED_AT_ONCE, Pixels, checked
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.classification import ClassificationReport, Judged
from pretune_trainer.model.batch_norm import freeze_batch_norms, has_batch_norms
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.labels import label_number
from pretune_trainer.tasks.logits import logits_of


class ImageClassification(Task[Judged]):
    """A linear head on the model's summary of the image; cross-entropy.

    Images are kept as they came, and decoded when their turn comes. With mixup or CutMix every example comes with
    another one: what it is mixed with is drawn with the order, the same at any number of ranks.
    """

    metrics_known: Mapping[str, bool] = ClassificationReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.seed = context.seed
        self.images = context.images
        self.decoders = ThreadPoolExecutor(DECODED_AT_ONCE)
        self.mixes = self.spec.mixup is not None or self.spec.cutmix is not None
        self.layout = Layout(length=self.images.tokens, packs=False, accompanied=self.mixes)
        self.columns = (self.spec.label_column,)
        self.classes = self.listed_labels = self.spec.labels
        self.numbers = {label: number for number, label in enumerate(self.spec.labels)}
        self.where = f"spec.{context.part}.imageClassification.labels"
        self.fingerprint = f"imageClassification/2/{self.spec.smallest_side}/{self.spec.labels}"

    def model(self, build: Build) -> PreTrainedModel:
        """A model with a classification head."""
        model = build.make(
            AutoModelForImageClassification,
            num_labels=len(self.spec.labels),
            id2label=dict(enumerate(self.spec.labels)),
            label2id=self.numbers,
            problem_type="single_label_classification",
        )
        if self.spec.freeze_batch_norm:
            freeze_batch_norms(model)
        return model

    def observe(self, model: PreTrainedModel) -> None:
        """Batch normalisations compare rows."""
        self.couples_rows = has_batch_norms(model)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example an image: file uint8 [bytes], label int32 [1]."""
        for row, content in zip(rows, checked(rows, self.spec.smallest_side), strict=True):
            label = label_number(row, row.labels(self.spec.label_column), self.numbers, self.where)
            yield [{"file": np.frombuffer(content, np.uint8), "label": np.array([label], np.int32)}]

    def class_of(self, example: Example) -> int:
        """Number of its label."""
        return _label(example)

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Images [n, 3, height, width]; targets "label" and "other" int64 [n], the label's "share" float32 [n].

        Rows without an image are left out, since a batch normalisation would see them; one stays if there is no other.
        """
        kept = [pack for pack in packs if pack.examples]
        if not kept:
            blank = torch.zeros(1, 3, self.images.height, self.images.width)
            nothing = torch.tensor([IGNORED])
            targets = {"label": nothing, "other": nothing, "share": torch.ones(1)}
            return Batch({"pixel_values": blank}, targets, {"label": 0})
        pixels, others, shares = zip(*self.decoders.map(self._shown, kept), strict=True)
        targets = {
            "label": torch.tensor([_label(pack.examples[0]) for pack in kept]),
            "other": torch.tensor(others),
            "share": torch.tensor(shares),
        }
        return Batch({"pixel_values": torch.from_numpy(np.stack(pixels))}, targets, {"label": len(kept)}, len(kept))

    def _shown(self, pack: Pack) -> tuple[Pixels, int, float]:
        """A row's image, the label that is mixed into its own, and the share that its own keeps."""
        one, *others = pack.examples
        if pack.held_out:
            return shown(one["file"], self.images, self.spec, None), _label(one), 1.0
        random = pack.random(self.seed)
        pixels, *rest = [shown(each["file"], self.images, self.spec, random) for each in pack.examples]
        if not rest:
            return pixels, _label(one), 1.0
        both, share = mixed(pixels, rest[0], self.spec, random)
        return both, _label(others[0]), share

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over images."""
        logits = logits_of(model, batch.inputs)
        losses = self._losses(logits, batch.targets["label"], self.spec.label_smoothing)
        if self.mixes:
            share = batch.targets["share"]
            losses = share * losses + (1 - share) * self._losses(
                logits, batch.targets["other"], self.spec.label_smoothing
            )
        return {"label": losses.sum()}

    @staticmethod
    def _losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing)

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Judged]:
        """Expected and predicted label, and the loss, of each image."""
        logits, labels = logits_of(model, batch.inputs), batch.targets["label"]
        losses = self._losses(logits, labels, 0.0)
        found = zip(labels.tolist(), logits.argmax(-1).tolist(), losses.tolist(), strict=True)
        return [Judged((label,), (said,), loss) for label, said, loss in found if label != IGNORED]

    def metrics(self) -> list[Metric[Judged]]:
        """Accuracy, precision, recall and F1."""
        return [ClassificationReport(self.spec.labels)]


def _label(example: Example) -> int:
    return int(example["label"][0])
