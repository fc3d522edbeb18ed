"""On what a job runs."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import JobName


class Compute(Spec):
    """The machines of a job. Ignored by `pretune run`, but for the number of workers, which --workers replaces."""

    pool: JobName | None = None
    """Name of a pool of nodes that the cluster's administrator has set up; the default pool when absent."""
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Number of worker pods."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs, and so ranks, of each worker; with 0, a worker is one rank on CPUs."""
