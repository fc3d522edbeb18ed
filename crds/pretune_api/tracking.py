"""Experiment trackers: services in which people compare jobs."""

from typing import Annotated, ClassVar

from pydantic import Field

from pretune_api.base import OneOf, Spec
from pretune_api.units import Endpoint, ObjectName


class TrackerSecretRef(Spec):
    """A Secret in the job's namespace with MLFLOW_TRACKING_TOKEN, or with MLFLOW_TRACKING_USERNAME and
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
    """An MLflow server. A job is one run there, whatever the number of its attempts; training continues if the server
    is unavailable or refuses. On a laptop, credentials come from the usual MLFLOW_TRACKING_* variables."""

    uri: Endpoint
    """Address of the server."""
    experiment: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Experiment that the run belongs to, created if it does not exist; defaults to the job's namespace."""
    secret_ref: TrackerSecretRef | None = None
    """Secret with credentials for the server."""


class Tracking(OneOf):
    """An experiment tracker, in addition to the job's own storage."""

    mlflow: MLflow | None = None
    """MLflow. The trainer images include its client; for `pretune run`, `pip install 'pretune[mlflow]'`."""
