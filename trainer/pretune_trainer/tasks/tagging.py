"""From a row with tagged words, or with marked spans, to text whose words have tags."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from pretune_api.fields import suggestion
from pretune_trainer.data.example import Row, kind_of
from pretune_trainer.errors import BadRowError, quoted
from pretune_trainer.metrics.entities import OUTSIDE, TagSet
from pretune_trainer.words import HANGUL, UNSPACED, word_pattern


@dataclass(frozen=True)
class TaggedText:
    """A text, its words, and a tag for each."""

    text: str
    words: list[tuple[int, int]]
    """Characters from and until, in order."""
    tags: list[int]
    """Numbers of the words' tags."""


class Tagger:
    """Reads the rows of a task whose words have tags."""

    def __init__(self, tags: TagSet, column: str, where: str, *, texts_change: bool) -> None:
        self.tags = tags
        self.column = column
        self.texts_change = texts_change
        """Whether cleaning changes texts: of words each keeps its tag, and spans would be of other words."""
        self.where = where
        """The field that lists the labels."""
        self.tag_numbers = {name: number for number, name in enumerate(tags.names)}
        self.label_numbers = {name: number for number, name in enumerate(tags.labels)}

    def read(self, row: Row) -> TaggedText:
        """The words and tags of a row.

        Raises:
            BadRowError: they do not fit each other, a tag is unknown or out of place, spans overlap or cut words, or
                stand in texts that change.
        """
        marks = row.labels(self.column)
        if not isinstance(marks, list):
            raise _bad(row, f"column '{self.column}' holds {kind_of(marks)}, expected a list")
        value = row.value(row.column)
        return self._from_words(row, value, marks) if isinstance(value, list) else self._from_spans(row, marks)

    def _from_words(self, row: Row, words: list[object], marks: list[object]) -> TaggedText:
        if len(words) != len(marks):
            raise _bad(
                row,
                f"column '{row.column}' has {len(words)} words, column '{self.column}' {len(marks)} tags; "
                "expected one for each word",
            )
        texts = [_word(row, number, word) for number, word in enumerate(words)]
        tags = [self._tag(row, number, mark) for number, mark in enumerate(marks)]
        self._check_order(row, tags)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + len(text) + 1)
        spans = [(start, start + len(text)) for start, text in zip(starts, texts, strict=False)]
        return TaggedText(" ".join(texts), spans, tags)

    def _tag(self, row: Row, number: int, mark: object) -> int:
        if isinstance(mark, str) and mark in self.tag_numbers:
            return self.tag_numbers[mark]
        known = suggestion(self.tag_numbers, str(mark))
        raise _bad(row, f"tag {quoted(mark)} is not O, B- or I- of a label listed in {self.where}; {known}", number)

    def _check_order(self, row: Row, tags: Sequence[int]) -> None:
        for number, (before, tag) in enumerate(pairwise([OUTSIDE, *tags])):
            if self.tags.continues(tag) and self.tags.label(before) != self.tags.label(tag):
                names = self.tags.names
                raise _bad(
                    row,
                    f"{names[tag]} follows {names[before]}; in IOB2 an entity begins with {names[tag - 1]}",
                    number,
                )

    def _from_spans(self, row: Row, marks: list[object]) -> TaggedText:
        text = row.text()
        if self.texts_change:
            sentence = f"mask and c4 change texts, but '{self.column}' has positions in them; remove both"
            raise _bad(row, f"spec.data.cleaning: {sentence}")
        words = [match.span() for match in _words_of_text().finditer(text)]
        tags = [OUTSIDE] * len(words)
        starts = {start: number for number, (start, _) in enumerate(words)}
        ends = {end: number for number, (_, end) in enumerate(words)}
        for number, mark in enumerate(marks):
            start, end, label = self._span(row, number, mark, len(text))
            if start not in starts or end not in ends:
                raise self._bad_span(
                    row, number, f"{quoted(text[start:end])} cuts a word; let it begin and end at word boundaries"
                )
            first, last = starts[start], ends[end]
            if any(tags[first : last + 1]):
                raise self._bad_span(row, number, f"{quoted(text[start:end])} overlaps another span")
            tags[first : last + 1] = [TagSet.begin(label), *[TagSet.inside(label)] * (last - first)]
        return TaggedText(text, words, tags)

    def _span(self, row: Row, number: int, mark: object, length: int) -> tuple[int, int, int]:
        if not isinstance(mark, dict) or not {"start", "end", "label"} <= mark.keys():
            raise self._bad_span(
                row, number, "a span must be an object with start, end and label; tags need a list of words"
            )
        start, end, label = mark["start"], mark["end"], mark["label"]
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
            raise self._bad_span(
                row,
                number,
                f"characters {quoted(start)} to {quoted(end)} are not in a text of {length}; write 0 <= start < end",
            )
        return start, end, self._label(row, number, label)

    def _label(self, row: Row, number: int, label: Any) -> int:
        if not isinstance(label, str) or label not in self.label_numbers:
            known = suggestion(self.label_numbers, str(label))
            raise self._bad_span(row, number, f"label {quoted(label)} is not listed in {self.where}; {known}")
        return self.label_numbers[label]

    def _bad_span(self, row: Row, number: int, sentence: str) -> BadRowError:
        return BadRowError(f"{row.place} {self.column}[{number}]", sentence)


def _word(row: Row, number: int, word: object) -> str:
    if not isinstance(word, str) or not word.strip():
        raise _bad(row, f"{quoted(word)} is not a word; expected text that is not empty", number)
    return word


@cache
def _words_of_text() -> re.Pattern[str]:
    """Matches the words and signs of a text that comes without a list of them."""
    return re.compile(rf"{word_pattern(UNSPACED + HANGUL)}|[^\w\s]")


def _bad(row: Row, sentence: str, word: int | None = None) -> BadRowError:
    place = str(row.place) if word is None else f"{row.place} word {word + 1}"
    return BadRowError(place, sentence)
