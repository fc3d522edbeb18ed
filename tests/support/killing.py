"""A run in a process of its own, that is killed while it trains."""

import gc
import os
import signal
from multiprocessing.connection import Connection

from pretune_api.run_config import RunConfig
from pretune_trainer.report import Event, Step
from support.group import CONTEXT


class _Wire:
    """A reporter that sends every step to another process, up to one with which it kills its own."""

    def __init__(self, pipe: Connection, last: int) -> None:
        self._pipe = pipe
        self._last = last

    def tell(self, event: Event) -> None:
        if isinstance(event, Step):
            self._pipe.send(event)
            if event.step >= self._last:  # who hears of it may be so late that the run has ended
                os.kill(os.getpid(), signal.SIGKILL)

    def stop_requested(self) -> bool:
        return False


def run_until_killed(config: RunConfig, step: int) -> list[Step]:
    """Run in a new process that is killed with SIGKILL once it has reported `step`; the steps that it reported."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(theirs, config, step), daemon=True)
    process.start()
    theirs.close()
    steps: list[Step] = []
    while not steps or steps[-1].step < step:
        steps.append(ours.recv())
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return steps


def _run(pipe: Connection, config: RunConfig, last: int) -> None:
    import torch

    from pretune_trainer.parallel import Ranks
    from pretune_trainer.rank import run_rank

    gc.freeze()
    torch.set_num_threads(1)
    run_rank(config, Ranks(), _Wire(pipe, last))
