"""What rank 0 tells a tracker. MLflow: https://mlflow.org/docs/latest/ml/tracking, its client is `mlflow-skinny`."""

import json
import logging
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from pretune_api.names import ExitCode
from pretune_api.run_config import RunConfig
from pretune_api.tracking import MLflow
from pretune_trainer.drive.wire import Ending
from pretune_trainer.errors import UserError
from pretune_trainer.metrics.slices import TEST
from pretune_trainer.report import Evaluated, Event, Start, Step

_SEND_SECONDS: Final = 5.0
"""Between two batches of metrics: a server with a thousand jobs has 200 requests a second."""
_LONGEST_SEND_SECONDS: Final = 15.0
"""After which the rest waits for the next time: the end of a run would wait for it."""
_REST_SECONDS: Final = 30.0
"""Before a server that has failed is asked again."""
_MOST_UNSENT: Final = 20_000
"""Metrics that wait for a server: beyond, the oldest are left out."""
_LONGEST_VALUE: Final = 500
"""Characters of a param, or of what is said at the end: what every version of the server takes."""
_MOST_PARAMS: Final = 500
# Limits of a request: https://mlflow.org/docs/latest/rest-api.html#log-batch
_METRICS_AT_ONCE: Final = 1_000
_PARAMS_AT_ONCE: Final = 100
_REFUSALS: Final = range(400, 500)

_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # By default a request that fails is tried again for minutes, and the end of a run would wait for it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Nobody has agreed to tell anyone but the server that the job names.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""How MLflow's client behaves unless the job's own variables say otherwise."""

_UID: Final = "pretune.uid"
_CLAIM: Final = "pretune.claim"
"""Tag by which who has made a run of MLflow's knows it again."""
_FORBIDDEN: Final = re.compile(r"[^\w\-. :/]+", re.ASCII)
"""What no name of MLflow's may have in it (mlflow/utils/validation.py)."""

_log = logging.getLogger(__name__)


def curves(event: Step | Evaluated) -> dict[str, float]:
    """The figures of an event, by the names of the curves that trackers draw of them."""
    if isinstance(event, Evaluated):
        return {_curve_of(metric): value for metric, value in event.metrics.items()}
    figures = {f"train/{name}": getattr(event, name) for name in ("loss", "learning_rate", "grad_norm")}
    return figures | {"train/tokens_per_second": event.tokens / event.seconds}


def _curve_of(metric: str) -> str:
    return f"test/{metric.removeprefix(TEST)}" if metric.startswith(TEST) else f"validation/{metric}"


