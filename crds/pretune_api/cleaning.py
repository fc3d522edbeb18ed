"""What is done to documents that are not clean, before anything is learnt from them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import Rule, Spec
from pretune_api.units import LANGUAGE, ColumnName, UniqueList

Characters = Annotated[int, Field(ge=1, le=1_000_000_000)]
Words = Annotated[int, Field(ge=1, le=100_000_000)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


class LengthFilter(Spec):
    """Drops documents that are too short or too long. Words are separated by white space."""

    min_characters: Characters | None = None
    """Minimum number of characters in a document."""
    max_characters: Characters | None = None
    """Maximum number of characters in a document."""
    min_words: Words | None = None
    """Minimum number of words in a document."""
    max_words: Words | None = None
    """Maximum number of words in a document."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="minCharacters must not be greater than maxCharacters",
            cel="!has(self.minCharacters) || !has(self.maxCharacters) || self.minCharacters <= self.maxCharacters",
            holds=lambda self: (
                None in (self.min_characters, self.max_characters) or self.min_characters <= self.max_characters
            ),
        ),
        Rule(
            message="minWords must not be greater than maxWords",
            cel="!has(self.minWords) || !has(self.maxWords) || self.minWords <= self.maxWords",
            holds=lambda self: None in (self.min_words, self.max_words) or self.min_words <= self.max_words,
        ),
    )


class CharacterFilter(Spec):
    """Drops documents by the kinds of characters in them; white space does not count."""

    min_letters: Share | None = None
    """Minimum share of letters, in any script."""
    max_digits: Share | None = None
    """Maximum share of digits."""


class AudioFilter(Spec):
    """Drops audio clips by length and loudness. Empty and damaged clips are always dropped."""

    min_seconds: Seconds | None = None
    """Minimum length of a clip, in seconds."""
    max_seconds: Seconds | None = None
    """Maximum length of a clip, in seconds."""
    min_level: Annotated[float, Field(ge=-120.0, le=0.0)] | None = None
    """Minimum mean level (root mean square) of a clip, in decibels: 0 is full scale, -60 is practically silence."""
    max_clipped: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Maximum share of clipped samples, which are those at full scale."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="minSeconds must not be greater than maxSeconds",
            cel="!has(self.minSeconds) || !has(self.maxSeconds) || self.minSeconds <= self.maxSeconds",
            holds=lambda self: None in (self.min_seconds, self.max_seconds) or self.min_seconds <= self.max_seconds,
        ),
    )


class ImageFilter(Spec):
    """Drops images that are too small or cannot be decoded."""

    smallest_side: Annotated[int, Field(ge=1, le=4_096)] = 8
    """Minimum height and width in pixels."""


class LanguageFilter(Spec):
    """Drops documents that are not in one of the listed languages, as detected by py3langid; the report counts all."""

    keep: Annotated[
        UniqueList[Annotated[str, Field(pattern=LANGUAGE, max_length=3)]], Field(min_length=1, max_length=139)
    ]
    """ISO 639 codes of the languages to keep, such as de. Documents without letters are in no language."""


class Cleaning(Spec):
    """Filters, deduplication and masking of the data; data.json in the artifact reports how much was affected.

    Sources in data.validation.sources and data.test are not cleaned, but training documents that duplicate theirs are
    dropped.
    """

    length: LengthFilter | None = None
    """Filters documents by length."""
    characters: CharacterFilter | None = None
    """Filters documents by their characters."""
    language: LanguageFilter | None = None
    """Filters documents by language."""
    audio: AudioFilter | None = None
    """Filters audio by length and loudness. For audio, all other filters apply to the transcripts, but duplicates
    compares the files."""
    filters: Annotated[list[Literal["gopherQuality", "gopherRepetition", "c4"]], Field(max_length=3)] = []
    """Published filters: gopherQuality (for English prose) and gopherRepetition as in Rae et al. 2021, table A1; c4 as
    in Raffel et al. 2020, which also removes single lines."""
    images: ImageFilter | None = None
    """Filters images. If the images have captions, the text filters apply to the captions."""
    duplicates: Literal["exact", "near"] | None = None
    """Drops duplicates: the first of them is kept, or none if one is in the validation or test data. exact: documents
    that are equal except for white space; images and their captions are compared byte by byte. near: also documents
    that share most of their sequences of five words (MinHash; detects 99% of pairs with a Jaccard similarity of 0.8 or
    more, and fewer than 1 in 1,000 with 0.5 or less)."""
    mask: Annotated[list[Literal["emailAddress", "ipAddress", "phoneNumber"]], Field(max_length=3)] = []
    """Kinds of personal data to replace with placeholders such as |||EMAIL_ADDRESS|||."""
    balance: Annotated[list[ColumnName], Field(max_length=8)] = []
    """Columns with labels or groups (gender, accent) whose values are counted before and after cleaning, to reveal
    bias."""

    @property
    def judges_text(self) -> bool:
        """Whether a rule is about texts."""
        return bool(self.length or self.characters or self.filters or self.mask or self.duplicates == "near")

    @property
    def edits(self) -> bool:
        """Whether documents that are kept are changed."""
        return bool(self.mask) or "c4" in self.filters
