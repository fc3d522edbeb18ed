"""Find hidden tokens from both sides: BERT (Devlin et al., 2019), RoBERTa (Liu et al., 2019)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from pretune_api.objectives import MaskedLM as Spec
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.data.tokenizer import save_tokenizer
from pretune_trainer.errors import UserError
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.recovery import PairRecovery, PairTally, Tally
from pretune_trainer.model.body import has_weights
from pretune_trainer.model.build import Build
from pretune_trainer.model.losses import IGNORED, cross_entropies
from pretune_trainer.model.trial import trial
from pretune_trainer.tasks.base import PLACES, Batch, Context, Task
from pretune_trainer.tasks.language import NOTHING, Frame, encode_words, padded, padded_inputs, pieces_of
from pretune_trainer.tasks.masking import Ids, Masking
from pretune_trainer.tasks.segments import tell_segments
from pretune_trainer.tasks.sentence_pairs import pair, runs, sentences

_HEADS: Final = ("cls.predictions", "lm_head")
"""Where BERT's and RoBERTa's kin have the head: it is computed for the hidden tokens alone then."""


class MaskedLM(Task[PairTally]):
    """Texts with some tokens hidden, or pairs of segments; cross-entropy of these tokens, and of "follows" or not."""

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.tokenizer = context.tokenizer
        self.pad = context.pad
        self.seed = context.seed
        self.frame = Frame.of(context.tokenizer)
        self.masking = Masking.of(context.tokenizer, self.spec.masking_rate, "maskedLM")
        paired = self.spec.next_sentence
        self.room = context.sequence_length - self.frame.tokens(pair=paired)
        self.layout = Layout(length=context.sequence_length, packs=False, accompanied=paired)
        self.metrics_known = PairRecovery.known if paired else PairRecovery.of_tokens
        self.fingerprint = f"maskedLM/1/{self.spec.whole_word}/{paired}"
        if paired:
            self.nothing_learnt = "nextSentence needs documents of two sentences or more"
            self._check_pairs()

    def _check_pairs(self) -> None:
        if self.frame.end is None:
            raise UserError("spec.tokenizer", "it has no end token (sep or eos), which nextSentence needs")

    def check_documents(self, count: int) -> None:
        """Second segments come from other documents: there must be some."""
        if self.spec.next_sentence and count < 2:
            raise UserError(
                "spec.data.train", "nextSentence needs pairs of documents, but there is only one; make each text a row"
            )

    def model(self, build: Build) -> PreTrainedModel:
        """An encoder with a head that names tokens, and one that judges pairs if they are asked for."""
        model = build.make(AutoModelForPreTraining if self.spec.next_sentence else AutoModelForMaskedLM)
        kind = model.config.model_type
        if model.config.is_encoder_decoder or getattr(model.config, "is_decoder", False):
            raise UserError("spec.model", f"a model with a decoder ({kind}) cannot learn maskedLM, made for encoders")
        if self.spec.next_sentence and not _judges_pairs(model):
            raise UserError("spec.model", f"{kind} models have no head for nextSentence; bert models have one")
        model.head_apart = next((name for name in _HEADS if _is_head(model, name)), None)
        return model

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """Pieces of the row's length, with begin and end tokens: ids int32 [n], and words uint8 [n] for whole words.

        For nextSentence: runs of sentences, as `sentence_pairs.runs` makes them.
        """
        texts = [row.text() for row in rows]
        if self.spec.next_sentence:
            yield from map(self._runs, texts)
            return
        for tokens in encode_words(self.tokenizer, texts, words=self.spec.whole_word):
            yield [self.frame.around(piece) for piece in pieces_of(tokens, self.room)]

    def _runs(self, text: str) -> list[Example]:
        parts = encode_words(self.tokenizer, sentences(text), words=self.spec.whole_word)
        return list(runs(text, parts, self.room))

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Texts or pairs with hidden tokens, padded on the right.

        Returns:
            inputs input_ids, attention_mask (and token_type_ids) int64 [packs, width]; targets "mlm" int64 [tokens],
            "places" int64 [tokens], where they stand in the flattened rows, and "nsp" int64 [packs], 0 where the second
            segment follows.
        """
        rows = [self._row(pack) for pack in packs]
        hidden = [row["hidden"] for row in rows]
        most = self.layout.length
        inputs = padded_inputs(hidden, self.pad, most)
        width = inputs["input_ids"].shape[1]
        targets = {
            "mlm": torch.from_numpy(np.concatenate([row["ids"][row["places"]] for row in rows])),
            PLACES: torch.from_numpy(np.concatenate([n * width + row["places"] for n, row in enumerate(rows)])),
        }
        counts = {"mlm": len(targets["mlm"])}
        if self.spec.next_sentence:
            inputs["token_type_ids"] = padded([row["types"] for row in rows], 0, most)
            targets["nsp"] = torch.from_numpy(np.concatenate([row["nsp"] for row in rows]))
            counts["nsp"] = int((targets["nsp"] != IGNORED).sum())
        return Batch(inputs, targets, counts, sum(map(len, hidden)))

    def _row(self, pack: Pack) -> dict[str, Ids]:
        """A row with hidden tokens; its randomness belongs to the pack, and so to seed, epoch and row."""
        if not pack.examples:
            return {"ids": NOTHING, "hidden": NOTHING, "places": NOTHING, "types": NOTHING, "nsp": np.array([IGNORED])}
        random = pack.random(self.seed)
        row, more = self._paired(pack, random) if self.spec.next_sentence else (pack.examples[0], {})
        ids = row["ids"].astype(np.int64)
        words = row["words"].astype(bool) if self.spec.whole_word else None
        places = self.masking.choose(ids, words, random)
        return {"ids": ids, "hidden": self.masking.hide(ids, places, random), "places": places, **more}

    def _paired(self, pack: Pack, random: np.random.Generator) -> tuple[Example, dict[str, Ids]]:
        first, other = pack.examples[0], pack.examples[1] if len(pack.examples) > 1 else None
        made = pair(first, other, self.room, random)
        row, types = self.frame.around_two(made.first, made.second)
        return row, {"types": types, "nsp": np.array([0 if made.follows else 1])}

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over the hidden tokens, and over the pairs."""
        logits = self._logits(model, batch)
        return {key: cross_entropies(of_key, batch.targets[key]).sum() for key, of_key in logits.items()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[PairTally]:
        """Losses and right answers."""
        logits = self._logits(model, batch)
        found = {key: _tally(of_key, batch.targets[key], batch.counts[key]) for key, of_key in logits.items()}
        return [PairTally(found["mlm"], found.get("nsp"))]

    def _logits(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, PreTrainedModel)
        places = batch.targets[PLACES]
        head: str | None = getattr(model, "head_apart", None)
        if head is None:
            outputs = model(**batch.inputs)
            logits = {"mlm": outputs[0].flatten(0, 1)[places]}
            return logits | ({"nsp": outputs.seq_relationship_logits} if self.spec.next_sentence else {})
        outputs = model.base_model(**batch.inputs)
        found = outputs.last_hidden_state.flatten(0, 1)[places]
        logits = {"mlm": model.get_submodule(head)(found)}
        if self.spec.next_sentence:
            logits["nsp"] = model.get_submodule("cls.seq_relationship")(outputs.pooler_output)
        return logits

    def metrics(self) -> list[Metric[PairTally]]:
        """Loss, perplexity and accuracy of the hidden tokens; nextSentenceAccuracy."""
        return [PairRecovery()]

    def save(self, folder: Path, config: PretrainedConfig) -> None:
        """A tokenizer that tells the segments apart, where the model has learnt to."""
        if self.spec.next_sentence and tell_segments(self.tokenizer):
            save_tokenizer(self.tokenizer, folder)


def _tally(logits: Tensor, targets: Tensor, count: int) -> Tally:
    losses, right = cross_entropies(logits, targets), logits.argmax(-1) == targets
    return Tally(float(losses.detach().double().sum()), int(right.sum()), count)


def _judges_pairs(model: PreTrainedModel) -> bool:
    return hasattr(getattr(model, "cls", None), "seq_relationship")


def _is_head(model: PreTrainedModel, name: str) -> bool:
    """Whether the part of that name makes the model's logits from its last hidden states."""
    if name not in {name for name, _ in model.named_modules()}:
        return False
    if not has_weights(model):
        return True  # it is of no account for shapes alone
    ids = torch.arange(4)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with trial(model):
        expected = model(**inputs)[0]
        actual = model.get_submodule(name)(model.base_model(**inputs).last_hidden_state)
    return bool(torch.allclose(expected, actual, atol=1e-5))
