"""Pairs of segments for next-sentence prediction (Devlin et al., 2019, section 3.1)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from pretune_trainer.data.example import Example
from pretune_trainer.tasks.language import Tokens, part

_END: Final = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
"""Where a sentence ends: line ends, and full stops before a space. The paper's sentence is any span of text."""


def sentences(text: str) -> list[str]:
    """The sentences of a document, in order."""
    return [each for each in _END.split(text.strip()) if each]


def runs(text: str, parts: Sequence[Tokens], room: int) -> Iterator[Example]:
    """Runs of neighbouring sentences, at least two of them, at most `room` tokens together.

    A sentence of more than half of that is cut, so that every run can be a pair. What is left over with a single
    sentence has nothing that follows it, and is dropped.

    Args:
        text: the document, which names itself by its content.
        parts: its sentences, tokenised.
        room: most tokens of a pair.

    Returns:
        ids int32 [n], sentences int32 [lengths of the sentences], document int64 [1]; words uint8 [n] where known.
    """
    document = np.frombuffer(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), np.int64)
    whole = {name: np.concatenate([each[name] for each in parts]) for name in (parts[0] if parts else ())}
    begin = 0
    for lengths in _grouped(_cut([len(each["ids"]) for each in parts], room // 2), room):
        end = begin + sum(lengths)
        if len(lengths) > 1:
            run = {name: values[begin:end] for name, values in whole.items()}
            yield {**run, "sentences": np.asarray(lengths, np.int32), "document": document}
        begin = end


def _cut(lengths: Sequence[int], most: int) -> Iterator[int]:
    """Lengths of sentences, with those beyond `most` cut into pieces."""
    for length in lengths:
        whole, rest = divmod(length, most)
        yield from [most] * whole
        if rest:
            yield rest


def _grouped(lengths: Iterator[int], room: int) -> Iterator[list[int]]:
    """Neighbours, as many as fit in `room` together."""
    group: list[int] = []
    for length in lengths:
        if sum(group) + length > room:
            yield group
            group = []
        group.append(length)
    if group:
        yield group


@dataclass(frozen=True)
class Pair:
    """Two segments, and whether the second follows the first."""

    first: Tokens
    second: Tokens
    follows: bool


def pair(run: Example, other: Example | None, room: int, random: np.random.Generator) -> Pair:
    """A run of sentences, split in two at random; half of the time what follows is replaced from `other`.

    A run of the same document, or none, is no replacement.
    """
    ends = np.cumsum(run["sentences"].astype(np.int64))
    middle, end = int(ends[random.integers(len(ends) - 1)]), int(ends[-1])
    replace = bool(random.random() < 0.5)
    first = part(run, slice(0, middle))
    if not replace or other is None or other["document"][0] == run["document"][0]:
        return Pair(first, part(run, slice(middle, None)), follows=True)
    return Pair(first, part(other, _instead(other, end - middle, room - middle, random)), follows=False)


def _instead(other: Example, wanted: int, most: int, random: np.random.Generator) -> slice:
    """Whole sentences of `other`, about as long as the `wanted` tokens that they replace, and no longer than `most`.

    Neither its length nor a broken end may give a replacement away: a model would learn that, and not what follows.
    """
    lengths = other["sentences"].astype(np.int64)
    begins = np.cumsum(lengths) - lengths
    fits, enough = lengths <= most, begins + wanted <= lengths.sum()
    places = next(np.flatnonzero(each) for each in (fits & enough, fits, lengths >= 0) if each.any())
    place = places[random.integers(len(places))]
    ends = np.cumsum(lengths[place:])
    fitting = ends[ends <= most]
    size = fitting[np.abs(fitting - wanted).argmin()] if len(fitting) else most
    return slice(int(begins[place]), int(begins[place] + size))
