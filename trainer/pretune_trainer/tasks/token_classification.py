"""One label per word, in IOB2: names, symptoms, parts of an address."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification, PreTrainedModel

from pretune_api.tasks import TokenClassification as Spec
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.errors import BadRowError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.entities import EntityReport, Tagged, TagSet
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.encoding import Offsets, added_around, encode_with_offsets
from pretune_trainer.tasks.language import pad_right
from pretune_trainer.tasks.logits import logits_of
from pretune_trainer.tasks.tagging import TaggedText, Tagger


class TokenClassification(Task[Tagged]):
    """A linear head on each word's first token (Devlin et al., 2019); its other tokens are not asked.

    Words are encoded as the text that they stand in, so that the model sees what it sees when it is used. A word that
    no token begins with, such as the second sign of ").", is neither learnt nor judged.
    """

    metrics_known = EntityReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.tags = TagSet(tuple(self.spec.labels))
        self.listed_labels = self.tags.labels
        self.layout = Layout(length=context.sequence_length, packs=False)
        self.columns = (self.spec.label_column,)
        self.fingerprint = f"tokenClassification/2/{context.sequence_length}/{self.spec.model_dump_json()}"
        self.frame = added_around(self.tokenizer)
        self.tagger = Tagger(
            self.tags, self.spec.label_column, "spec.task.tokenClassification.labels", texts_change=context.texts_change
        )

    def model(self, build: Build) -> PreTrainedModel:
        """A model with a head on every token."""
        names = self.tags.names
        return build.make(
            AutoModelForTokenClassification,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
        )

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """Texts, cut between entities where they are longer than a row: ids, tags int32 [n]; IGNORED where no word
        begins.
        """
        texts = [self.tagger.read(row) for row in rows]
        encoded = encode_with_offsets(self.tokenizer, [text.text for text in texts])
        for row, text, (ids, offsets) in zip(rows, texts, encoded, strict=True):
            tags = _first_tokens(text, offsets)
            yield [self._example(ids[start:end], tags[start:end]) for start, end in self._cuts(row, tags)]

    def _example(self, ids: Sequence[int], tags: Sequence[int]) -> Example:
        before, after = self.frame
        framed = [*[IGNORED] * len(before), *tags, *[IGNORED] * len(after)]
        return {"ids": np.asarray([*before, *ids, *after], np.int32), "tags": np.asarray(framed, np.int32)}

    def _cuts(self, row: Row, tags: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Tokens from and until, of each piece: as long as fits, and never within an entity."""
        room = self.layout.length - sum(map(len, self.frame))
        places = [at for at, tag in enumerate(tags) if tag != IGNORED and not self.tags.continues(tag)]
        start = 0
        while len(tags) - start > room:
            fitting = bisect_right(places, start + room)
            end = places[fitting - 1] if fitting else start
            if end <= start:
                raise BadRowError(
                    str(row.place),
                    f"a word or an entity has more than the {room} tokens that fit into a row; "
                    "raise spec.data.sequenceLength, or check the labels",
                )
            yield start, end
            start = end
        if any(tag != IGNORED for tag in tags[start:]):
            yield start, len(tags)

    def labels_of(self, example: Example) -> set[int]:
        """Numbers of its entities' labels."""
        found = {self.tags.label(int(tag)) for tag in example["tags"] if tag != IGNORED}
        return {label for label in found if label is not None}

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Texts padded on the right; targets "tags" int64 [packs, width]."""
        inputs = pad_right(packs, self.pad, self.layout.length)
        tags = torch.full_like(inputs["input_ids"], IGNORED)
        for row, pack in enumerate(packs):
            for example in pack.examples:
                tags[row, : len(pack)] = torch.from_numpy(example["tags"].astype(np.int64))
        count = int((tags != IGNORED).sum())
        return Batch(inputs, {"tags": tags}, {"tags": count}, sum(len(pack) for pack in packs))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, summed over words."""
        return {"tags": _losses(logits_of(model, batch.inputs), batch).sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Tagged]:
        """Expected and predicted tags of each text's words."""
        logits = logits_of(model, batch.inputs)
        losses = _losses(logits, batch).sum(-1).tolist()
        expected, predicted = batch.targets["tags"].cpu(), logits.argmax(-1).cpu()
        asked = expected != IGNORED
        return [
            Tagged(tuple(right[which].tolist()), tuple(said[which].tolist()), loss)
            for right, said, which, loss in zip(expected, predicted, asked, losses, strict=True)
            if which.any()
        ]

    def metrics(self) -> list[Metric[Tagged]]:
        """Precision, recall and F1 of entities."""
        return [EntityReport(self.spec.labels)]


def _first_tokens(text: TaggedText, offsets: Offsets) -> list[int]:
    """The tag of each token that begins a word; IGNORED for all others."""
    tags = [IGNORED] * len(offsets)
    starts = [start for start, _ in text.words]
    begun = -1
    for token, (start, end) in enumerate(offsets):
        # A token of byte-level BPE has the space before its word.
        start += len(text.text[start:end]) - len(text.text[start:end].lstrip())
        word = bisect_right(starts, start) - 1
        if word > begun and start < min(end, text.words[word][1]):
            tags[token], begun = text.tags[word], word
    return tags


def _losses(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each token, float32 [packs, width]; 0 where no word begins."""
    return F.cross_entropy(logits.transpose(1, 2), batch.targets["tags"], ignore_index=IGNORED, reduction="none")
