"""The operator's process: `python -m pretune_operator --config /etc/pretune/settings.yaml`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Final

from pretune_api.names import ExitCode
from pretune_operator.settings import Settings, SettingsError

_RECURSION: Final = 25_000
"""The API server takes JSON of 10,000 levels from whoever may write a job, and kopf, which has to read it, would end at
a thousand. Python reads 20,000 in half of a thread's 8 MiB of stack."""


def main(arguments: list[str] | None = None) -> int:
    """Run until asked to end; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.read(options.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return ExitCode.USER_ERROR
    return _run(settings, options.port, options.namespace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pretune_operator", description="Turns PretrainJobs and FinetuneJobs into RayJobs."
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file with the operator's settings")
    parser.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics")
    parser.add_argument(
        "--namespace", action="append", default=[], help="namespace to watch; may be repeated (default: all)"
    )
    return parser


def _run(settings: Settings, port: int, namespaces: list[str]) -> int:
    # A mistake in the settings is told without the seconds that these take.
    from kubernetes.config import ConfigException

    from pretune_operator import logs
    from pretune_operator.cluster.client import Client
    from pretune_operator.controller import WORKERS, Controller
    from pretune_operator.handlers import EventLoop
    from pretune_operator.health import Health, HealthServer
    from pretune_operator.resync import Resync
    from pretune_operator.watches import Watches

    sys.setrecursionlimit(_RECURSION)
    logs.to_stderr()
    try:
        client = Client(connections=WORKERS + 2)
    except ConfigException as error:
        print(f"the API server is not configured: {error}; run in a pod, or set KUBECONFIG", file=sys.stderr)
        return ExitCode.USER_ERROR
    controller, watches = Controller(client, settings), Watches()
    resync = Resync(client, controller, watches, namespaces)
    loop = EventLoop(controller, watches, namespaces)
    server = HealthServer(Health(controller, loop, watches, resync), port)
    resync.start()
    try:
        loop.run()
    finally:
        resync.stop()
        controller.stop()
        server.close()
        logging.shutdown()
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
