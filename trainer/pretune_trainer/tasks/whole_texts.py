"""Texts that a model reads at once, each row's own or a pair of them, as the tokenizer frames them."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from pretune_trainer.data.example import Example, Pack, Row
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import UserError
from pretune_trainer.tasks.base import Context, Task
from pretune_trainer.tasks.encoding import encode_pairs, encode_whole
from pretune_trainer.tasks.language import NOTHING, padded, padded_inputs
from pretune_trainer.tasks.logits import judges_by_end
from pretune_trainer.tasks.segments import tell_segments

_NOTHING_LEARNT: Final = "they are null or blank, or the second text is"


class WholeTexts:
    """What a model with a head on all of its input reads of a row: one text, or two where a column holds a second."""

    def __init__(self, context: Context, pair_column: str | None) -> None:
        """`pair_column` is the one with second texts; None where there are none."""
        self._tokenizer, self._pad, self._length = context.tokenizer, context.pad, context.sequence_length
        self._pair_column = pair_column
        told = pair_column is not None and context.token_types > 1 and tell_segments(context.tokenizer)
        self.fingerprint = "/segments" if told else ""
        """What a task's has to name beside its own fields."""
        self._typed = False
        # Also in a row that only fills up a batch BART's and T5's kin look for the end.
        ((self._blank, _),) = self._encoded([[""] if pair_column is None else ["", ""]])
        self.columns = () if pair_column is None else (pair_column,)
        """What is read beside the source's own column."""
        self.nothing_learnt = Task.nothing_learnt if pair_column is None else _NOTHING_LEARNT
        """Why rows give no examples, for people."""

    def observe(self, model: PreTrainedModel) -> None:
        """Note whether the model reads to which text of a pair each token belongs.

        Raises:
            UserError: it looks for the end of a text, and the tokenizer marks none.
        """
        if judges_by_end(model) and model.config.eos_token_id not in self._blank["ids"]:
            kind = model.config.model_type
            raise UserError(
                "spec.tokenizer",
                f"it puts no end token (eos) behind a text, by which {kind} models judge it; set spec.tokenizer.train, "
                "or use a tokenizer made for them",
            )
        told = self._pair_column is not None and "token_type_ids" in self._tokenizer.model_input_names
        self._typed = told and getattr(model.config, "type_vocab_size", 0) > 1

    def examples(self, rows: Sequence[Row], learnt: Sequence[Example]) -> Iterator[list[Example]]:
        """One example a row without a blank text, cut at the row's length: ids int32 [n], of pairs also types uint8
        [n], empty where the tokenizer does not tell; and what is learnt of it.
        """
        texts = [self._texts(row) for row in rows]
        for each, (tokens, needed), more in zip(texts, self._encoded(texts), learnt, strict=True):
            example = {**tokens, **more}
            yield [fitted(example, needed, self._length)] if all(text.strip() for text in each) else []

    def _texts(self, row: Row) -> list[str]:
        """The row's text, or both; a second one that is null is blank."""
        column = self._pair_column
        if column is None:
            return [row.text()]
        return [row.text(), "" if row.value(column) is None else row.text(column)]

    def _encoded(self, texts: Sequence[Sequence[str]]) -> Iterator[tuple[Example, int]]:
        """The tokens of each row, and how many all of it takes."""
        if self._pair_column is None:
            for ids, needed in encode_whole(self._tokenizer, [text for (text,) in texts], self._length):
                yield {"ids": np.asarray(ids, np.int32)}, needed
            return
        for ids, types, needed in encode_pairs(self._tokenizer, texts, self._length):
            yield {"ids": np.asarray(ids, np.int32), "types": np.asarray(types, np.uint8)}, needed

    def inputs(self, packs: Sequence[Pack]) -> dict[str, Tensor]:
        """Texts padded on the right, blank ones where a pack only fills up a batch: input_ids, attention_mask and, of
        pairs that the model tells apart, token_type_ids, int64 [packs, width].
        """
        rows = [(pack.examples[0] if pack.examples else self._blank)["ids"] for pack in packs]
        inputs = padded_inputs(rows, self._pad, self._length)
        if self._typed:
            types = [pack.examples[0]["types"] if pack.examples else NOTHING for pack in packs]
            inputs["token_type_ids"] = padded(types, 0, self._length)
        return inputs
