"""`pretune run`: a chain of jobs on one machine, through the same plan, run config and ranks as on a cluster."""

import argparse
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pretune_api.jobs import Job
from pretune_api.names import ExitCode
from pretune_cli.chain import order
from pretune_cli.display import Display, choose, summarise
from pretune_cli.documents import load
from pretune_cli.stages import Stages
from pretune_cli.streams import tell
from pretune_operator.plan import ranks_of
from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.group import Group, drive, in_process, run_rank
from pretune_trainer.drive.on_ray import RaySettings, on_ray
from pretune_trainer.drive.reporting import TENSORBOARD_VARIABLE
from pretune_trainer.drive.wire import Ending
from pretune_trainer.errors import UserError
from pretune_trainer.report import Event

if TYPE_CHECKING:
    from pretune_trainer.drive.worker import Execute

_MOST_PER_CPU = 2
"""Ranks on a CPU, each of which holds the libraries, 0.7 GB, and a copy or a share of the model."""
_INTERRUPTED = 130
"""Exit status after a second Ctrl-C, as shells count it: 128 and SIGINT."""


def run(arguments: argparse.Namespace, execute: "Execute" = run_rank) -> int:
    """Train the jobs of `arguments.files`, parents first; returns the exit status.

    Raises:
        PretuneError: nothing was started, because of what its sentence says.
    """
    _set_up_logging(arguments.verbose)
    if arguments.tensorboard is not None:
        os.environ[TENSORBOARD_VARIABLE] = str(arguments.tensorboard.absolute())  # for Ray's workers, too
    jobs = order([document.job for document in load(arguments.files, arguments.overrides)])
    gpus = _gpus()
    ranks = arguments.workers or _ranks(jobs, gpus)
    display = choose()
    stages = Stages(jobs, ranks, "cuda" if gpus >= ranks else "cpu", display.say)
    ending = _drive(stages, arguments, display, execute)
    summarise(stages.endings)
    return _conclude(ending, display)


def _drive(stages: Stages, arguments: argparse.Namespace, display: Display, execute: "Execute") -> Ending | None:
    def hear(event: Event) -> None:
        display.hear(event)
        stages.hear(event)

    board = Board(hear)
    display.progress = board.progress
    token = secrets.token_urlsafe()
    with _serve(board, token, arguments.metrics_port) as server, display.shown(), _stop_on_signals(display) as stop:
        desk = Desk(f"http://127.0.0.1:{server.desk_port}", token)
        return drive(stages.orders(), _group(desk, stages, arguments, execute), desk, stop)


def _set_up_logging(verbose: bool) -> None:
    """Loggers speak to the logs in storage; people see warnings, or all of it."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[shown])
    logging.captureWarnings(True)


def _group(desk: Desk, stages: Stages, arguments: argparse.Namespace, execute: "Execute") -> Group:
    use_ray = stages.ranks > 1 if arguments.ray is None else arguments.ray
    if not use_ray and stages.ranks > 1:
        raise UserError("--no-ray", f"it supports only one rank, not {stages.ranks}; add --workers 1, or remove it")
    if use_ray:
        return on_ray(desk, RaySettings(stages.ranks, stages.device, verbose=arguments.verbose, execute=execute))
    return in_process(desk, stages.device, execute)


def _serve(board: Board, token: str, port: int | None) -> BoardServer:
    try:
        return BoardServer(board, token, port=port or 0)
    except OSError as error:
        raise UserError(f"--metrics-port {port}", f"cannot listen on this port: {error.strerror}") from error


@contextmanager
def _stop_on_signals(display: Display) -> Iterator[threading.Event]:
    """An event that the first signal sets; the second SIGINT ends the process there and then."""
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            display.restore()
            os._exit(_INTERRUPTED)
        if not stop.is_set():
            stop.set()
            display.say("stopping once a checkpoint is committed; press Ctrl-C again to exit immediately")

    before = {number: signal.signal(number, handle) for number in _stopping()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopping() -> list[signal.Signals]:
    """The signals that ask to stop: Ctrl-C, an orderly end, and a terminal that is closed, unless nohup is at work."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def _gpus() -> int:
    if not Path("/dev/nvidiactl").exists():  # spares the seconds that torch takes to be imported
        return 0
    import torch

    return torch.cuda.device_count()


def _ranks(jobs: Sequence[Job], gpus: int) -> int:
    """The most that a job asks for, where they do not ask for a cluster.

    Raises:
        UserError: this machine's GPUs would idle beside ranks on its CPUs, or its memory would not do for the ranks.
    """
    ranks, cpus = max(ranks_of(job.spec.compute) for job in jobs), os.cpu_count() or 1
    wants_gpus = any(job.spec.compute.gpus_per_worker for job in jobs)
    has = f"{gpus} GPUs" if gpus and wants_gpus else f"{cpus} CPUs"
    if gpus < ranks and ((gpus and wants_gpus) or ranks > _MOST_PER_CPU * cpus):
        raise UserError("spec.compute", f"it requests {ranks} ranks, but this machine has {has}; set --workers")
    return ranks


def _conclude(ending: Ending | None, display: Display) -> int:
    if ending is None or ending.succeeded:
        return ExitCode.OK
    if ending.exit_code == ExitCode.STOPPED:
        display.say(f"{ending.message}; run the same command again to resume")
        return ending.exit_code
    if ending.traceback:
        tell(ending.traceback)
    tell(ending.message)
    return ending.exit_code
