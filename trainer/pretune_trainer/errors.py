"""Everything that can go wrong in a run, as a tree; each error is a sentence for the person who can act on it."""

from typing import Final, Self

from pretune_api.names import Cause, ExitCode

_LINE: Final = 100
"""Characters of a value that a sentence shows."""


def lines_of(error: BaseException) -> list[str]:
    """What an error says, line by line; its name where it says nothing."""
    return str(error).strip().splitlines() or [type(error).__name__]


def shortened(text: str, most: int = _LINE) -> str:
    """A text of at most `most` characters: its end gives way to … where it has more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quoted(value: object) -> str:
    """A value of the data as a sentence shows it: on one line, its end left out where it is long."""
    if value is None:
        return "null"
    return repr(shortened(value)) if isinstance(value, str) else shortened(repr(value))


class PretuneError(Exception):
    """A failure that has a cause. Its text is one sentence: what is wrong, where, and what would be right."""

    cause = Cause.UNKNOWN
    exit_code = ExitCode.FAILED


class UserError(PretuneError):
    """Something that the job's author can mend: a field, a file, a row."""

    cause = Cause.USER_ERROR
    exit_code = ExitCode.USER_ERROR

    def __init__(self, where: str, sentence: str) -> None:
        """`where` is a field path such as spec.data.train[0].uri, or the place of a row."""
        super().__init__(f"{where}: {sentence}")
        self.where = where
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        """An error travels between ranks, and from them to the driver."""
        return type(self), (self.where, self.sentence)


class BadRowError(UserError):
    """A row of a source that cannot be learnt from."""


class MissingColumnError(BadRowError):
    """A row has no such column."""

    def __init__(self, where: str, column: str, known: str) -> None:
        """`known` are the columns that it has, for people."""
        super().__init__(where, f"there is no column '{column}'; known: {known}")
        self.column, self.known = column, known

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        """As of any `UserError`."""
        return type(self), (self.where, self.column, self.known)


class StorageError(PretuneError):
    """An object store, or a disk, did not do what was asked."""

    cause = Cause.STORAGE_UNAVAILABLE


class StorageDeniedError(StorageError):
    """An object store refused: wrong or missing credentials, or no right to do this."""

    cause = Cause.STORAGE_DENIED


class MissingObjectError(StorageError):
    """There is nothing under that name."""


class ObjectExistsError(StorageError):
    """There is something under that name already."""


class DamagedError(StorageError):
    """A committed folder is not what its manifest says."""


class HubError(PretuneError):
    """A hub does not answer, and what is wanted of it was not brought here before."""

    cause = Cause.NETWORK


class SupersededError(PretuneError):
    """A newer run of the same job has started, so this one must not write any more."""


class NumericalError(PretuneError):
    """Loss or gradients stayed not finite, or jumped, more often than the spec allows."""

    cause = Cause.NUMERICAL_ERROR


class OutOfMemoryError(PretuneError):
    """A device, or a host, has too little memory for the run."""

    cause = Cause.OUT_OF_MEMORY


class DeviceLostError(PretuneError):
    """A device is broken: another attempt may be given others."""

    cause = Cause.NODE_LOST


class RanksMissingError(PretuneError):
    """Ranks that were lost did not come back in time."""

    cause = Cause.NODE_LOST


class StopRequestedError(PretuneError):
    """Someone asked the run to stop; raised where there is nothing to commit yet, or once it is committed."""

    exit_code = ExitCode.STOPPED
