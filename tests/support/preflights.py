"""Preflights that live and die as they are fated to, and what they leave as their last words."""

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pretune_operator.observed import SeenPod, SeenPreflight

POD = SeenPod("preflight-x7k2p", "Running", node="node-0")


def finding(ok: bool | None, sentence: str = "said", cause: str | None = None, **fields: Any) -> dict[str, Any]:
    found = {"check": "source", "ok": ok, "place": "spec.data.train[0].uri", "sentence": sentence, **fields}
    return found if cause is None else found | {"cause": cause}


def words(*findings: dict[str, Any]) -> str:
    """The last words of a preflight, as `python -m pretune_trainer.preflight` leaves them."""
    return json.dumps({"findings": findings, "leftOut": 0})


MISTAKE = finding(False, "there is nothing", "UserError")


class Trial(StrEnum):
    """What comes of a preflight."""

    PASSES = "finds nothing wrong"
    FAILS = "finds a mistake"
    BREAKS = "breaks"
    HANGS = "never ends"
    VANISHES = "is deleted by somebody"
    FORBIDDEN = "is forbidden by the cluster"


@dataclass
class Preflight:
    """A preflight's Job."""

    number: int
    name: str
    trial: Trial
    age: int = 0
    deleted: bool = False

    def tick(self) -> None:
        self.age += 1

    @property
    def gone(self) -> bool:
        return self.deleted or (self.trial is Trial.VANISHES and self.age > 1)

    def seen(self) -> SeenPreflight:
        """What the cluster shows of it."""
        running = SeenPreflight(self.number, self.name, deleting=self.deleted, pod=POD)
        if self.age < 2 or self.trial in (Trial.HANGS, Trial.VANISHES):
            return running
        said, exit_code = {
            Trial.PASSES: (words(finding(True)), 0),
            Trial.FAILS: (words(MISTAKE), 2),
            Trial.BREAKS: ("Killed", 137),
        }[self.trial]
        return replace(running, pod=replace(POD, phase="Failed", exit_code=exit_code, message=said))
