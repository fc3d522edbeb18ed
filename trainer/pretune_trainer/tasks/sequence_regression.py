"""A number per text, or pair of texts: a rating, a price, how hard it is to read, how similar they are."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pretune_api.tasks import SequenceRegression as Spec
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.errors import BadRowError, quoted
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.regression import Guessed, RegressionReport
from pretune_trainer.model.build import Build
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.logits import logits_of_whole
from pretune_trainer.tasks.whole_texts import WholeTexts

_LARGEST: Final = float(np.finfo(np.float32).max)
"""Targets are kept in 32 bits."""


class SequenceRegression(Task[Guessed]):
    """A linear head with one output on the model's summary of the text; squared error."""

    metrics_known = RegressionReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.column = context.spec.target_column
        self.tokenizer = context.tokenizer
        self.texts = WholeTexts(context, context.spec.pair_column)
        self.layout = Layout(length=context.sequence_length, packs=False)
        self.columns = (self.column, *self.texts.columns)
        self.nothing_learnt = self.texts.nothing_learnt
        named = "/".join([str(context.sequence_length), *self.columns])
        self.fingerprint = f"sequenceRegression/2/{named}{self.texts.fingerprint}"

    def model(self, build: Build) -> PreTrainedModel:
        """A model with a head that gives a number."""
        return build.make(AutoModelForSequenceClassification, num_labels=1, problem_type="regression")

    def observe(self, model: PreTrainedModel) -> None:
        """Whether it reads which of two texts a token belongs to."""
        self.texts.observe(model)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """As of `WholeTexts`, with target float32 [1]."""
        return self.texts.examples(rows, [{"target": np.asarray([self._target(row)], np.float32)} for row in rows])

    def _target(self, row: Row) -> float:
        value = row.number(self.column)
        if isinstance(value, Decimal):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise BadRowError(
                str(row.place),
                f"column '{self.column}' holds {quoted(value)}, expected a number that fits into 32 bits",
            )
        return float(value)

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Texts padded on the right; targets "target" float32 [packs], and "kept" bool [packs]."""
        kept = [bool(pack.examples) for pack in packs]
        values = [float(pack.examples[0]["target"][0]) if pack.examples else 0.0 for pack in packs]
        targets = {"target": torch.tensor(values), "kept": torch.tensor(kept)}
        inputs = self.texts.inputs(packs)
        return Batch(inputs, targets, {"target": sum(kept)}, sum(len(pack) for pack in packs))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Squared errors, summed over texts."""
        errors = (_numbers(model, batch) - batch.targets["target"]) * batch.targets["kept"]
        return {"target": errors.square().sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Guessed]:
        """Expected and predicted number of each text."""
        expected, predicted = batch.targets["target"].tolist(), _numbers(model, batch).tolist()
        kept = batch.targets["kept"].tolist()
        return [Guessed(right, said) for right, said, keep in zip(expected, predicted, kept, strict=True) if keep]

    def metrics(self) -> list[Metric[Guessed]]:
        """Errors and correlation."""
        return [RegressionReport()]


def _numbers(model: nn.Module, batch: Batch) -> Tensor:
    return logits_of_whole(model, batch.inputs)[:, 0]
