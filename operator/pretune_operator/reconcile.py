"""What to do next for a job. Pure: everything is decided from what was seen, and nothing is remembered but status."""

from collections.abc import Sequence
from datetime import datetime

from pretune_api.status import Status
from pretune_operator.decision import Decision
from pretune_operator.job import JobView
from pretune_operator.observed import Observed
from pretune_operator.settings import Settings


def reconcile(job: JobView, seen: Observed, settings: Settings, now: datetime) -> Decision:
    """What to do next for `job`, given everything seen in the cluster. `now` is aware, in UTC."""
    return Decision(job.status)


def refused(status: Status, generation: int, seen: Observed, sentences: Sequence[str], now: datetime) -> Decision:
    """What to do with a job whose resource is no valid job: `sentences` say everything that is wrong with it.

    `status` is what the resource's status says, or an empty one.
    """
    return Decision(status)
