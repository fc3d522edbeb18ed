"""The driver on a cluster: `python -m pretune_trainer.main RUN_CONFIG.json`, the entrypoint of a RayJob.

Starts the board as a process that outlives it, trains under Ray Train, and ends with one line of JSON that says how.
"""

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pretune_api.names import PROGRESS_PORT
from pretune_api.run_config import RunConfig
from pretune_trainer.config_file import read_config
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.group import Group, Orders, drive
from pretune_trainer.drive.logs import FORMAT, Log, in_storage, own_source
from pretune_trainer.drive.on_ray import RaySettings, on_ray
from pretune_trainer.drive.tokens import TOKEN_VARIABLE, desk_token
from pretune_trainer.drive.wire import Ending, ending_of, failure
from pretune_trainer.errors import PretuneError, UserError
from pretune_trainer.storage.logs import DRIVER

_ANY: Final = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
"""The operator's and the ranks' pods must reach the board, and their network may be of IPv4, of IPv6, or of both."""

MakeGroup = Callable[[Desk, RaySettings], Group]


def main(arguments: Sequence[str] | None = None, make_group: MakeGroup = on_ray) -> int:
    """Carry out a run config; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    parsed = _parser().parse_args(arguments)
    try:
        ending = _logged(parsed, make_group)
    except PretuneError as error:
        ending = ending_of(error)
    print(json.dumps({"ending": ending.to_json()}), flush=True)
    return ending.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pretune_trainer.main", description="Carry out a run config.")
    parser.add_argument("config", type=Path, metavar="RUN_CONFIG", help="the run config, a JSON document")
    parser.add_argument("--host", default=_ANY, help="address that the board listens on")
    parser.add_argument("--metrics-port", type=int, default=PROGRESS_PORT, help="port of /progress and /metrics")
    parser.add_argument("--desk-port", type=int, default=0, help="port of the ranks; 0 takes a free one")
    return parser


def _logged(arguments: argparse.Namespace, make_group: MakeGroup) -> Ending:
    config = read_config(arguments.config)
    with in_storage(own_source())(config, DRIVER) as log:
        try:
            ending = _train(config, arguments, make_group, log)
        except PretuneError as error:
            ending = ending_of(error)
        except BoardLostError as error:
            ending = failure(str(error))
        return log.ended(ending)


def _train(config: RunConfig, arguments: argparse.Namespace, make_group: MakeGroup, log: Log) -> Ending:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    desk = _start_board(arguments)
    group = make_group(desk, RaySettings(config.ranks, config.device, address="auto"))
    ending = drive(_only(config), group, desk, stop, log.last_lines)
    assert ending is not None, "there is one order"
    return ending


def _only(config: RunConfig) -> Orders:
    yield config


def _start_board(arguments: argparse.Namespace) -> Desk:
    token = desk_token()
    board = _launch_board(arguments, token)
    host = _address() if arguments.host == _ANY else arguments.host
    return Desk(f"http://{f'[{host}]' if ':' in host else host}:{board['deskPort']}", token)


def _launch_board(arguments: argparse.Namespace, token: str) -> dict[str, Any]:
    """Start the board as a process of its own: whoever ends the driver does not end the board with it."""
    command = [sys.executable, "-m", "pretune_trainer.drive.board_server", "--detach", "--host", arguments.host]
    command += ["--port", str(arguments.metrics_port), "--desk-port", str(arguments.desk_port)]
    with subprocess.Popen(  # noqa: S603  # every part of the command is ours
        command, env={**os.environ, TOKEN_VARIABLE: token}, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        line = starter.stdout.readline()
    if not line:
        raise UserError(f"--metrics-port {arguments.metrics_port}", "cannot listen on this port; it is in use")
    board: dict[str, Any] = json.loads(line)
    return board


def _address() -> str:
    """This pod's address, as the ranks' pods see it."""
    import ray.util

    address: str = ray.util.get_node_ip_address()
    return address


if __name__ == "__main__":
    status = main()
    # Ranks that wait in vain for one that has failed would hold up an orderly exit; Ray ends them with their driver.
    os._exit(status)
