"""The report of a cleaning: data.json in the artifact, and a paragraph of the model card."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pretune_api.base import Spec
from pretune_api.cleaning import Cleaning
from pretune_trainer.data.cleaning.reasons import KEPT, REASONS
from pretune_trainer.data.cleaning.survey import Survey

REPORT_NAME: Final = "data.json"
_SHOWN: Final = 100
"""Values of a column that are reported by name, the most frequent ones; the others together as `others`."""
_OTHERS: Final = "others"


class SourceReport(Spec):
    """What came of one source."""

    uri: str
    """Where it is."""
    documents: int
    """Rows read."""
    kept: int
    """Rows that were kept; the rest is in `dropped`."""
    characters: int
    """Characters of the rows read, without what was left out of them."""
    characters_kept: int
    """Characters of the rows kept."""
    dropped: dict[str, int]
    """Rows dropped, by reason."""


class Balance(Spec):
    """How often each value of a column stands in the training rows."""

    read: dict[str, int]
    """In the rows read."""
    kept: dict[str, int]
    """In the rows kept."""


class DataReport(Spec):
    """What cleaning has done."""

    version: Literal[1] = 1
    """Version of this format."""
    documents: int
    """Rows read."""
    kept: int
    """Rows kept."""
    held_out: int
    """Of these, rows of the validation and of the test."""
    dropped: dict[str, int]
    """Rows dropped, by reason."""
    masked: dict[str, int]
    """Places masked, by kind."""
    sources: list[SourceReport]
    """By source: those to learn from, then those of the validation and of the test."""
    balance: dict[str, Balance]
    """By column with labels or groups: the rows to learn from."""
    languages: Balance | None = None
    """By language, where languages are told: the rows to learn from."""

    def at(self, uris: Sequence[str]) -> "DataReport":
        """The same, of sources that are at `uris`."""
        sources = [each.model_copy(update={"uri": uri}) for each, uri in zip(self.sources, uris, strict=True)]
        return self.model_copy(update={"sources": sources})

    def sentence(self) -> str:
        """For the model card."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.dropped.items())
        said = f"Of {self.documents:,} documents {self.kept:,} were kept; dropped: {reasons or 'none'}."
        return f"{said} More in `{REPORT_NAME}`."


def report(
    surveys: Sequence[Survey],
    verdicts: Sequence[NDArray[np.uint8]],
    of_source: Sequence[int],
    names: Sequence[str],
    cleaning: Cleaning,
) -> DataReport:
    """The report of units, with the verdicts on their rows; `of_source` is the source of each unit.

    `names` stand for the sources until the report is read `at` their URIs.
    """
    units = list(zip(of_source, surveys, verdicts, strict=True))
    sources = [
        _source_report(name, [(survey, found) for at, survey, found in units if at == number])
        for number, name in enumerate(names)
    ]
    return DataReport(
        documents=sum(source.documents for source in sources),
        kept=sum(source.kept for source in sources),
        held_out=sum(int((survey.held_out & (found == KEPT)).sum()) for _, survey, found in units),
        dropped=_most_first(sum((Counter(source.dropped) for source in sources), Counter())),
        masked=_most_first(sum((Counter(survey.masked) for survey in surveys), Counter())),
        sources=sources,
        balance={name: _balance(number, surveys, verdicts) for number, name in enumerate(cleaning.balance)},
        languages=_balance(len(cleaning.balance), surveys, verdicts) if cleaning.language else None,
    )


def _source_report(name: str, units: Sequence[tuple[Survey, NDArray[np.uint8]]]) -> SourceReport:
    counts = np.zeros(len(REASONS) + 1, np.int64)
    for _, found in units:
        counts += np.bincount(found, minlength=len(counts))
    return SourceReport(
        uri=name,
        documents=int(counts.sum()),
        kept=int(counts[KEPT]),
        characters=sum(int(survey.sizes.sum()) for survey, _ in units),
        characters_kept=sum(int(survey.sizes[found == KEPT].sum()) for survey, found in units),
        dropped=_most_first(Counter(dict(zip(map(str, REASONS), counts[1:].tolist(), strict=True)))),
    )


def _balance(number: int, surveys: Sequence[Survey], verdicts: Sequence[NDArray[np.uint8]]) -> Balance:
    read: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for survey, found in zip(surveys, verdicts, strict=True):
        names, groups = survey.values[number], survey.groups[:, number]
        for counter, rows in ((read, ~survey.held_out), (kept, ~survey.held_out & (found == KEPT))):
            counts = np.bincount(groups[rows], minlength=len(names)).tolist()
            counter.update(dict(zip(names, counts, strict=True)))
    shown = list(_most_first(read))[:_SHOWN]
    return Balance(read=_by_name(read, shown), kept=_by_name(kept, shown))


def _by_name(counts: Counter[str], shown: Sequence[str]) -> dict[str, int]:
    others = counts.total() - sum(counts[name] for name in shown)
    return {name: counts[name] for name in shown} | ({_OTHERS: others} if others else {})


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((+counts).items(), key=lambda each: (-each[1], each[0])))
