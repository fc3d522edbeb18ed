"""The language that a document is in, told by its bytes: py3langid (Lui and Baldwin, 2012), which brings its model."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from pretune_api.fields import suggestion
from pretune_trainer.errors import UserError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_READ: Final = 4_000
"""Characters that are looked at: more say nothing new."""
_UNKNOWN: Final = "und"
"""Undetermined, in ISO 639."""


@lru_cache(maxsize=1)  # a document is judged, and counted
def language_of(text: str) -> str:
    """Code of the likeliest language, such as de (ISO 639); und where there are no letters to tell it from."""
    read = text[:_READ]
    return str(_identifier().classify(read)[0]) if any(map(str.isalpha, read)) else _UNKNOWN


def check_languages(wanted: Sequence[str]) -> None:
    """Refuse languages that cannot be told.

    Raises:
        UserError: there is such a one.
    """
    known = _identifier().labels
    for number, name in enumerate(wanted):
        if name not in known:
            raise UserError(
                f"spec.data.cleaning.language.keep[{number}]", f"'{name}' cannot be detected; {suggestion(known, name)}"
            )


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
