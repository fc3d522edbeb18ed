"""Who else is told how a job goes: services that people compare runs in."""

from typing import Annotated, ClassVar

from pydantic import Field

from pretune_api.base import OneOf, Spec
from pretune_api.units import Endpoint, ObjectName


class TrackerSecretRef(Spec):
    """A Secret of the job's namespace with MLFLOW_TRACKING_TOKEN, or with MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD."""

    name: ObjectName
    """Name of the Secret."""

    KEYS: ClassVar[tuple[str, ...]] = (
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    )
    """Keys that it may have; MLflow's client reads environment variables of the same names."""


class MLflow(Spec):
    """An MLflow server. A job is one run there, whatever the number of its attempts; a server that is away, or refuses,
    holds up nothing. On a laptop credentials come from the usual MLFLOW_TRACKING_* variables."""

    uri: Endpoint
    """Address of the server."""
    experiment: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Experiment that the run belongs to, made where there is none; the job's namespace when absent."""
    secret_ref: TrackerSecretRef | None = None
    """Credentials of the server."""


class Tracking(OneOf):
    """A tracker beside the job's own storage."""

    mlflow: MLflow | None = None
    """MLflow; `pip install 'pretune[mlflow]'` for `pretune run`, the trainer images have it."""
