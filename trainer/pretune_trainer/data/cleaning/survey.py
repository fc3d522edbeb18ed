"""What cleaning learns of a unit: of each row a verdict by itself, and what it takes to compare it with all others."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretune_api.cleaning import Cleaning
from pretune_api.tasks import OWN_COLUMN
from pretune_trainer.data.cleaning.audio import judge_audio
from pretune_trainer.data.cleaning.c4 import c4_page
from pretune_trainer.data.cleaning.images import judge_image
from pretune_trainer.data.cleaning.language import language_of
from pretune_trainer.data.cleaning.minhash import PLACES, signature
from pretune_trainer.data.cleaning.quality import characters, gopher_quality, length
from pretune_trainer.data.cleaning.reasons import Reason, verdict
from pretune_trainer.data.cleaning.repetition import gopher_repetition
from pretune_trainer.data.cleaning.text import edited, text_in
from pretune_trainer.data.example import Row, content_of, kind_of
from pretune_trainer.data.holdout import SplitKey
from pretune_trainer.data.inputs import DataSource
from pretune_trainer.data.npy import npz, read_npz
from pretune_trainer.errors import BadRowError

_FILTERS: Final = (("gopherQuality", gopher_quality), ("gopherRepetition", gopher_repetition), ("c4", c4_page))
_MOST_VALUES: Final = 1000
"""Different values of a column that is a label or a group."""


@dataclass(frozen=True)
class Rules:
    """What is asked of rows, and where in them."""

    cleaning: Cleaning
    """What is dropped and edited."""
    columns: Sequence[str]
    """Columns with text beside the source's own."""
    split_key: SplitKey
    """What decides which rows are held out: images, and a context that is one of `columns`."""

    @property
    def read(self) -> list[str]:
        """All columns that are read beside the source's own."""
        return [*self.columns, *([self.split_key.image] if self.split_key.image else []), *self.cleaning.balance]


