"""Starts one group of ranks, hands it orders and hears how they end: for `pretune run` and on a cluster alike."""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pretune_api.run_config import RunConfig
from pretune_trainer.drive.desk import BoardLostError, Desk
from pretune_trainer.drive.logs import Loggers, in_storage
from pretune_trainer.drive.reporting import open_sinks
from pretune_trainer.drive.wire import Ending, ending_of, failure
from pretune_trainer.errors import PretuneError, lines_of
from pretune_trainer.report import Reporter
from pretune_trainer.result import RankResult

if TYPE_CHECKING:
    from pretune_trainer.drive.worker import Execute
    from pretune_trainer.parallel import Ranks

Orders = Generator[RunConfig, Ending, None]
"""Yields run configs, one after the other, and is sent how each has ended."""

LastLines = Callable[[], str | None]
"""The last lines of the driver's log."""

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_GRACE_SECONDS: Final = 15.0
"""How long a group may take to leave after its last order."""
_GRACE_SECONDS_OF_A_FAILURE: Final = 2.0
"""The same where one rank may have failed alone, and the others wait for it in vain."""


class Group(threading.Thread):
    """A group of ranks at work, in the background."""

    def __init__(self, target: Callable[[], None]) -> None:
        """`target` returns when the ranks have left, or raises why they were lost."""
        super().__init__(daemon=True, name="ranks")
        self._target_of_ranks = target
        self.error: Exception | None = None

    def run(self) -> None:
        """Wait for the ranks."""
        try:
            self._target_of_ranks()
        except Exception as error:  # told to whoever waits for an ending
            self.error = error


def drive(
    orders: Orders, group: Group, desk: Desk, stop: threading.Event, last_lines: LastLines = lambda: None
) -> Ending | None:
    """Hand the group one order after the other; `stop` raises the board's flag.

    Ranks that were lost say nothing: then `last_lines` are told with their ending.

    Returns:
        The last ending: the first that is no success, or the last success; None where there were no orders.
    """
    ending: Ending | None = None
    config = next(orders, None)
    while config is not None and (ending is None or ending.succeeded):
        if group.ident is None:  # where all is done already, nothing is started
            group.start()
        ending = _wait(desk, desk.put(config), group, stop, last_lines)
        config = _answer(orders, ending)
    desk.close()
    if ending is not None:
        group.join(_GRACE_SECONDS if ending.cause is None else _GRACE_SECONDS_OF_A_FAILURE)
    return ending


def _answer(orders: Orders, ending: Ending) -> RunConfig | None:
    try:
        return orders.send(ending)
    except StopIteration:
        return None


def _wait(desk: Desk, number: int, group: Group, stop: threading.Event, last_lines: LastLines) -> Ending:
    told = False
    while True:
        if stop.is_set() and not told:
            desk.stop()
            told = True
        was_alive = group.is_alive()
        ending = desk.ending(number, _POLL_SECONDS)
        if ending is not None:
            return ending
        if not was_alive:
            ending = replace(_lost(group), log=last_lines())
            with suppress(BoardLostError):  # it is told to whoever started the driver, too
                desk.end(number, ending)
            return ending


def _lost(group: Group) -> Ending:
    if group.error is None:
        return failure("the ranks ended without reporting why")
    _log.info("the ranks were lost:", exc_info=group.error)
    if isinstance(group.error, PretuneError):
        return ending_of(group.error)
    return failure(f"the ranks were lost: {lines_of(group.error)[-1]}")


def run_rank(config: RunConfig, ranks: "Ranks", reporter: Reporter) -> RankResult:
    """`rank.run_rank`, imported where it runs: it brings torch and transformers, which a driver does not need."""
    from pretune_trainer import rank

    return rank.run_rank(config, ranks, reporter)


def in_process(desk: Desk, device: str, execute: "Execute") -> Group:
    """A group of one rank in a thread of this process: the cheapest, where one device is enough."""

    def ranks() -> None:
        import torch

        from pretune_trainer.drive.worker import work
        from pretune_trainer.parallel import Ranks

        work(desk, Ranks(device=torch.device(device)), execute, open_sinks, in_storage(Loggers()))

    return Group(ranks)
