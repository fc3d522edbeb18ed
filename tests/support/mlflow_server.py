"""A real MLflow server on a free port, which keeps what it is told in files: its databases take longer to begin."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pretune_trainer.drive.tracking import connect

_HOSTS = "127.*,10.*,172.*,192.*,*.svc:*"
"""Names that the server may be asked by: of this machine, of test clusters, of services in them."""
_PATIENCE_SECONDS = "120"
"""What clients of this process allow a request: the first search makes the server import its database layer."""

App = Callable[[Any, Any], Any]
"""A WSGI application."""


@contextmanager
def mlflow_server(folder: Path, address: str = "127.0.0.1", token: str | None = None) -> Iterator[str]:
    """A server on an address of this machine; its URL. With `token` it refuses who has none; clients here have it."""
    with pytest.MonkeyPatch.context() as patch:
        # What MLflow's own command tells the server that it starts (mlflow/server/__init__.py).
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", str(folder / "runs"))
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(folder / "artifacts"))
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", _HOSTS)
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", _PATIENCE_SECONDS)
        if token:
            patch.setenv("MLFLOW_TRACKING_TOKEN", token)
        from mlflow.server import app
        from werkzeug.serving import make_server

        server = make_server(address, 0, _guarded(app, token) if token else app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://{address}:{server.server_port}"
            connect(url).search_runs(["0"])
            yield url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def runs(server: str, name: str, experiment: str) -> list[Any]:
    """What a server knows of the runs of that name."""
    client = connect(server)
    known = client.get_experiment_by_name(experiment)
    return client.search_runs([known.experiment_id], f"attributes.run_name = '{name}'") if known else []


def curve(server: str, run: Any, name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric of a run, as they were told."""
    return [(point.step, point.value) for point in connect(server).get_metric_history(run.info.run_id, name)]


def _guarded(app: App, token: str) -> App:
    """What a proxy with single sign-on in front of a server does: it asks for a token."""

    def ask(environ: dict[str, str], start_response: Callable[..., Any]) -> Any:
        if environ.get("HTTP_AUTHORIZATION") == f"Bearer {token}":
            return app(environ, start_response)
        start_response("401 Unauthorized", [("Content-Type", "text/plain")])
        return [b"a token is wanted"]

    return ask
