"""The loop of a group of ranks: what it obeys, and what it says of each kind of ending."""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import pytest
import torch.distributed as dist

from pretune_api.names import Cause, ExitCode
from pretune_api.run_config import RunConfig
from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.group import Group, drive
from pretune_trainer.drive.logs import Log, Loggers
from pretune_trainer.drive.reporting import Sink
from pretune_trainer.drive.wire import Artifact, Ending
from pretune_trainer.drive.worker import work
from pretune_trainer.errors import (
    BadRowError,
    NumericalError,
    OutOfMemoryError,
    PretuneError,
    StopRequestedError,
    StorageDeniedError,
    StorageError,
)
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Event, Reporter, Start
from pretune_trainer.result import RankResult
from pretune_trainer.storage.logs import LogWriter
from support.group import in_ranks
from support.stand_in import told

TOKEN = "a-secret"
DIGEST = "sha256:" + "0" * 64
CONFIG = told({"uri": "file:///storage"}, name="general", namespace="local", uid="12345678")
Execute = Callable[[RunConfig, Ranks, Reporter], RankResult]


def finish(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    return RankResult("file:///storage/artifact", DIGEST, {"loss": 2.0}, 10)


class Nowhere:
    """A storage for logs that keeps none."""

    def put(self, path: str, data: bytes) -> None:
        pass

    def delete(self, path: str) -> None:
        pass


def unkept(config: RunConfig, process: str) -> Log:
    return Log(LogWriter(Nowhere()), Loggers())


def without_log(ending: Ending | None) -> Ending | None:
    return ending and replace(ending, log=None)


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def board(heard: list[Event]) -> Board:
    return Board(heard.append)


@pytest.fixture
def desk(board: Board) -> Iterator[Desk]:
    with BoardServer(board, TOKEN) as server:
        yield Desk(f"http://127.0.0.1:{server.desk_port}", TOKEN)


def obey(desk: Desk, execute: Execute, *sinks: Sink) -> Ending | None:
    """How one order ends when `execute` is what a rank does with it."""
    number = desk.put(CONFIG)
    desk.close()
    work(desk, Ranks(), execute, lambda config: [*sinks], unkept)
    return desk.ending(number, 0.0)


class LastWord:
    """A sink that remembers how a run has ended."""

    def __init__(self) -> None:
        self.heard: list[Ending | None] = []

    def write(self, events: list[Event]) -> None:
        pass

    def close(self, ending: Ending | None) -> None:
        self.heard.append(ending)


def test_whoever_is_told_of_a_run_is_told_how_it_ended(desk: Desk) -> None:
    sink = LastWord()
    assert sink.heard == [obey(desk, finish, sink)]


def test_a_run_config_arrives_as_it_was_sent(desk: Desk) -> None:
    seen: list[RunConfig] = []

    def look(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        seen.append(config)
        return finish(config, ranks, reporter)

    obey(desk, look)
    assert seen == [CONFIG]


def test_a_finished_order_ends_with_its_artifact_metrics_and_step(desk: Desk) -> None:
    ending = obey(desk, finish)
    assert ending == Ending(
        0, "finished", artifact=Artifact("file:///storage/artifact", DIGEST), metrics={"loss": 2.0}, step=10
    )


def test_orders_are_obeyed_one_after_the_other_by_one_group(desk: Desk) -> None:
    numbers = [desk.put(CONFIG.model_copy(update={"ranks": ranks})) for ranks in (1, 2, 3)]
    desk.close()
    seen: list[int] = []

    def look(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        seen.append(config.ranks)
        return finish(config, ranks, reporter)

    work(desk, Ranks(), look, lambda config: [], unkept)
    assert seen == [1, 2, 3]
    assert all(desk.ending(number, 0.0) for number in numbers)


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (BadRowError("a.parquet row 7", "is empty"), ExitCode.USER_ERROR, Cause.USER_ERROR),
        (StorageDeniedError("s3://models: access denied"), ExitCode.FAILED, Cause.STORAGE_DENIED),
        (StorageError("s3://models: no answer"), ExitCode.FAILED, Cause.STORAGE_UNAVAILABLE),
        (NumericalError("the loss is not finite"), ExitCode.FAILED, Cause.NUMERICAL_ERROR),
        (OutOfMemoryError("one row needs 90 GiB"), ExitCode.FAILED, Cause.OUT_OF_MEMORY),
        (StopRequestedError("stopped at step 3"), ExitCode.STOPPED, None),
    ],
)
def test_each_error_ends_with_its_sentence_code_and_cause(
    desk: Desk, error: PretuneError, code: ExitCode, cause: Cause | None
) -> None:
    def fail(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        raise error

    assert without_log(obey(desk, fail)) == Ending(code, str(error), cause)


def test_a_mistake_of_ours_ends_with_its_stack(desk: Desk) -> None:
    def fail(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        raise KeyError("weight")

    ending = obey(desk, fail)
    assert ending is not None
    assert (ending.exit_code, ending.cause, ending.message) == (1, "Unknown", "KeyError: 'weight'")
    assert ending.traceback is not None
    assert ending.traceback.count("Traceback") == 1


def test_a_failure_comes_with_the_last_lines_of_what_its_rank_said(desk: Desk) -> None:
    def fail(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        logging.getLogger("nccl").warning("no route to node-7")
        raise KeyError("weight")

    ending = obey(desk, fail)
    assert ending is not None
    assert ending.log is not None
    lines = ending.log.splitlines()
    assert lines[0].endswith("nccl no route to node-7")
    assert lines[-2:] == ["KeyError: 'weight'", lines[-1]]
    assert lines[-1].endswith("Failed: KeyError: 'weight'")


@pytest.mark.parametrize("error", [None, StopRequestedError("stopped at step 3")])
def test_what_is_no_failure_comes_without_a_log(desk: Desk, error: PretuneError | None) -> None:
    def end(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        if error is not None:
            raise error
        return finish(config, ranks, reporter)

    ending = obey(desk, end)
    assert ending is not None
    assert ending.log is None


def test_what_has_brought_an_error_about_is_in_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def fail(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        raise StorageError("s3://models: no answer") from ConnectionError("reset by peer")

    ending = obey(desk, fail)
    assert ending is not None
    assert ending.log is not None
    assert "ConnectionError: reset by peer" in ending.log
    assert ending.log.splitlines()[-1].endswith("Failed: s3://models: no answer")


def test_ranks_that_are_lost_are_no_ending_and_their_successors_get_the_order(desk: Desk) -> None:
    number = desk.put(CONFIG)
    desk.close()

    def lose(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711")

    with pytest.raises(RuntimeError, match="closed by peer"):
        work(desk, Ranks(), lose, lambda config: [], unkept)
    assert desk.ending(number, 0.0) is None
    work(desk, Ranks(), finish, lambda config: [], unkept)
    ending = desk.ending(number, 0.0)
    assert ending is not None
    assert ending.succeeded


def test_ranks_that_return_from_a_machine_that_was_cut_off_do_not_speak_for_their_successors(
    desk: Desk, heard: list[Event]
) -> None:
    number = desk.put(CONFIG)
    desk.close()
    endings: list[Ending | None] = []

    def see_the_others_fail(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        reporter.tell(Start("causalLM", 2, 0, 10, 1, 1, 1, 1, 10))
        cut_off.tell(number, [Start("causalLM", 1, 0, 10, 1, 1, 1, 1, 10)])
        cut_off.end(number, Ending(1, "run 2 has started after run 1, which stops here", "Unknown"))
        endings.append(desk.ending(number, 0.0))
        return finish(config, ranks, reporter)

    cut_off = replace(desk, group="cut off")
    assert cut_off.next_order() is not None
    work(desk, Ranks(), see_the_others_fail, lambda config: [], unkept)
    assert endings == [None]
    assert [event.run for event in heard if isinstance(event, Start)] == [2]
    assert cut_off.tell(number, []), "it shall stop"
    assert cut_off.next_order() is None
    ending = desk.ending(number, 0.0)
    assert ending is not None
    assert ending.succeeded


def test_a_stop_ends_the_work_and_what_waits_is_not_begun(desk: Desk, board: Board) -> None:
    first, second = desk.put(CONFIG), desk.put(CONFIG)

    def run(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        reporter.tell(Start("causalLM", 1, 0, 10, 1, 1, 1, 1, 10))
        board.stop()
        while not reporter.stop_requested():
            threading.Event().wait(0.01)
        raise StopRequestedError("stopped at step 3")

    work(desk, Ranks(), run, lambda config: [], unkept)
    endings = [desk.ending(number, 0.0) for number in (first, second)]
    assert [ending and ending.message for ending in endings] == [
        "stopped at step 3",
        "stopped before the ranks had started",
    ]


def test_the_driver_hands_on_what_it_is_sent_and_stops_at_the_first_failure(desk: Desk) -> None:
    endings: list[Ending] = []

    def orders() -> Generator[RunConfig, Ending, None]:
        for name in ("one", "two", "three"):
            job = CONFIG.job.model_copy(update={"name": name})
            endings.append((yield CONFIG.model_copy(update={"job": job})))

    def run(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
        if config.job.name == "two":
            raise NumericalError("the loss is not finite")
        return finish(config, ranks, reporter)

    group = Group(lambda: work(desk, Ranks(), run, lambda config: [], unkept))
    ending = drive(orders(), group, desk, threading.Event())
    assert [ending.succeeded for ending in endings] == [True, False]
    assert ending == endings[-1]
    assert not group.is_alive()


@pytest.mark.parametrize(
    ("error", "said"), [(RuntimeError("worker 1 died\nSIGKILL"), "SIGKILL"), (TimeoutError(), "TimeoutError")]
)
def test_a_group_that_is_lost_for_good_is_an_ending_too(desk: Desk, error: Exception, said: str) -> None:
    def lost() -> None:
        raise error

    def orders() -> Generator[RunConfig, Ending, None]:
        yield CONFIG

    ending = drive(orders(), Group(lost), desk, threading.Event(), lambda: "what the driver saw")
    assert ending == Ending(1, f"the ranks were lost: {said}", "Unknown", log="what the driver saw")
    assert desk.ending(1, 0.0) == ending
    assert desk.at_rest(0.0)


def _work(ranks: Ranks, desk: Desk) -> str:
    """What a rank says at the end: nothing, or that others are gone."""
    try:
        work(desk, ranks, _fail_on_rank_1, lambda config: [], unkept)
    except RuntimeError as error:
        return str(error)
    dist.destroy_process_group()  # as its process ends, which is what the others hear
    return ""


def _fail_on_rank_1(config: RunConfig, ranks: Ranks, reporter: Reporter) -> RankResult:
    if config.job.name == "bad" and ranks.rank == 1:
        raise BadRowError("a.parquet row 7", "is empty")
    ranks.gather(None)  # waits for every rank
    return finish(config, ranks, reporter)


def test_all_ranks_obey_and_a_failure_of_one_rank_alone_is_heard(desk: Desk) -> None:
    good = desk.put(CONFIG)
    bad = desk.put(CONFIG.model_copy(update={"job": CONFIG.job.model_copy(update={"name": "bad"})}))
    desk.close()
    waiting, failing = in_ranks(2, _work, desk)
    assert "gloo" in waiting
    assert failing == ""
    ending = desk.ending(good, 0.0)
    assert ending is not None
    assert ending.succeeded
    assert without_log(desk.ending(bad, 0.0)) == Ending(2, "a.parquet row 7: is empty", "UserError")
