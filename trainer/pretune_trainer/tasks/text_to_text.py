"""From one text to another, summaries and translations: by encoder-decoders (T5, BART) and by decoders (GPT, Llama)."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from pretune_api.model import Architecture
from pretune_api.tasks import Summarization, Translation
from pretune_trainer.data.example import Array, Example, Layout, Pack, Row
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import BadRowError, UserError, quoted
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.overlap import OverlapReport, Written
from pretune_trainer.metrics.writing import Draft, WritingReport
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context, Task
from pretune_trainer.tasks.encoder_decoder import answer_losses
from pretune_trainer.tasks.encoding import Offsets, added_around, encode_with_offsets
from pretune_trainer.tasks.generation import write
from pretune_trainer.tasks.judging import likelihood
from pretune_trainer.tasks.language import (
    NOTHING,
    Frame,
    Packer,
    encode,
    language_model,
    next_token_loss,
    next_token_losses,
    padded,
    padded_inputs,
)

_TO_DECODERS: Final = "{text}\n"
"""The prompt where none is given: what follows the line's end is the answer."""


class TextToText(Task[Draft]):
    """Cross-entropy of the wanted text; evaluations let the model write its own where a metric looks at it."""

    metrics_known = WritingReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Summarization | Translation)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.length = context.sequence_length
        self.both = context.encoder_decoder
        """Whether the model has an encoder and a decoder."""
        self.stage = "translation" if isinstance(self.spec, Translation) else "summarization"
        language = self.spec.language_column if isinstance(self.spec, Translation) else None
        self.language_column = language
        self.target_column = self.spec.target_column
        self.columns = (self.target_column, *([language] if language else []))
        self.layout = Layout(length=self.length, packs=context.packs and not self.both)
        self.fingerprint = f"{self.stage}/3/{self.length}/{self.both}/{self.spec.model_dump_json()}"
        self.pad = context.pad
        self.packer = Packer(self.length, self.pad, context.by_boundaries)
        self.writes = context.metrics is None or not OverlapReport.known.keys().isdisjoint(context.metrics)
        """Whether evaluations let the model write, which takes most of their time."""
        self.end = self._end()
        self.before, self.after = self._around(written=False)
        self.around_answer = self._around(written=True)
        self.room = self.length - len(self.before) - len(self.after) - (0 if self.both else self.spec.max_target_tokens)
        self._check_room()

    def _end(self) -> int:
        end = Frame.of(self.tokenizer).end
        if end is None:
            raise UserError("spec.tokenizer", f"it has no end token (eos or sep), which {self.stage} needs")
        return end

    def _around(self, *, written: bool) -> tuple[list[int], list[int]]:
        """What stands around the text that is read, or of an encoder-decoder around the one that is written."""
        if self.both:
            return added_around(self.tokenizer, written=written)
        begin = self.tokenizer.bos_token_id
        return [] if begin is None else [begin], []

    def _check_room(self) -> None:
        most = self.spec.max_target_tokens
        if most > self.length or self.room < 1:
            raise UserError(
                f"spec.task.{self.stage}.maxTargetTokens",
                f"{most} leaves no room for the input in a row of {self.length} tokens; lower it, or raise "
                "spec.data.sequenceLength",
            )

    def model(self, build: Build) -> PreTrainedModel:
        """An encoder-decoder or a decoder, as the job's model is one."""
        if not self.both:
            return self._ending(language_model(build))
        new = isinstance(build.origin, Architecture)
        model = build.make(AutoModelForSeq2SeqLM, **({"decoder_start_token_id": self.pad} if new else {}))
        if new and getattr(model.config, "forced_eos_token_id", None) is not None:
            model.config.forced_eos_token_id = model.generation_config.forced_eos_token_id = self.end
        return self._ending(model)

    def _ending(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model, which ends what it writes as the answers end, also where the tokenizer's end is BERT's [SEP]."""
        if self.tokenizer.eos_token_id is None:
            model.config.eos_token_id = model.generation_config.eos_token_id = self.end
        return model

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a row whose text is not blank. Of an encoder-decoder: ids int32 [n], what is read, and answer
        int32 [m]. Of a decoder: ids int32 [n + m], both, and mask uint8 [n + m], 1 in the answer. And reference uint8:
        the wanted text in UTF-8.
        """
        prompts = [self._prompt(row) for row in rows]
        read = self._read([before + text + after for before, text, after in prompts])
        references = [self._text(row, self.target_column) for row in rows]
        answers = encode(self.tokenizer, references, written=self.both)
        for row, prompt, tokens, wanted, reference in zip(rows, prompts, read, answers, references, strict=True):
            answer = self._answer(row, wanted)
            ends = len(prompt[0]) + len(prompt[1])
            ids = [*self.before, *self._fitting(row, *tokens, ends), *self.after]
            example = self._example(ids, answer) | {"reference": np.frombuffer(reference.encode(), np.uint8)}
            needed = self.length - self.room + len(tokens[0])
            yield [fitted(example, needed, self.length)] if prompt[1].strip() else []

    def _read(self, texts: Sequence[str]) -> list[tuple[list[int], Offsets]]:
        """Tokens of what is read, and the characters that they stand for: where long texts are cut, it is by these."""
        if isinstance(self.spec, Translation):
            return [(ids, ()) for ids in encode(self.tokenizer, texts)]
        return encode_with_offsets(self.tokenizer, texts)

    def _prompt(self, row: Row) -> tuple[str, str, str]:
        """What stands before the text, the text, and what stands after it."""
        prompt = self.spec.prompt or ("{text}" if self.both else _TO_DECODERS)
        if self.language_column is not None:
            tag = self._text(row, self.language_column)
            prompt = prompt.replace("{language}", tag) if "{language}" in prompt else f"<{tag}> {prompt}"
        before, _, after = prompt.partition("{text}")
        return before, row.text(), after

    def _text(self, row: Row, column: str) -> str:
        """The text in a column, which is not blank."""
        text = row.text(column)
        if not text.strip():
            raise BadRowError(str(row.place), f"column '{column}' holds {quoted(text)}, expected text")
        return text

    def _fitting(self, row: Row, ids: Sequence[int], offsets: Sequence[tuple[int, int]], ends: int) -> list[int]:
        """What is read, cut at the text's end if it is too long and may be cut."""
        excess = len(ids) - self.room
        if excess <= 0:
            return list(ids)
        last = sum(1 for start, _ in offsets if start < ends)
        if isinstance(self.spec, Translation) or excess >= last:
            raise BadRowError(
                str(row.place),
                f"the text has {len(ids)} tokens, but a row has room for {self.room}; raise spec.data.sequenceLength, "
                "or remove the row",
            )
        return [*ids[: last - excess], *ids[last:]]

    def _answer(self, row: Row, ids: Sequence[int]) -> list[int]:
        before, after = self.around_answer if self.both else ([], [])
        answer = [*before, *ids, *after]
        if answer[-1:] != [self.end]:
            answer.append(self.end)
        most = self.spec.max_target_tokens
        if len(answer) > most:
            raise BadRowError(
                str(row.place),
                f"column '{self.target_column}' has {len(answer)} tokens, but spec.task.{self.stage}.maxTargetTokens "
                f"allows {most}; raise it, or remove the row",
            )
        return answer

    def _example(self, ids: list[int], answer: list[int]) -> dict[str, Array]:
        if self.both:
            return {"ids": np.asarray(ids, np.int32), "answer": np.asarray(answer, np.int32)}
        mask = np.repeat(np.array([0, 1], np.uint8), [len(ids), len(answer)])
        return {"ids": np.asarray([*ids, *answer], np.int32), "mask": mask}

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Of a decoder, rows in which the answers' tokens are predicted; of an encoder-decoder, texts padded on the
        right.

        Returns:
            of an encoder-decoder, inputs input_ids, attention_mask int64 [packs, width], and targets "lm" int64
            [packs, width of the answers].
        """
        if not self.both:
            made = self.packer.next_token(packs)
            return Batch(made.inputs, made.targets, made.counts, made.tokens, packs)
        pairs = [pack.examples[0] if pack.examples else {"ids": NOTHING, "answer": NOTHING} for pack in packs]
        texts, answers = [pair["ids"] for pair in pairs], [pair["answer"] for pair in pairs]
        inputs = padded_inputs(texts, self.pad, self.length)
        count, targets = sum(map(len, answers)), padded(answers, IGNORED, self.length)
        return Batch(inputs, {"lm": targets}, {"lm": count}, sum(map(len, texts)) + count, packs)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over the tokens of the answers."""
        return {"lm": answer_losses(model, batch, self.pad).sum() if self.both else next_token_loss(model, batch)}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Draft]:
        """The likelihood of the wanted texts, and what the model writes where that is looked at."""
        assert isinstance(model, PreTrainedModel)
        losses = answer_losses(model, batch, self.pad) if self.both else next_token_losses(model, batch)
        judged = likelihood(losses, batch.targets["lm"], self.tokenizer)
        return [Draft(judged, self._written(model, batch) if self.writes else ())]

    def _written(self, model: PreTrainedModel, batch: Batch) -> tuple[Written, ...]:
        examples = [example for pack in batch.packs for example in pack.examples]
        prompts = [example["ids"] if self.both else example["ids"][example["mask"] == 0] for example in examples]
        written = write(model, prompts, self.pad, self.spec.max_target_tokens, self.spec.beams)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        return tuple(
            Written(text.strip(), example["reference"].tobytes().decode())
            for text, example in zip(texts, examples, strict=True)
        )

    def metrics(self) -> list[Metric[Draft]]:
        """Loss and perplexity, ROUGE, BLEU, chrF, exact match and diversity."""
        return [WritingReport()]
