"""What the tasks on text share: encoding, packing, padding, next-token targets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from pretune_trainer.data.example import Array, Pack
from pretune_trainer.errors import UserError
from pretune_trainer.model.attention import boundaries
from pretune_trainer.model.body import body_of, has_weights
from pretune_trainer.model.build import Build
from pretune_trainer.model.configuration import text_config
from pretune_trainer.model.losses import IGNORED, capped, head_cross_entropy, token_cross_entropy
from pretune_trainer.model.trial import trial
from pretune_trainer.tasks.base import PLACES, Batch

Ids = NDArray[np.int32]

Tokens = Mapping[str, Array]
"""A text's tokens: "ids" int32 [n], and "words" uint8 [n], 1 where a word begins, where that is asked for."""
_BY_TOKEN: Final = ("ids", "words")
_ROUND: Final = 8
"""Widths of batches are multiples of this: tensor cores like it, and there are fewer shapes."""
NOTHING: Final = np.zeros(0, np.int64)
"""A row without tokens."""
_FACTORS: Final = ("logit_scale", "lm_head_multiplier")
_DIVISORS: Final = ("logits_scaling",)
_CAPS: Final = ("final_logit_softcapping", "logits_soft_cap")
"""What configurations call that by which logits are multiplied (Cohere, Falcon-H1), divided (Granite), or bounded
(Gemma)."""


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, written: bool = False) -> list[list[int]]:
    """Token ids of each text, without special tokens, in one parallel call to the tokenizer.

    Texts that are `written` have other pieces in Marian's.
    """
    if not texts:
        return []
    given = {"text_target" if written else "text": list(texts)}
    encoded = tokenizer(**given, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return list(encoded["input_ids"])


def encode_words(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, words: bool) -> list[Tokens]:
    """As `encode`, as arrays; with `words`, they say where the tokenizer begins a word."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    found = [{"ids": np.asarray(ids, np.int32)} for ids in encoded["input_ids"]]
    if not words:
        return list(found)
    return [{**tokens, "words": _starts(encoded.word_ids(number))} for number, tokens in enumerate(found)]


def _starts(words: Sequence[int | None]) -> NDArray[np.uint8]:
    """Where the number of the word changes; what belongs to none is a word of its own. uint8 [n]."""
    before = [None, *words[:-1]]
    return np.asarray([word is None or word != last for word, last in zip(words, before, strict=True)], np.uint8)


def part(tokens: Tokens, where: slice) -> Tokens:
    """A part of a text's tokens, and of what is known of them."""
    return {name: tokens[name][where] for name in _BY_TOKEN if name in tokens}


@dataclass(frozen=True)
class Frame:
    """What an encoder's texts begin and end with: [CLS] and [SEP], <s> and </s>, or nothing without such tokens."""

    begin: int | None
    end: int | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """The tokenizer's; one made for decoders has begin and end of a text in their place."""
        begin = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        end = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        return cls(begin, end)

    def tokens(self, *, pair: bool = False) -> int:
        """How many tokens it takes around a text, or around two."""
        return (self.begin is not None) + (self.end is not None) * (2 if pair else 1)

    def around(self, tokens: Tokens) -> Tokens:
        """A text with its frame; its tokens are words of their own."""
        return _joined([_single(self.begin, tokens), tokens, _single(self.end, tokens)])

    def around_two(self, first: Tokens, second: Tokens) -> tuple[Tokens, NDArray[np.int64]]:
        """begin first end second end; and which tokens belong to the second one, int64 [n]."""
        one = self.around(first)
        both = _joined([one, second, _single(self.end, second)])
        return both, (np.arange(len(both["ids"])) >= len(one["ids"])).astype(np.int64)


def _single(token: int | None, like: Tokens) -> Tokens:
    """One token, or none, with what is known of those in `like`."""
    values = {"ids": token, "words": 1}
    return {name: np.asarray([] if token is None else [values[name]], array.dtype) for name, array in like.items()}


def _joined(parts: Sequence[Tokens]) -> Tokens:
    return {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}


def pieces_of(tokens: Tokens, length: int) -> list[Tokens]:
    """As `pieces`, with what is known of the tokens."""
    count = len(tokens["ids"])
    return [part(tokens, slice(start, start + length)) for start in range(0, count, length) if count - start > 1]


def pieces(ids: Sequence[int], length: int) -> list[Ids]:
    """A document's ids, cut into pieces of at most `length`; a last piece of one token has nothing to predict."""
    whole = np.asarray(ids, dtype=np.int32)
    return [part for start in range(0, len(whole), length) if len(part := whole[start : start + length]) > 1]


@dataclass(frozen=True)
class Packer:
    """Lays examples into rows of a fixed length."""

    length: int
    pad: int
    by_boundaries: bool
    """Whether the attention is told the documents' boundaries; otherwise it finds them in the position ids."""

    def next_token(self, packs: Sequence[Pack]) -> Batch:
        """Rows in which every token predicts the next one of its example.

        An example may have a "mask" beside its "ids" (1 where the token is a target); without it all are.

        Returns:
            inputs input_ids and position_ids int64 [packs, length] (or [1, packs * length] with boundaries),
            targets "lm" int64 of the same shape, aligned with the position that predicts; with masks "places" int64
            [targets], where they stand in the flattened rows.
        """
        shape = (len(packs), self.length)
        ids = np.full(shape, self.pad, dtype=np.int64)
        positions = np.tile(np.arange(self.length, dtype=np.int64), (len(packs), 1))
        targets = np.full(shape, IGNORED, dtype=np.int64)
        for row, pack in enumerate(packs):
            self._fill(ids[row], positions[row], targets[row], pack)
        found = {"lm": torch.from_numpy(targets)}
        if any("mask" in example for pack in packs for example in pack.examples):
            found[PLACES] = places_of(found["lm"])
        tokens = sum(len(pack) for pack in packs)
        return Batch(self._inputs(ids, positions), found, {"lm": int((targets != IGNORED).sum())}, tokens)

    def _fill(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], targets: NDArray[np.int64], pack: Pack
    ) -> None:
        start = 0
        for example in pack.examples:
            tokens = example["ids"]
            end = start + len(tokens)
            ids[start:end] = tokens
            positions[start:end] = np.arange(len(tokens))
            following = tokens[1:]
            targets[start : end - 1] = (
                np.where(example["mask"][1:], following, IGNORED) if "mask" in example else following
            )
            start = end
        positions[start:] = np.arange(self.length - start)

    def _inputs(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> dict[str, Any]:
        inputs: dict[str, Any] = {"use_cache": False}
        if not self.by_boundaries:
            return inputs | {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
        flat = {
            "input_ids": torch.from_numpy(ids.reshape(1, -1)),
            "position_ids": torch.from_numpy(positions.reshape(1, -1)),
        }
        return inputs | flat | boundaries(positions)


def pad_right(packs: Sequence[Pack], pad: int, most: int) -> dict[str, Tensor]:
    """Single examples as `padded_inputs`: int64 [packs, width]."""
    return padded_inputs([pack.examples[0]["ids"] if pack.examples else NOTHING for pack in packs], pad, most)


def padded_inputs(rows: Sequence[Array], pad: int, most: int) -> dict[str, Tensor]:
    """Rows of tokens as a model reads them: input_ids, attention_mask int64 [rows, width], as `padded` chooses it."""
    return {"input_ids": padded(rows, pad, most), "attention_mask": _attended(rows, most)}


def padded(rows: Sequence[Array], value: int, most: int) -> Tensor:
    """Rows of unequal lengths side by side, filled up on the right: int64 [rows, width].

    The width is that of the longest row, rounded up to what suits devices, but not beyond `most`: a model's positions
    may end there.
    """
    longest = max([1, *map(len, rows)])
    width = -(-longest // _ROUND) * _ROUND
    table = np.full((len(rows), max(longest, min(width, most))), value, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table)


def _attended(rows: Sequence[Array], most: int) -> Tensor:
    """Where the rows of `padded` have tokens: int64 [rows, width], 0 where they are filled up."""
    mask = padded([np.ones(len(row), np.int64) for row in rows], 0, most)
    mask[:, 0] = 1  # a row without tokens must still attend to something, or its softmax is not a number
    return mask


def _hidden_states(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """The last hidden states below the head, flattened to [tokens, width]; scaled as the logits are to be."""
    assert isinstance(model, PreTrainedModel)
    hidden = body_of(model)(**inputs).last_hidden_state
    assert isinstance(hidden, Tensor)
    scale = _scale(model)
    return hidden.flatten(0, 1) if scale == 1.0 else hidden.flatten(0, 1) * scale


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Summed cross-entropy of the batch's next tokens: float32 scalar."""
    hidden, targets = _to_predict(model, batch)
    return head_cross_entropy(hidden, _head(model), targets, _cap(model))


def next_token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of each position's next token, float32 [positions]; 0 where there is no target."""
    hidden, targets = _to_predict(model, batch)
    losses = token_cross_entropy(hidden, _head(model), targets, _cap(model))
    if PLACES not in batch.targets:
        return losses
    return losses.new_zeros(batch.targets["lm"].numel()).scatter(0, batch.targets[PLACES], losses)


def _to_predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states and targets of the positions that predict: float [n, width], int64 [n]; of all, where the batch
    does not say which do. The others' logits, as those of prompts, would be computed for nothing.
    """
    hidden, targets = _hidden_states(model, batch.inputs), batch.targets["lm"].flatten()
    places = batch.targets.get(PLACES)
    return (hidden, targets) if places is None else (hidden.index_select(0, places), targets[places])


def places_of(targets: Tensor) -> Tensor:
    """Where there is something to predict in the flattened rows: int64 [n]."""
    return (targets.flatten() != IGNORED).nonzero()[:, 0]


def following(row: Array, before: int) -> Array:
    """The row's next tokens, from the one behind the first `before` on; int64 [n], IGNORED elsewhere."""
    tokens = np.append(row[1:], IGNORED) if len(row) else NOTHING
    return np.where(np.arange(len(row)) >= before - 1, tokens, IGNORED)


def log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Of each row's targets together: float32 [rows]."""
    losses = next_token_losses(model, batch)
    return -losses.reshape(batch.targets["lm"].shape).sum(-1)


def language_model(build: Build) -> PreTrainedModel:
    """A causal language model.

    Raises:
        UserError: it cannot be made, or does more to its logits than is known here.
    """
    model = build.make(AutoModelForCausalLM)
    check_head(model)
    return model


def check_head(model: PreTrainedModel) -> None:
    """Refuse models that see the tokens that they are to predict, as XLNet and XLM do, and such that do more to the
    hidden states than their linear head, a scale and a cap: the loss is computed by these alone.

    Of shapes alone nothing can be said.

    Raises:
        UserError: the model is of one of these kinds.
    """
    if not has_weights(model):
        return
    kind, chosen = model.config.model_type, model.config._attn_implementation
    ids = torch.tensor([[4, 5, 6, 7], [4, 5, 6, 8]])  # lower ones may be padding, which XLM does not look at
    inputs = {"input_ids": ids, "use_cache": False}
    model.set_attn_implementation("eager")  # the chosen one may need a GPU, and this is still on the CPU
    with trial(model):
        expected = model(**inputs).logits
        actual = capped(_head(model)(_hidden_states(model, inputs)), _cap(model))
    model.set_attn_implementation(chosen)
    if not torch.allclose(expected.flatten(0, 1), actual, atol=1e-4):
        raise UserError(
            "spec.model", f"models of type '{kind}' change their logits after the head; this is not supported"
        )
    before, other = expected[:, :-1]
    if not torch.allclose(before, other, rtol=1e-4, atol=1e-5):
        raise UserError("spec.model", f"models of type '{kind}' see the tokens that they are to predict; use a decoder")


def _head(model: nn.Module) -> nn.Linear:
    assert isinstance(model, PreTrainedModel)
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear), "check_head has seen to it"
    return head


def _scale(model: PreTrainedModel) -> float:
    """What logits are multiplied by."""
    factors = [_field(model, name) or 1.0 for name in _FACTORS]
    return math.prod(factors) / math.prod(_field(model, name) or 1.0 for name in _DIVISORS)


def _cap(model: nn.Module) -> float | None:
    """What logits stay below."""
    return next((cap for name in _CAPS if (cap := _field(model, name))), None)


def _field(model: nn.Module, name: str) -> float | None:
    assert isinstance(model, PreTrainedModel)
    value = getattr(text_config(model.config), name, None)
    return value if isinstance(value, int | float) else None
