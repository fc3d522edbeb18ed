"""From a run config to the Job of a preflight. Pure.

It listens on no port, so no NetworkPolicy has anything to fence; what it may reach is as little limited as for a head.
"""

from typing import Final

from pretune_api.run_config import RunConfig
from pretune_operator.job import JobView
from pretune_operator.naming import Manifest, preflight_metadata
from pretune_operator.pods import preflight_pod
from pretune_operator.settings import Settings

_GRACE_SECONDS: Final = 60
"""Time after its deadline that the operator has to see for itself why it did not end, and to delete it."""
_LAST_RESORT_SECONDS: Final = 3_600
"""Life of one that has ended while no operator is there to read and delete it."""


def preflight_job(job: JobView, config: RunConfig, number: int, settings: Settings) -> Manifest:
    """The Job of preflight `number`, to be created once and never applied again. The job owns it."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": preflight_metadata(job, number),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": settings.preflight.deadline_seconds + _GRACE_SECONDS,
            "ttlSecondsAfterFinished": _LAST_RESORT_SECONDS,
            "template": preflight_pod(job, number, config, settings),
        },
    }
