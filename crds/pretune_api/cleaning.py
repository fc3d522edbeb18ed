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
    """Drops documents that are too short or too long. Words are what white space separates."""

    min_characters: Characters | None = None
    """Fewest characters of a document."""
    max_characters: Characters | None = None
    """Most characters of a document."""
    min_words: Words | None = None
    """Fewest words of a document."""
    max_words: Words | None = None
    """Most words of a document."""

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
    """Drops documents by what their characters are, white space not counted."""

    min_letters: Share | None = None
    """Smallest share of letters, of any script."""
    max_digits: Share | None = None
    """Largest share of digits."""


class AudioFilter(Spec):
    """Drops clips of audio that nothing can be learnt from. Those that are empty or damaged are always dropped."""

    min_seconds: Seconds | None = None
    """Shortest clip."""
    max_seconds: Seconds | None = None
    """Longest clip."""
    min_level: Annotated[float, Field(ge=-120.0, le=0.0)] | None = None
    """Quietest clip: its mean level (root mean square) in decibels, where 0 is as loud as can be and -60 is silence."""
    max_clipped: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Largest share of samples that are as loud as can be: what was louder than that was cut off."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="minSeconds must not be greater than maxSeconds",
            cel="!has(self.minSeconds) || !has(self.maxSeconds) || self.minSeconds <= self.maxSeconds",
            holds=lambda self: None in (self.min_seconds, self.max_seconds) or self.min_seconds <= self.max_seconds,
        ),
    )


class ImageFilter(Spec):
    """Drops images that cannot be decoded, and small ones."""

    smallest_side: Annotated[int, Field(ge=1, le=4_096)] = 8
    """Fewest pixels in height and in width."""


class LanguageFilter(Spec):
    """Drops documents that are not in one of some languages, as py3langid tells them; the report counts them all."""

    keep: Annotated[
        UniqueList[Annotated[str, Field(pattern=LANGUAGE, max_length=3)]], Field(min_length=1, max_length=139)
    ]
    """Codes of the languages, such as de (ISO 639). Documents without letters are in none."""


class Cleaning(Spec):
    """What is dropped from the data, and what is masked in it; data.json in the artifact says how much.

    Sources of data.validation.sources are left as they are: training documents are compared with them.
    """

    length: LengthFilter | None = None
    """Length of documents."""
    characters: CharacterFilter | None = None
    """Characters of documents."""
    language: LanguageFilter | None = None
    """Language of documents."""
    audio: AudioFilter | None = None
    """Length and loudness of audio; where the documents are clips, all other rules are about their transcripts, but for
    duplicates: those are equal files."""
    filters: Annotated[list[Literal["gopherQuality", "gopherRepetition", "c4"]], Field(max_length=3)] = []
    """Published rules: gopherQuality (for English prose) and gopherRepetition as in Rae et al. 2021, table A1; c4 as in
    Raffel et al. 2020, which also leaves out single lines."""
    images: ImageFilter | None = None
    """Files of images; where they have captions, the rules on texts are about these."""
    duplicates: Literal["exact", "near"] | None = None
    """Of documents that are the same, the first is kept, and none where one of them is in the validation. exact: the
    same but for white space; images and their captions byte by byte. near: also those that have most runs of five words
    in common (MinHash; found for 99% of pairs of Jaccard similarity 0.8 and more, for less than 1 in 1,000 of 0.5 and
    less)."""
    mask: Annotated[list[Literal["emailAddress", "ipAddress", "phoneNumber"]], Field(max_length=3)] = []
    """Personal data that is replaced, such as by |||EMAIL_ADDRESS|||."""
    balance: Annotated[list[ColumnName], Field(max_length=8)] = []
    """Columns with labels or groups (gender, accent) whose values are counted before and after, to show bias."""

    @property
    def judges_text(self) -> bool:
        """Whether a rule is about texts."""
        return bool(self.length or self.characters or self.filters or self.mask or self.duplicates == "near")

    @property
    def edits(self) -> bool:
        """Whether documents that are kept are changed."""
        return bool(self.mask) or "c4" in self.filters
