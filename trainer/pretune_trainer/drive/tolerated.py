"""Failures that training goes on after."""

import logging
from contextlib import AbstractContextManager

_log = logging.getLogger(__name__)


class Tolerated(AbstractContextManager["Tolerated"]):
    """Within it errors end nothing; of several in a row only the first is logged."""

    def __init__(self, sentence: str, errors: type[Exception] = Exception) -> None:
        """`sentence` says what cannot be done; other errors than `errors` are raised."""
        self._sentence = sentence
        self._errors = errors
        self._failing = False

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is not None and not isinstance(error, self._errors):
            return False
        if error is not None and not self._failing:
            _log.warning("%s: %s", self._sentence, error)
        self._failing = error is not None
        return True
