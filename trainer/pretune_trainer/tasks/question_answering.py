"""Extractive question answering: the answer is a span of a text (BERT's way with SQuAD: Devlin et al., 2019)."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from pretune_api.tasks import QuestionAnswering as Spec
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.metrics.answers import Answer, AnswerReport
from pretune_trainer.metrics.base import Metric
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.language import NOTHING, pad_right, padded
from pretune_trainer.tasks.questions import Question, read_question
from pretune_trainer.tasks.segments import tell_segments

_NONE = 0
"""The token that stands for "no answer in this window": the first, which is never one of the text."""


class QuestionAnswering(Task[Answer]):
    """Cross-entropy of the answer's first and last token, in windows of the text that overlap by a quarter of a row."""

    metrics_known = AnswerReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        if not self.tokenizer.is_fast:
            raise UserError("spec.tokenizer", "it does not report the positions of its tokens; use a fast tokenizer")
        self.layout = Layout(length=context.sequence_length, packs=False, together="question")
        self.columns = (self.spec.question_column, self.spec.answers_column)
        told = context.token_types > 1 and tell_segments(self.tokenizer)
        segments = "/segments" if told else ""
        self.fingerprint = f"questionAnswering/2/{context.sequence_length}/{self.spec.model_dump_json()}{segments}"

    def model(self, build: Build) -> PreTrainedModel:
        """A model with two outputs a token: the answer begins here, it ends here."""
        return build.make(AutoModelForQuestionAnswering)

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """The windows of each text: ids int32 [n], types uint8 [n] (the tokenizer's), inside uint8 [n] (1 in the text),
        offsets int32 [2 n] in the text's characters, span int32 [2], and for judging question int64 [1], text and
        answers uint8 (UTF-8, JSON).
        """
        for row in rows:
            yield list(self._windows(row, read_question(row, self.spec)))

    def _windows(self, row: Row, question: Question) -> Iterator[Example]:
        length = self.layout.length
        if len(self.tokenizer(question.question)["input_ids"]) > length // 2:
            raise BadRowError(
                str(row.place), f"the question takes more than half of a row of {length} tokens; raise sequenceLength"
            )
        encoded = self.tokenizer(
            question.question,
            question.text,
            truncation="only_second",
            max_length=length,
            stride=length // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        judged: dict[str, Array] = {
            "question": _name(row, question),
            "text": _bytes(question.text),
            "answers": _bytes(json.dumps(question.answers)),
        }
        for number, ids in enumerate(encoded["input_ids"]):
            inside = np.array([part == 1 for part in encoded.sequence_ids(number)], np.uint8)
            # What the artifact's users give the model: of BERT's pairs 1 in the text and at its end, of RoBERTa's none.
            types = encoded["token_type_ids"][number] if "token_type_ids" in encoded else [0] * len(ids)
            offsets = np.asarray(encoded["offset_mapping"][number], np.int32)
            yield {
                "ids": np.asarray(ids, np.int32),
                "types": np.asarray(types, np.uint8),
                "inside": inside,
                "offsets": offsets.ravel(),
                "span": _span(question, offsets, inside),
                **judged,
            }

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Windows padded on the right; targets "start", "end" int64 [packs], "types", "inside" int64 [packs, width]."""
        spans = [pack.examples[0]["span"].tolist() if pack.examples else [IGNORED, IGNORED] for pack in packs]
        start, end = torch.tensor(spans).unbind(1)
        kept = sum(1 for pack in packs if pack.examples)
        inputs = pad_right(packs, self.pad, self.layout.length)
        types, inside = (
            padded([pack.examples[0][name] if pack.examples else NOTHING for pack in packs], 0, self.layout.length)
            for name in ("types", "inside")
        )
        targets = {"start": start, "end": end, "types": types, "inside": inside}
        return Batch(inputs, targets, {"span": kept}, sum(len(pack) for pack in packs), packs)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The mean of the two cross-entropies, summed over windows."""
        return {"span": _losses(_logits(model, batch), batch).sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The likeliest span of each window."""
        logits = _logits(model, batch)
        losses = _losses(logits, batch).tolist()
        none = logits[:, _NONE].sum(-1).tolist()
        return [
            _answer(pack.examples[0], best, score, none_score, loss)
            for pack, (best, score), none_score, loss in zip(
                batch.packs, self._best(logits, batch), none, losses, strict=True
            )
            if pack.examples
        ]

    def _best(self, logits: Tensor, batch: Batch) -> Iterator[tuple[tuple[int, int], float]]:
        """First and last token of each window's likeliest span in the text, and its log-odds."""
        width = logits.shape[1]
        outside = batch.targets["inside"] == 0
        start, end = (logits[..., which].masked_fill(outside, -torch.inf) for which in (0, 1))
        allowed = torch.ones(width, width, dtype=torch.bool, device=logits.device)
        allowed = allowed.triu() & ~allowed.triu(self.spec.max_answer_tokens)
        scores = (start[:, :, None] + end[:, None, :]).masked_fill(~allowed, -torch.inf)
        best, places = scores.flatten(1).max(-1)
        for score, place in zip(best.tolist(), places.tolist(), strict=True):
            yield divmod(place, width), score

    def metrics(self) -> list[Metric[Answer]]:
        """Exact match and F1."""
        return [AnswerReport(unanswerable=self.spec.unanswerable)]


def _name(row: Row, question: Question) -> Array:
    """Names a question wherever its source lies: jobs that share a token cache may each find that at another URI."""
    said = json.dumps([row.place.row, question.question, question.text, question.answers])
    return np.frombuffer(hashlib.blake2b(said.encode(), digest_size=8).digest(), np.int64)


def _bytes(text: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text.encode(), np.uint8)


def _span(question: Question, offsets: np.ndarray[Any, Any], in_text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """First and last token of the first answer, or the place of "none" where the window does not hold all of it."""
    none = np.array([_NONE, _NONE], np.int32)
    if question.span is None:
        return none
    start, end = question.span
    places = np.flatnonzero(in_text)
    begins, ends = offsets[places].T if len(places) else (np.zeros(0), np.zeros(0))
    covered = places[(begins < end) & (ends > start)]
    if not len(covered) or begins.min() > start or ends.max() < end:
        return none
    return np.array([covered[0], covered[-1]], np.int32)


def _answer(example: Example, span: tuple[int, int], score: float, none_score: float, loss: float) -> Answer:
    text = example["text"].tobytes().decode()
    offsets = example["offsets"].reshape(-1, 2)
    start, end = int(offsets[span[0], 0]), int(offsets[span[1], 1])
    expected = tuple(json.loads(example["answers"].tobytes()))
    return Answer(int(example["question"][0]), expected, text[start:end].strip(), score, none_score, loss)


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """Log-odds of beginning and end: float32 [packs, width, 2]; nothing begins or ends in what fills a row up."""
    assert isinstance(model, PreTrainedModel)
    typed = getattr(model.config, "type_vocab_size", 0) > 1
    outputs = model(**batch.inputs, **({"token_type_ids": batch.targets["types"]} if typed else {}))
    logits = torch.stack([outputs.start_logits, outputs.end_logits], -1).float()
    return logits.masked_fill(batch.inputs["attention_mask"][..., None] == 0, -torch.inf)


def _losses(logits: Tensor, batch: Batch) -> Tensor:
    """The mean of both cross-entropies of each window, float32 [packs]."""
    spans = torch.stack([batch.targets["start"], batch.targets["end"]], -1)
    return F.cross_entropy(logits, spans, ignore_index=IGNORED, reduction="none").mean(-1)