class MLflowRun:
    """A job as one run of an MLflow server, found again by later runs of the job. Sends every 5 s.

    A server that is away is asked again every 30 s, and what it could not take waits, within bounds; what it refuses is
    left out. People are warned once.
    """

    def __init__(self, config: RunConfig, tracker: MLflow) -> None:
        self._config = config
        self._tracker = tracker
        self._client: Any = None
        self._start: Start | None = None
        self._id: str | None = None
        self._claim: str | None = None
        self._params: deque[Any] = deque()
        self._metrics: deque[Any] = deque(maxlen=_MOST_UNSENT)
        self._due = 0.0
        self._warned = False

    def write(self, events: list[Event]) -> None:
        """Take in events, and send them when it is time.

        Raises:
            UserError: MLflow's client is not installed.
        """
        self._client = self._client or connect(self._tracker.uri)  # seconds that pass while data and model are made
        for event in events:
            if isinstance(event, Start):
                self._start = event
            if isinstance(event, Step | Evaluated):
                self._metrics.extend(_metrics(event))
        if self._start is not None and time.monotonic() >= self._due:
            self._try(self._send)

    def close(self, ending: Ending | None) -> None:
        """Send the rest, and how the job has ended; where other ranks were lost its next run goes on with it."""
        self._try(lambda: self._finish(ending))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # whatever it is, it must not end the training
            self._warn(error)
            self._due = time.monotonic() + _REST_SECONDS
        else:
            self._due = time.monotonic() + _SEND_SECONDS

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            _log.warning("cannot send to MLflow at %s, training continues: %s", self._tracker.uri, error)
        self._warned = True

    def _send(self) -> None:
        run, until = self._opened(), time.monotonic() + _LONGEST_SEND_SECONDS
        for params in _batches(self._params, _PARAMS_AT_ONCE, until):
            self._tell(run, params=params)
        for metrics in _batches(self._metrics, _METRICS_AT_ONCE, until):
            self._tell(run, metrics=metrics)

    def _tell(self, run: str, **what: list[Any]) -> None:
        """Send it; what the server refuses is left out, because it would refuse it again."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run, **what)
        except MlflowException as error:
            if error.get_http_status_code() not in _REFUSALS:
                raise
            self._warn(error)

    def _finish(self, ending: Ending | None) -> None:
        if self._start is not None:
            self._send()
        run = self._id or self._find(self._experiment(), _UID, self._config.job.uid)
        if run is None or ending is None:
            return
        self._tell(run, tags=_last_tags(ending))
        self._client.set_terminated(run, _status(ending))

    def _opened(self) -> str:
        """The id of the job's run, which is running."""
        if self._id is None:
            assert self._start is not None, "nothing is sent before"
            experiment = self._experiment()
            # The first run in a storage is the first of its job, though one with its uid was told from another storage.
            is_first = self._start.run == 1 or self._claim is not None
            known = None if is_first else self._find(experiment, _UID, self._config.job.uid)
            if known:
                self._client.update_run(known, status="RUNNING")
            self._id = known or self._made(experiment, self._start)
        return self._id

    def _experiment(self) -> str:
        name = self._tracker.experiment or self._config.job.namespace
        known = self._client.get_experiment_by_name(name)
        experiment: str = known.experiment_id if known else self._client.create_experiment(name)
        return experiment

    def _find(self, experiment: str, tag: str, value: str) -> str | None:
        """The run with that tag; the newest, if there are several."""
        wanted = f"tags.`{tag}` = '{value}'"
        found = self._client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time DESC"])
        return found[0].info.run_id if found else None

    def _made(self, experiment: str, start: Start) -> str:
        """A new run; or the one that was made the last time, if only the answer was lost."""
        from mlflow.entities import Param

        made = self._find(experiment, _CLAIM, self._claim) if self._claim else None
        self._claim = self._claim or secrets.token_hex(8)
        if made is None:
            tags = _tags(self._config) | {_CLAIM: self._claim}
            made = self._client.create_run(experiment, run_name=self._config.job.name, tags=tags).info.run_id
        self._params += (Param(name, value) for name, value in islice(_params(self._config, start), _MOST_PARAMS))
        return made


def connect(uri: str) -> Any:
    """MLflow's client for a server.

    Raises:
        UserError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError("spec.tracking.mlflow", "its client is not installed; pip install 'pretune[mlflow]'") from error
    return MlflowClient(uri)


def _metrics(event: Step | Evaluated) -> Iterator[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for name, value in curves(event).items():
        yield Metric(_key(name), value, now, event.step)


def _params(config: RunConfig, start: Start) -> Iterator[tuple[str, str]]:
    told_otherwise = {"version", "job", "attempt", "tracking"}
    document = {name: value for name, value in config.brief().items() if name not in told_otherwise}
    sizes = {"parameters": start.parameters, "trainable": start.trainable, "totalSteps": start.total_steps}
    for name, value in _leaves(document | sizes):
        yield _key(name), value[:_LONGEST_VALUE]


def _leaves(document: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Paths and values of what holds no objects, as in training.learningRate and data.train.0.uri."""
    for name, value in document.items():
        path = f"{above}{name}"
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)


def _tags(config: RunConfig) -> dict[str, str]:
    job = config.job
    parent = config.model.parent and config.model.parent.folder
    tags = {
        "pretune.job": f"{job.kind}/{job.name}",
        "pretune.namespace": job.namespace,
        "pretune.kind": job.kind,
        _UID: job.uid,
        "pretune.stage": config.stage,
    }
    return tags | ({"pretune.model.digest": parent.digest} if parent and parent.digest else {})


def _last_tags(ending: Ending) -> list[Any]:
    from mlflow.entities import RunTag

    tags = {"pretune.message": ending.message[:_LONGEST_VALUE]}
    if ending.artifact is not None:
        tags |= {"pretune.artifact.uri": ending.artifact.uri, "pretune.artifact.digest": ending.artifact.digest}
    return [RunTag(key, value) for key, value in tags.items()]


def _status(ending: Ending) -> str:
    """The word of MLflow's RunStatus."""
    if ending.succeeded:
        return "FINISHED"
    return "KILLED" if ending.exit_code == ExitCode.STOPPED else "FAILED"


def _key(name: str) -> str:
    return _FORBIDDEN.sub("_", name)[:250]


def _batches(unsent: deque[Any], most: int, until: float) -> Iterator[list[Any]]:
    """What waits, in parts of `most`, up to a moment. A part is left where it is if it could not be sent."""
    while unsent and time.monotonic() < until:
        part = list(islice(unsent, most))
        yield part
        for _ in part:
            unsent.popleft()
