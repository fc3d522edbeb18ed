"""Hiding tokens, as BERT does it: 80% behind the mask token, 10% behind a random one, 10% in plain sight."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from pretune_trainer.errors import UserError

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

_MASKED: Final = 0.8
_RANDOM: Final = 0.1


@dataclass(frozen=True)
class Masking:
    """Which tokens of a row are to be found, and what stands in their place."""

    rate: float
    """Share of the tokens that are to be found."""
    mask: int
    """Id of the mask token."""
    special: Ids
    """Ids that are never to be found."""
    ordinary: Ids
    """Ids that can stand in a token's place."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, rate: float, objective: str) -> Self:
        """With the tokens of a tokenizer.

        Raises:
            UserError: it has no mask token.
        """
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        return cls(rate, mask_token(tokenizer, objective), np.array(sorted(special)), ordinary)

    def choose(self, ids: Ids, words: Flags | None, random: np.random.Generator) -> Ids:
        """Places of the tokens to find, ascending: the rate's share of those that are not special, but at least one.

        Where the share is no whole number it is rounded up as often as its fraction says, so that the rate holds on
        average (fairseq's RoBERTa does the same).

        Args:
            ids: int64 [n].
            words: where a word begins, bool [n]: whole words are chosen then, as long as they do not exceed the share.
            random: what chooses.
        """
        possible = np.flatnonzero(~np.isin(ids, self.special))
        count = min(len(possible), max(1, int(self.rate * len(possible) + random.random())))
        if words is None:
            return np.sort(random.permutation(possible)[:count])
        return _whole_words(possible, words, count, random)

    def hide(self, ids: Ids, places: Ids, random: np.random.Generator) -> Ids:
        """`ids` with something else at `places`: a mask (80%), a random token (10%), or the token itself (10%)."""
        hidden = ids.copy()
        fate = random.random(len(places))
        hidden[places[fate < _MASKED]] = self.mask
        replaced = places[(fate >= _MASKED) & (fate < _MASKED + _RANDOM)]
        hidden[replaced] = random.choice(self.ordinary, len(replaced))
        return hidden


def mask_token(tokenizer: PreTrainedTokenizerBase, objective: str) -> int:
    """The id of the tokenizer's mask token.

    Raises:
        UserError: it has none.
    """
    if tokenizer.mask_token_id is None:
        raise UserError("spec.tokenizer", f"it has no mask token, which {objective} needs; a trained one has it")
    return int(tokenizer.mask_token_id)


def _whole_words(possible: Ids, words: Flags, count: int, random: np.random.Generator) -> Ids:
    """Tokens of words in random order; words that would exceed the count are passed over, unless it is the first."""
    owner = np.cumsum(words)[possible]
    chosen: list[Ids] = []
    for word in random.permutation(np.unique(owner)):
        tokens = possible[owner == word]
        if not chosen or len(tokens) <= count:
            chosen.append(tokens)
            count -= len(tokens)
        if count <= 0:
            break
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
