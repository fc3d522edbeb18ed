"""One label, or several, per text or pair of texts: sentiment, legal clauses, fraud, inference."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pretune_api.fields import suggestion
from pretune_api.tasks import SequenceClassification as Spec
from pretune_trainer.data.example import Example, Layout, Pack, Row, kind_of
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.classification import ClassificationReport, Judged
from pretune_trainer.metrics.confidence import Confidence
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.judging import log_odds
from pretune_trainer.tasks.labels import label_number
from pretune_trainer.tasks.logits import logits_of_whole
from pretune_trainer.tasks.whole_texts import WholeTexts


class SequenceClassification(Task[Judged]):
    """A linear head on the model's summary of the text; cross-entropy, or binary cross-entropy per label."""

    metrics_known: Mapping[str, bool] = {**ClassificationReport.known, **Confidence.known}

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.texts = WholeTexts(context, self.spec.pair_column)
        self.layout = Layout(length=context.sequence_length, packs=False)
        self.columns = (self.spec.label_column, *self.texts.columns)
        self.nothing_learnt = self.texts.nothing_learnt
        self.seed = context.seed
        self.classes = () if self.spec.multi_label else self.spec.labels
        self.listed_labels = self.spec.labels
        self.numbers = {label: number for number, label in enumerate(self.spec.labels)}
        examples = self.spec.model_dump_json(exclude={"class_weights", "in_context"}, exclude_none=True)
        self.fingerprint = f"sequenceClassification/3/{context.sequence_length}/{examples}{self.texts.fingerprint}"
        self.class_weights = self._class_weights()

    def _class_weights(self) -> Tensor:
        """float32 [labels]."""
        weights, where = self.spec.class_weights, "spec.task.sequenceClassification.classWeights"
        unknown = sorted(weights.keys() - self.numbers.keys())
        if unknown:
            raise UserError(where, f"'{unknown[0]}' is not a label; {suggestion(self.numbers, unknown[0])}")
        return torch.tensor([weights.get(label, 1.0) for label in self.spec.labels])

    def model(self, build: Build) -> PreTrainedModel:
        """A model with a classification head."""
        return build.make(
            AutoModelForSequenceClassification,
            num_labels=len(self.spec.labels),
            id2label=dict(enumerate(self.spec.labels)),
            label2id=self.numbers,
            problem_type="multi_label_classification" if self.spec.multi_label else "single_label_classification",
        )

    def observe(self, model: PreTrainedModel) -> None:
        """Whether it reads which of two texts a token belongs to."""
        self.texts.observe(model)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """As of `WholeTexts`, with labels int32 [number of its labels]."""
        return self.texts.examples(rows, [{"labels": self._labels(row)} for row in rows])

    def _labels(self, row: Row) -> NDArray[np.int32]:
        value = row.labels(self.spec.label_column)
        if isinstance(value, list) != self.spec.multi_label:
            wanted = "multiLabel needs a list of labels" if self.spec.multi_label else "a list needs multiLabel: true"
            raise BadRowError(str(row.place), f"column '{self.spec.label_column}' holds {kind_of(value)}; {wanted}")
        chosen = value if isinstance(value, list) else [value]
        where = "spec.task.sequenceClassification.labels"
        return np.asarray([label_number(row, label, self.numbers, where) for label in chosen], np.int32)

    def class_of(self, example: Example) -> int:
        """Number of its label."""
        return int(example["labels"][0])

    def labels_of(self, example: Example) -> list[int]:
        """Numbers of its labels."""
        return [int(number) for number in example["labels"]]

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Texts padded on the right; targets "label" int64 [packs], or float32 [packs, labels] and "kept" [packs]."""
        inputs = self.texts.inputs(packs)
        targets = self._many(packs) if self.spec.multi_label else self._single(packs)
        kept = sum(1 for pack in packs if pack.examples)
        count = kept * len(self.spec.labels) if self.spec.multi_label else kept
        return Batch(inputs, targets, {"label": count}, sum(len(pack) for pack in packs))

    def _single(self, packs: Sequence[Pack]) -> dict[str, Tensor]:
        return {"label": torch.tensor(self.chosen(packs))}

    def chosen(self, packs: Sequence[Pack]) -> list[int]:
        """The label's number, of each pack; IGNORED where it only fills up a batch."""
        return [self.class_of(pack.examples[0]) if pack.examples else IGNORED for pack in packs]

    def _many(self, packs: Sequence[Pack]) -> dict[str, Tensor]:
        targets = torch.zeros(len(packs), len(self.spec.labels))
        for row, pack in enumerate(packs):
            for example in pack.examples:
                targets[row, example["labels"].astype(np.int64)] = 1.0
        return {"label": targets, "kept": torch.tensor([bool(pack.examples) for pack in packs])}

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over texts, and over labels where there can be several."""
        return {"label": self._losses(self.logits(model, batch), batch).sum()}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model makes of each label: float32 [packs, labels]."""
        return logits_of_whole(model, batch.inputs)

    def _losses(self, logits: Tensor, batch: Batch) -> Tensor:
        target = batch.targets["label"]
        weight = self.class_weights.to(logits.device)
        if not self.spec.multi_label:
            return F.cross_entropy(logits, target, weight, ignore_index=IGNORED, reduction="none")
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
        return losses.sum(-1) * batch.targets["kept"]

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Judged]:
        """Expected and predicted labels, and the loss, of each text."""
        logits = self.logits(model, batch)
        losses = self._losses(logits, batch).tolist()
        kept, expected, predicted = self._answers(logits, batch)
        odds = (logits if self.spec.multi_label else log_odds(logits)).tolist()
        share = len(self.spec.labels) if self.spec.multi_label else 1
        return [
            Judged(tuple(right), tuple(said), loss / share, each)
            for keep, right, said, loss, each in zip(kept, expected, predicted, losses, odds, strict=True)
            if keep
        ]

    def _answers(self, logits: Tensor, batch: Batch) -> tuple[list[bool], list[list[int]], list[list[int]]]:
        target = batch.targets["label"]
        if not self.spec.multi_label:
            return (target != IGNORED).tolist(), target[:, None].tolist(), logits.argmax(-1, keepdim=True).tolist()
        expected = [row.nonzero().flatten().tolist() for row in target.cpu()]
        predicted = [row.nonzero().flatten().tolist() for row in (logits > 0).cpu()]
        return batch.targets["kept"].tolist(), expected, predicted

    def metrics(self) -> list[Metric[Judged]]:
        """Accuracy, precision, recall, F1, and what the model's confidence is worth."""
        labels, several = self.spec.labels, self.spec.multi_label
        return [ClassificationReport(labels, several=several), Confidence(len(labels), several=several)]
