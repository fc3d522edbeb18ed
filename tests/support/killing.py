"""A run in a process of its own, that can be killed in the middle of a step."""

import gc
import os
import signal
from multiprocessing.connection import Connection

from pretune_api.run_config import RunConfig
from pretune_trainer.report import Event, Step
from support.group import CONTEXT


class _Wire:
    """A reporter that sends every step to another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, event: Event) -> None:
        if isinstance(event, Step):
            self._pipe.send(event)

    def stop_requested(self) -> bool:
        return False


def run_until_killed(config: RunConfig, step: int) -> list[Step]:
    """Run in a new process, and kill it with SIGKILL once it has reported `step`; the steps that it reported."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(theirs, config), daemon=True)
    process.start()
    theirs.close()
    steps: list[Step] = []
    while not steps or steps[-1].step < step:
        steps.append(ours.recv())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return steps


def _run(pipe: Connection, config: RunConfig) -> None:
    import torch

    from pretune_trainer.parallel import Ranks
    from pretune_trainer.rank import run_rank

    gc.freeze()
    torch.set_num_threads(1)
    run_rank(config, Ranks(), _Wire(pipe))
