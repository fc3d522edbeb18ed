"""What a preflight finds, for people and for programs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from pretune_api.names import Cause, ExitCode
from pretune_trainer.errors import PretuneError, UserError, shortened

T = TypeVar("T")

_MOST_BYTES: Final = 4096
"""What Kubernetes keeps of a container's termination message."""
_MOST_CHARACTERS: Final = 500
"""Of a sentence or a place among the findings that are left for a program."""


class NotKnownError(Exception):
    """What a check needs is not there yet, or an earlier check has failed."""


@dataclass(frozen=True)
class Finding:
    """What came of one check."""

    check: str
    """The check, in a word: config, storage, spec, source, parent, tokenizer, task, model, rows, batch or memory."""
    ok: bool | None
    """Whether all is well; None where it cannot be known yet."""
    sentence: str
    """What was found; of a failure what is wrong, and what would be right."""
    place: str
    """The field, or the row, that it is about."""
    cause: Cause | None = None
    """What a run would fail with."""
    exit_code: ExitCode = ExitCode.OK
    """The exit code that a run would end with."""

    @classmethod
    def of(cls, check: str, place: str, error: Exception) -> "Finding":
        """What an error means for the run that would meet it."""
        match error:
            case NotKnownError():
                return cls(check, None, str(error), place)
            case UserError(where=where, sentence=sentence):
                return cls(check, False, sentence, where, error.cause, error.exit_code)
            case PretuneError():
                return cls(check, False, str(error), place, error.cause, error.exit_code)
        said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return cls(check, False, said, place, Cause.UNKNOWN, ExitCode.FAILED)

    def to_json(self) -> dict[str, Any]:
        """Its fields, as JSON has them; cause is left out where there is none."""
        found = {"check": self.check, "ok": self.ok, "sentence": self.sentence, "place": self.place}
        return found if self.cause is None else {**found, "cause": self.cause}

    @property
    def state(self) -> str:
        """ok, wrong or not known."""
        return {True: "ok", False: "wrong", None: "not known"}[self.ok]

    def __str__(self) -> str:
        return f"{self.check}: {self.state}: {self.place}: {self.sentence}"


@dataclass(frozen=True)
class Checked(Generic[T]):
    """A check that was made, and what later ones need of it."""

    finding: Finding
    value: T | None = None

    def get(self) -> T:
        """What the check has brought.

        Raises:
            NotKnownError: nothing, because it failed, or could not be made.
        """
        if self.value is not None:
            return self.value
        unknown = self.finding.ok is None
        raise NotKnownError(self.finding.sentence if unknown else f"not known, because {self.finding.check} is wrong")


@dataclass
class Checks:
    """Makes checks, one after the other, whatever comes of the ones before."""

    findings: list[Finding] = field(default_factory=list)

    def make(self, check: str, place: str, do: Callable[[], tuple[T, str]]) -> Checked[T]:
        """Note what came of `do`, which returns what later checks need, and a sentence."""
        value: T | None = None
        try:
            value, sentence = do()
            finding = Finding(check, True, sentence, place)
        except Exception as error:  # a mistake of ours in one check must not hide what the others find
            finding = Finding.of(check, place, error)
        self.findings.append(finding)
        return Checked(finding, value)


def exit_code(findings: Sequence[Finding]) -> ExitCode:
    """That of the first failure; OK where there is none."""
    return next((finding.exit_code for finding in findings if finding.ok is False), ExitCode.OK)


def message(findings: Sequence[Finding]) -> str:
    """As many findings as fit into a termination message, as JSON: failures first; `leftOut` counts the rest."""
    important_first = sorted(findings, key=lambda finding: (finding.ok is not False, finding.ok is not None))
    return next(
        text
        for count in range(len(findings), -1, -1)
        if len((text := _message(important_first[:count], len(findings) - count)).encode()) <= _MOST_BYTES
    )


def _message(findings: Sequence[Finding], left_out: int) -> str:
    cut = [
        {
            name: shortened(value, _MOST_CHARACTERS) if isinstance(value, str) else value
            for name, value in finding.to_json().items()
        }
        for finding in findings
    ]
    return json.dumps({"findings": cut, "leftOut": left_out}, ensure_ascii=False)
