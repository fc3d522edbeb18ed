"""A decision in the making."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from pretune_api.status import Condition, Status
from pretune_operator.conditions import ConditionType, condition, shortened, state_of, with_condition
from pretune_operator.decision import Action, Decision
from pretune_operator.events import events_between


@dataclass(frozen=True)
class Draft:
    """What is decided so far; each method returns the draft that follows."""

    before: Status
    """What status says."""
    status: Status
    """What it shall say."""
    generation: int
    now: datetime
    actions: tuple[Action, ...] = ()
    moment: datetime | None = None
    """The next moment at which time alone changes something."""

    @classmethod
    def begun(cls, status: Status, generation: int, now: datetime) -> Self:
        """A draft in which nothing is decided yet, but that this generation of the spec was seen."""
        return cls(status, status.model_copy(update={"observed_generation": generation}), generation, now)

    def says(self, about: ConditionType, value: bool | None, why: str, message: str) -> Self:
        """State a condition, whose time changes only with its value; None is unknown."""
        word: Literal["True", "False", "Unknown"] = "Unknown" if value is None else "True" if value else "False"
        known = condition(self.before, about)
        after = Condition(
            type=about,
            status=word,
            reason=why,
            message=shortened(message),
            last_transition_time=known.last_transition_time if known and known.status == word else self.now,
            observed_generation=self.generation,
        )
        return replace(self, status=with_condition(self.status, after))

    def takes_back(self, about: ConditionType, why: str, message: str) -> Self:
        """State that a condition does not hold (any more), if it was ever stated."""
        return self.says(about, False, why, message) if condition(self.status, about) else self

    def sets(self, **fields: Any) -> Self:
        """Give fields of status other values, by their Python names."""
        return replace(self, status=self.status.model_copy(update=fields))

    def does(self, *actions: Action) -> Self:
        """Add actions."""
        return replace(self, actions=(*self.actions, *actions))

    def looks_again(self, at: datetime) -> Self:
        """Look again at that moment, or earlier."""
        return replace(self, moment=at if self.moment is None else min(self.moment, at))

    def decided(self) -> Decision:
        """The decision."""
        status = self.status.model_copy(update={"state": state_of(self.status)})
        again = None if self.moment is None else max(self.moment - self.now, timedelta(0))
        return Decision(status, self.actions, events_between(self.before, status), again)
