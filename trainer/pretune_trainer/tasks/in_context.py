"""Labels asked of a causal language model that has not been trained for them: zero-shot, or shown a few examples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune_api.fields import suggestion
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row
from pretune_trainer.errors import UserError
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import PLACES, Batch, Context
from pretune_trainer.tasks.language import (
    NOTHING,
    encode,
    following,
    language_model,
    log_probabilities,
    padded,
    padded_inputs,
    places_of,
)
from pretune_trainer.tasks.sequence_classification import SequenceClassification

WHERE: Final = "spec.task.sequenceClassification.inContext"
_BETWEEN: Final = "\n\n"
"""Between filled-in prompts, as in lm-evaluation-harness."""
_FEWEST: Final = 4
"""Tokens that each text must be given at least."""


class InContext(SequenceClassification):
    """A label is as likely as its words behind the filled-in prompt (GPT-3; Brown et al., 2020, section 2.4).

    `context.sequence_length` are all positions of the model; the texts share them evenly.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        asked = self.spec.in_context
        assert asked is not None, "a language model is asked where the spec says how"
        self._before, after = asked.prompt.removesuffix("{label}").split("{text}", 1)
        words = _words(self.spec.labels, asked.words)
        self._endings = [np.asarray(ids, np.int32) for ids in encode(self.tokenizer, [after + each for each in words])]
        self._between = np.asarray(encode(self.tokenizer, [_BETWEEN])[0], np.int32)
        begin = self.tokenizer.bos_token_id
        self.shown: Array = np.asarray([] if begin is None else [begin], np.int32)
        """What stands before each text."""
        self._most = context.sequence_length
        room = self._room(asked.examples_per_class * len(words))
        self.layout = Layout(length=room, packs=False)
        self.fingerprint = f"inContext/2/{room}/{self._before!r}/{self.spec.label_column}/{self.spec.labels}"

    def _room(self, shown: int) -> int:
        """Tokens of each text, and of what stands before it, where so many examples are shown."""
        around = max(map(len, self._endings)) + len(self._between)
        room = (self._most - len(self.shown)) // (shown + 1) - around
        least = _FEWEST + len(encode(self.tokenizer, [self._before])[0])
        if room < least:
            raise UserError(
                f"{WHERE}.examplesPerClass",
                f"{shown} examples and a text have {room} tokens each, besides labels, in the model's {self._most} "
                f"positions, but need at least {least}; lower it, or shorten the prompt",
            )
        return room

    def model(self, build: Build) -> PreTrainedModel:
        """The causal language model itself."""
        return language_model(build)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a text that is not blank, cut at its share of the row: ids int32 [n] from the prompt's beginning,
        labels int32 [1].

        What follows the text is the same for all, but for the label.
        """
        encoded = encode(self.tokenizer, [self._before + row.text() for row in rows])
        for ids, row in zip(encoded, rows, strict=True):
            example = {"ids": np.asarray(ids[: self.layout.length], np.int32), "labels": self._labels(row)}
            yield [example] if row.text().strip() else []

    def show(self, examples: Iterable[Example]) -> None:
        """Let these stand before every text, in this order, with their labels."""
        told = [(each["ids"], self._endings[self.class_of(each)], self._between) for each in examples]
        self.shown = np.concatenate([self.shown, *(part for parts in told for part in parts)])

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """A row for each label of each text: input_ids, attention_mask int64 [packs x labels, width].

        Targets: "lm" int64 of that shape, what stands behind the text, aligned with the position that predicts,
        and its "places"; "label" int64 [packs].
        """
        pairs = [self._row(pack, answer) for pack in packs for answer in self._endings]
        rows, targets = [row for row, _ in pairs], [target for _, target in pairs]
        inputs = {**padded_inputs(rows, self.pad, self._most), "use_cache": False}
        wanted = padded(targets, IGNORED, self._most)
        found = {"lm": wanted, PLACES: places_of(wanted), "label": torch.tensor(self.chosen(packs))}
        kept = sum(1 for pack in packs if pack.examples)
        return Batch(inputs, found, {"label": kept}, sum(map(len, rows)))

    def _row(self, pack: Pack, answer: Array) -> tuple[Array, Array]:
        """Tokens and targets of one label; nothing where the pack only fills up a batch."""
        if not pack.examples:
            return NOTHING, NOTHING
        row = np.concatenate([self.shown, pack.examples[0]["ids"], answer])
        return row, following(row, len(row) - len(answer))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-probability of what stands behind the text, with each label: float32 [packs, labels].

        The words before the label are the same for all labels, and cancel out.
        """
        return log_probabilities(model, batch).reshape(-1, len(self._endings))


def _words(labels: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """What is said for each label."""
    unknown = sorted(words.keys() - set(labels))
    if unknown:
        raise UserError(f"{WHERE}.words", f"'{unknown[0]}' is not a label; {suggestion(labels, unknown[0])}")
    return [words.get(label, label) for label in labels]
