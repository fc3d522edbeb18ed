"""Write what was taken out of a text: T5's spans (Raffel et al., 2020), BART's infilling (Lewis et al., 2020)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from pretune_api.model import Architecture
from pretune_api.objectives import Denoising as Spec
from pretune_api.objectives import Infilling, SpanCorruption
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.data.vocabulary import SENTINELS
from pretune_trainer.errors import UserError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.recovery import Recovery, Tally
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.encoder_decoder import answer_losses, judge_answers
from pretune_trainer.tasks.language import NOTHING, Frame, encode, padded, padded_inputs, pieces
from pretune_trainer.tasks.masking import Ids, mask_token
from pretune_trainer.tasks.spans import Spans, longest_text, segments


class _Noise(ABC):
    """A way to damage a text."""

    length: int
    """Tokens of the longest text that fits in a row."""
    starts: Mapping[str, int]
    """Fields of a new model's configuration: what its decoder begins with, and whatever else the noise decides."""

    @abstractmethod
    def __call__(self, ids: Ids, random: np.random.Generator) -> tuple[Ids, Ids]:
        """What the encoder reads and what the decoder writes, of a text without special tokens."""


class Denoising(Task[Tally]):
    """Damaged texts; cross-entropy of what the decoder writes."""

    metrics_known: Mapping[str, bool] = Recovery.known
    fingerprint = "denoising/1"

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.tokenizer = context.tokenizer
        self.seed = context.seed
        self.pad = context.pad
        self.most = context.sequence_length
        self.noise = _noise(context.spec, context.tokenizer, context.sequence_length)
        self.layout = Layout(length=self.noise.length, packs=False)

    def model(self, build: Build) -> PreTrainedModel:
        """An encoder-decoder; a new one begins to write as its noise's paper says, an existing one as it always did."""
        new = isinstance(build.origin, Architecture)
        return build.make(AutoModelForSeq2SeqLM, **(self.noise.starts if new else {}))

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """Pieces of documents, undamaged: ids int32 [n]."""
        for ids in encode(self.tokenizer, [row.text() for row in rows]):
            yield [{"ids": piece} for piece in pieces(ids, self.layout.length)]

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Damaged texts and what is written, padded on the right; the damage belongs to seed, epoch and row.

        Returns:
            inputs input_ids, attention_mask int64 [packs, width]; targets "lm" int64 [packs, width of the answers].
        """
        pairs = [self._damaged(pack) for pack in packs]
        texts, answers = [text for text, _ in pairs], [answer for _, answer in pairs]
        inputs = padded_inputs(texts, self.pad, self.most)
        count, targets = sum(map(len, answers)), padded(answers, IGNORED, self.most)
        return Batch(inputs, {"lm": targets}, {"lm": count}, sum(map(len, texts)) + count)

    def _damaged(self, pack: Pack) -> tuple[Ids, Ids]:
        if not pack.examples:
            return NOTHING, NOTHING
        return self.noise(pack.examples[0]["ids"].astype(np.int64), pack.random(self.seed))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over the tokens of the answers."""
        return {"lm": answer_losses(model, batch, self.pad).sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Tally]:
        """Losses and right tokens, each from the right ones before it."""
        losses, right = judge_answers(model, batch, self.pad)
        return [Tally(float(losses.detach().double().sum()), int(right.sum()), batch.counts["lm"])]

    def metrics(self) -> list[Metric[Tally]]:
        """Loss, perplexity and accuracy of the written tokens."""
        return [Recovery()]


class _SpanCorruption(_Noise):
    """T5: <a> stands for each span in the text, and before each span in the answer; both end with the end token."""

    def __init__(self, spec: SpanCorruption, tokenizer: PreTrainedTokenizerBase, length: int, end: int) -> None:
        self.spec, self.end = spec, end
        self.length = longest_text(length - 1, spec.masking_rate, spec.mean_span_length)
        self.sentinels = _sentinels(tokenizer)
        self.starts = {"decoder_start_token_id": int(tokenizer.pad_token_id)}
        _, spans = segments(self.length, spec.masking_rate, spec.mean_span_length)
        if spans > len(self.sentinels):
            raise UserError(
                "spec.objective.denoising.spanCorruption",
                f"a row of {length} tokens has {spans} spans, but the tokenizer has {len(self.sentinels)} sentinels "
                "<extra_id_0> …; raise meanSpanLength, or lower maskingRate or spec.data.sequenceLength",
            )

    def __call__(self, ids: Ids, random: np.random.Generator) -> tuple[Ids, Ids]:
        spans = Spans.segmented(len(ids), self.spec.masking_rate, self.spec.mean_span_length, random)
        marks = self.sentinels[: len(spans.starts), None]
        *kept, last = spans.kept(ids)
        text = [part for pair in zip(kept, marks, strict=True) for part in pair]
        answer = [part for pair in zip(marks, spans.taken(ids), strict=True) for part in pair]
        return np.concatenate([*text, last, [self.end]]), np.concatenate([*answer, [self.end]])


class _Infilling(_Noise):
    """BART: one mask for each span, however long; the answer is the whole text."""

    def __init__(self, spec: Infilling, tokenizer: PreTrainedTokenizerBase, length: int, frame: Frame) -> None:
        assert frame.end is not None
        self.spec = spec
        self.mask = np.array([mask_token(tokenizer, "denoising.infilling")])
        self.length = length - frame.tokens()
        self.before, self.after = ([] if token is None else [token] for token in (frame.begin, frame.end))
        self.starts = {"decoder_start_token_id": frame.end, "forced_eos_token_id": frame.end}

    def __call__(self, ids: Ids, random: np.random.Generator) -> tuple[Ids, Ids]:
        spans = Spans.poisson(len(ids), self.spec.masking_rate, self.spec.mean_span_length, random)
        first, *others = spans.kept(ids)
        text = [part for kept in others for part in (self.mask, kept)]
        return self._framed([first, *text]), self._framed([ids])

    def _framed(self, parts: list[Ids]) -> Ids:
        return np.concatenate([self.before, *parts, self.after]).astype(np.int64)


def _noise(spec: Spec, tokenizer: PreTrainedTokenizerBase, length: int) -> _Noise:
    frame = Frame.of(tokenizer)
    if frame.end is None:
        raise UserError("spec.tokenizer", "it has no end token (eos or sep), which denoising needs")
    if spec.span_corruption is not None:
        return _SpanCorruption(spec.span_corruption, tokenizer, length, frame.end)
    assert spec.infilling is not None, "the spec sets one of them"
    return _Infilling(spec.infilling, tokenizer, length, frame)


def _sentinels(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Ids of the sentinels that a tokenizer has, in order."""
    known = tokenizer.get_vocab()
    found = [known[name] for name in SENTINELS if name in known]
    if not found:
        raise UserError(
            "spec.tokenizer", "it has no sentinels <extra_id_0> …, which spanCorruption needs; a trained one has them"
        )
    return np.array(found)
