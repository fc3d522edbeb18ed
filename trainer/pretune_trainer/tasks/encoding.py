"""From text to tokens: whole, with special tokens, with the characters that they stand for."""

import logging
from collections.abc import Sequence
from typing import Final

from transformers import PreTrainedTokenizerBase

from pretune_trainer.errors import UserError

Offsets = Sequence[tuple[int, int]]
"""Characters from and until, of each token."""

_PYTHON: Final = logging.getLogger("transformers.tokenization_python")


def encode_whole(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int) -> list[tuple[list[int], int]]:
    """Token ids of each text with the tokenizer's special tokens, cut at `length`; and how many there were before."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), truncation=True, max_length=length, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    full = [number for number, each in enumerate(ids) if len(each) == length]
    if encoded.encodings is None:  # a tokenizer written in Python does not say what it has cut off
        needed = _uncut(tokenizer, [[text] for text in texts], full)
    else:
        around = tokenizer.num_special_tokens_to_add()
        rest = ((number, encoded.encodings[number].overflowing) for number in full)
        needed = {number: length + sum(len(part) - around for part in parts) for number, parts in rest}
    return [(each, needed.get(number, len(each))) for number, each in enumerate(ids)]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Sequence[str]], length: int
) -> list[tuple[list[int], list[int], int]]:
    """Token ids of each pair of texts with the tokenizer's special tokens, the longer text cut until both fit into
    `length`; to which text each token belongs, nothing where the tokenizer does not tell; and how many there were.
    """
    if not pairs:
        return []
    _PYTHON.addFilter(_is_news)
    firsts, seconds = ([pair[place] for pair in pairs] for place in (0, 1))
    encoded = tokenizer(
        firsts, seconds, truncation="longest_first", max_length=length, return_attention_mask=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    types: list[list[int]] = encoded.get("token_type_ids", [[] for _ in ids])
    # Of what they cut off, fast tokenizers give each piece once with every piece of the other text, others nothing.
    needed = _uncut(tokenizer, pairs, [number for number, each in enumerate(ids) if len(each) == length])
    return [(each, types[number], needed.get(number, len(each))) for number, each in enumerate(ids)]


def _uncut(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> dict[int, int]:
    """How many tokens each row of these numbers takes as a whole, a text or a pair of them: encoded once more."""
    if not numbers:
        return {}
    sides = zip(*(rows[number] for number in numbers), strict=True)
    whole = tokenizer(*map(list, sides), return_attention_mask=False, verbose=False)["input_ids"]
    return dict(zip(numbers, map(len, whole), strict=True))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a tokenizer says more than that, of a pair, it does not return what it cuts off: it does of every one."""
    return "overflowing tokens are not returned" not in record.getMessage()


def encode_with_offsets(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[list[int], Offsets]]:
    """Token ids of each text, without special tokens, and the characters that each token stands for.

    Raises:
        UserError: the tokenizer is one of those written in Python, which do not tell.
    """
    if not tokenizer.is_fast:
        raise UserError("spec.tokenizer", "it does not report the positions of its tokens; use a fast tokenizer")
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True, verbose=False
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def added_around(tokenizer: PreTrainedTokenizerBase, *, written: bool = False) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer itself puts before and after a text, such as [CLS] and [SEP]; or around one
    that is written, where it tells these apart, as M2M100 and NLLB do by their languages.

    Raises:
        UserError: it does not know which language is written.
    """
    role = "text_target" if written else "text"
    try:
        plain, framed = (
            list(tokenizer(**{role: "a"}, add_special_tokens=special)["input_ids"]) for special in (False, True)
        )
    except (KeyError, TypeError) as error:
        said = "it does not say which language is written; set src_lang and tgt_lang in its tokenizer_config.json"
        raise UserError("spec.tokenizer", said) from error
    before = next(at for at in range(len(framed)) if framed[at : at + len(plain)] == plain)
    return framed[:before], framed[before + len(plain) :]
