"""Rows kept apart by what stands in some of their columns: languages that are mixed, slices that are judged."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pretune_api.data import Data
from pretune_api.training import Evaluation
from pretune_trainer.data.cache_index import Side
from pretune_trainer.data.example import Row
from pretune_trainer.errors import UserError

Group = tuple[str, ...]
"""The values of the columns that rows are kept apart by."""

_MOST: Final = 64
"""Groups of rows on one side, at most: each has files of its own, and figures."""
_SHOWN: Final = 3
_FIELDS: Final[dict[Side, str]] = {
    "train": "spec.data.mixture.column",
    "validation": "spec.evaluation.slices",
    "test": "spec.evaluation.slices",
}


@dataclass(frozen=True)
class Grouping:
    """The columns whose values keep rows apart, by side; none where it matters to nobody."""

    train: tuple[str, ...] = ()
    """What is mixed."""
    validation: tuple[str, ...] = ()
    """What is judged apart, in the test too."""

    @property
    def columns(self) -> list[str]:
        """All of them."""
        return list(dict.fromkeys([*self.train, *self.validation]))

    def of(self, row: Row, side: Side) -> Group:
        """The group of a row.

        Raises:
            BadRowError: a column is missing.
        """
        return tuple(row.name_in(column) for column in self._by_side(side))

    def check(self, groups: Collection[Group], side: Side) -> None:
        """Refuse columns with too many different values.

        Raises:
            UserError: there are too many groups.
        """
        if len(groups) <= _MOST:
            return
        some = ", ".join(f"'{' '.join(group)}'" for group in sorted(groups)[:_SHOWN])
        raise UserError(
            _FIELDS[side],
            f"{' and '.join(self._by_side(side))}: more than {_MOST} different values, such as {some}; "
            "use columns with few values, such as a language, an accent or a group",
        )

    def slices(self, group: Sequence[str]) -> tuple[str, ...]:
        """The slices that judged rows of a group belong to, such as language=de."""
        return tuple(f"{column}={value}" for column, value in zip(self.validation, group, strict=False))

    def _by_side(self, side: Side) -> tuple[str, ...]:
        return self.train if side == "train" else self.validation


TOGETHER: Final = Grouping()
"""Nothing is kept apart."""


def grouping_of(data: Data, evaluation: Evaluation) -> Grouping:
    """What a job keeps apart."""
    mixed = data.mixture.column if data.mixture else None
    return Grouping((mixed,) if mixed else (), tuple(evaluation.slices))
