"""The loop of a group of ranks: fetch an order, obey it, say how it ended, until there are no more orders."""

import logging
import secrets
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pretune_api.run_config import RunConfig
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.log_sink import LogSink
from pretune_trainer.drive.logs import OpenLog
from pretune_trainer.drive.reporting import Background, BoardSink, Sink
from pretune_trainer.drive.wire import Artifact, Ending, Order, ending_of, failure
from pretune_trainer.errors import PretuneError
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Reporter, Silent
from pretune_trainer.result import RankResult
from pretune_trainer.storage.logs import of_rank

Execute = Callable[[RunConfig, Ranks, Reporter], RankResult]
"""Trains on one rank; raises the errors of errors.py. `rank.run_rank`, or a stand-in for it."""

OpenSinks = Callable[[RunConfig], list[Sink]]
"""Opens what rank 0 tells beside the board."""

_log = logging.getLogger(__name__)


def work(desk: Desk, ranks: Ranks, execute: Execute, sinks: OpenSinks, logs: OpenLog) -> None:
    """Obey orders until there are none left, or one has failed. Collective.

    Raises:
        Exception: other ranks were lost. Whoever started this group starts it again, and it is given the same order.
    """
    desk = replace(desk, group=ranks.share(secrets.token_hex(8)))
    while (order := ranks.share(desk.next_order() if ranks.is_first else None)) is not None:
        ending = _caught(partial(_obey, order, desk, ranks, execute, sinks, logs))
        # A failure may be one rank's alone, while the others wait for it: then only that rank can say so.
        if ranks.is_first or not ending.succeeded:
            desk.end(order.number, ending)
        if not ending.succeeded:
            return


def _obey(order: Order, desk: Desk, ranks: Ranks, execute: Execute, sinks: OpenSinks, logs: OpenLog) -> Ending:
    config = RunConfig.model_validate(order.config)

    def train() -> Ending:
        if not ranks.is_first:
            return success(execute(config, ranks, Silent()))
        with Background(BoardSink(desk, order.number), LogSink(log.say), *sinks(config)) as reporter:
            return reporter.ended(_caught(lambda: success(execute(config, ranks, reporter))))

    with logs(config, of_rank(ranks.rank)) as log:
        return log.ended(_caught(train))


def _caught(do: Callable[[], Ending]) -> Ending:
    """The ending that `do` returns, or that of the error that it raises, unless other ranks were lost."""
    try:
        return do()
    except PretuneError as error:
        if error.__cause__ is not None:
            _log.info("what follows comes of this:", exc_info=error.__cause__)
        return ending_of(error)
    except Exception as error:
        if is_lost_rank(error):
            raise
        return failure(f"{type(error).__name__}: {error}", traceback.format_exc())


def success(result: RankResult) -> Ending:
    """The ending of an order whose ranks have finished."""
    artifact = Artifact(result.artifact_uri, result.artifact_digest)
    sentence = "finished by an earlier run" if result.skipped_because_done else "finished"
    return Ending(
        0, sentence, artifact=artifact, metrics=result.metrics, step=result.step, was_done=result.skipped_because_done
    )


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective failed because another process is gone: gloo and NCCL say so only in words."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