@dataclass(frozen=True)
class Survey:
    """What is known of the rows of a unit, in order."""

    verdicts: NDArray[np.uint8]
    """Verdict on each row by itself [n]."""
    held_out: NDArray[np.bool_]
    """Whether it falls to the validation [n]."""
    sizes: NDArray[np.int64]
    """Its characters [n], after edits."""
    digests: NDArray[np.uint64]
    """Digest of its text but for white space [n, 2]; zeros where it is dropped, or nothing is compared."""
    signatures: NDArray[np.uint16]
    """MinHash signature [n, PLACES], zeros where it is dropped; [n, 0] where none are wanted."""
    groups: NDArray[np.int32]
    """Index into `values` of each balanced column, and of the language if it is told [n, columns]."""
    values: list[list[str]]
    """Values of each balanced column; and the languages."""
    masked: dict[str, int] = field(default_factory=dict)
    """What was masked, by kind."""

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        return npz({"values": self.values, "masked": self.masked}, {name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def from_bytes(cls, content: bytes) -> "Survey":
        """A survey that was written."""
        head, arrays = read_npz(content)
        return cls(**arrays, **head)


_ARRAYS: Final = ("verdicts", "held_out", "sizes", "digests", "signatures", "groups")


class Surveyor:
    """Takes in the rows of a unit."""

    def __init__(self, rules: Rules, source: DataSource) -> None:
        self._cleaning, self._columns, self._image = rules.cleaning, rules.columns, rules.split_key.image
        self._source = source
        self._masked: Counter[str] = Counter()
        self._rows: list[tuple[int, bool, int]] = []
        self._digests: list[bytes] = []
        self._signatures: list[NDArray[np.uint16]] = []
        self._groups: list[list[int]] = []
        self._values: list[dict[str, int]] = [{} for _ in rules.cleaning.balance]
        if rules.cleaning.language is not None:
            self._values.append({})

    def add(self, row: Row) -> None:
        """Take in a row.

        Raises:
            BadRowError: a column is missing, holds no text, or, to be balanced, too many values.
        """
        self._groups.append(self._groups_of(row))
        _check(row, self._cleaning)
        reason, apart = None, self._source.is_only_judged
        changed = edited(row, self._cleaning, self._columns, Counter() if apart else self._masked)
        if not apart:
            row = changed
            reason = self._heard(row) or self._seen(row) or self._read(row)
        self._rows.append((verdict(reason), self._source.holdout(row), len(self._text(row))))
        if self._cleaning.duplicates is not None:
            self._compare(changed, reason)  # what stays as it is, too: the others are compared as they were changed

    def _heard(self, row: Row) -> Reason | None:
        """Why a row is dropped for its audio."""
        content, wanted = content_of(row.value(row.column)), self._cleaning.audio
        return None if content is None or wanted is None else judge_audio(content, wanted)

    def _seen(self, row: Row) -> Reason | None:
        """Why a row is dropped for its image."""
        wanted = self._cleaning.images
        if wanted is None or self._image is None:
            return None
        return judge_image(row.value(self._image or row.column), wanted)

    def _read(self, row: Row) -> Reason | None:
        """Why a row is dropped for its text; images alone have none."""
        return None if self._image == OWN_COLUMN else judge(self._text(row), self._cleaning)

    def _text(self, row: Row) -> str:
        """What a row says: its document, or its transcript where that is audio."""
        value = row.value(row.column)
        return text_in(value) if content_of(value) is None else self._others(row)

    def _others(self, row: Row) -> str:
        return "\n".join(text_in(row.value(column)) for column in self._columns)

    def survey(self) -> Survey:
        """What was learnt."""
        count = len(self._rows)
        verdicts, held_out, sizes = zip(*self._rows, strict=True) if self._rows else ((), (), ())
        return Survey(
            np.array(verdicts, np.uint8),
            np.array(held_out, np.bool_),
            np.array(sizes, np.int64),
            np.frombuffer(b"".join(self._digests), np.uint64).reshape(-1, 2),
            np.stack(self._signatures) if self._signatures else np.zeros((count, 0), np.uint16),
            np.array(self._groups, np.int32).reshape(count, len(self._values)),
            [list(values) for values in self._values],
            dict(self._masked),
        )

    def _compare(self, row: Row, reason: Reason | None) -> None:
        value = row.value(row.column)
        text = "\n".join([text_in(value), *([self._others(row)] if self._columns else [])])
        same = content_of(value) or " ".join(text.split()).encode("utf-8", "surrogatepass")
        if self._image:
            same += content_of(row.value(self._image)) or b""
        self._digests.append(bytes(16) if reason else hashlib.blake2b(same, digest_size=16).digest())
        if self._cleaning.duplicates == "near":
            self._signatures.append(np.zeros(PLACES, np.uint16) if reason else signature(text))

    def _groups_of(self, row: Row) -> list[int]:
        """The number of the row's value in each balanced column; and that of its language, if that is told."""
        groups = [self._group(row, number) for number in range(len(self._cleaning.balance))]
        if self._cleaning.language is not None:
            known = self._values[-1]
            groups.append(known.setdefault(language_of(self._text(row)), len(known)))
        return groups

    def _group(self, row: Row, number: int) -> int:
        column, known = self._cleaning.balance[number], self._values[number]
        name = row.name_in(column)
        if name not in known and len(known) == _MOST_VALUES:
            raise BadRowError(
                str(row.place),
                f"column '{column}' has more than {_MOST_VALUES} different values; "
                "spec.data.cleaning.balance is for columns with labels or groups",
            )
        return known.setdefault(name, len(known))


def _check(row: Row, cleaning: Cleaning) -> None:
    value = row.value(row.column)
    is_file = content_of(value) is not None
    if is_file and cleaning.duplicates == "near":
        raise BadRowError(str(row.place), "a file has no words to compare; set spec.data.cleaning.duplicates to exact")
    if not isinstance(value, str | list | None) and not (is_file and (cleaning.audio or cleaning.images)):
        held = kind_of(value)
        raise BadRowError(
            str(row.place),
            f"column '{row.column}' holds {held}, but spec.data.cleaning reads text, "
            "or audio if it has audio: {}, or images if it has images: {}",
        )


def judge(text: str, cleaning: Cleaning) -> Reason | None:
    """Why a text is dropped by itself; None if it stays."""
    return next(_reasons(text, cleaning), None)


def _reasons(text: str, cleaning: Cleaning) -> Iterator[Reason]:
    if not text.strip():
        yield Reason.EMPTY
    if cleaning.language and language_of(text) not in cleaning.language.keep:
        yield Reason.OTHER_LANGUAGE
    if cleaning.length and (reason := length(text, cleaning.length)):
        yield reason
    if cleaning.characters and (reason := characters(text, cleaning.characters)):
        yield reason
    for name, judged in _FILTERS:
        if name in cleaning.filters and (reason := judged(text)):
            yield reason
