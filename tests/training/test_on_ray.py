"""How it ends where Ray Train cannot start all ranks, or loses them."""

from collections.abc import Iterator

import pytest

from pretune_api.names import Cause
from pretune_trainer.drive import on_ray as on_ray_module
from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.on_ray import RaySettings, on_ray
from pretune_trainer.errors import RanksMissingError
from pretune_trainer.report import Committed


@pytest.fixture
def no_ray_afterwards() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.mark.usefixtures("no_ray_afterwards")
def test_ranks_that_cannot_start_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "0.5")
    group = on_ray(Desk("http://127.0.0.1:1", "nobody asks it"), RaySettings(ranks=2, device="cuda"))
    group.start()
    group.join(120)
    assert isinstance(group.error, RanksMissingError)
    assert str(group.error) == "not all 2 ranks could start within 1.5 s"
    assert group.error.cause is Cause.NODE_LOST


def _loss(cause: Exception) -> Exception:
    """How Ray Train says that it has lost a rank, which answers no more."""
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    return WorkerGroupError("rank 1 is lost", {1: WorkerHealthCheckFailedError("a health check failed", cause)})


def test_a_rank_that_ray_has_ended_for_its_memory_has_run_out_of_it() -> None:
    from ray.exceptions import OutOfMemoryError as KilledForMemory

    known = on_ray_module._known(_loss(KilledForMemory("Task was killed due to the node running low on memory.")))
    assert known is not None
    assert known.cause is Cause.OUT_OF_MEMORY


def test_only_losses_without_a_commit_in_between_end_an_attempt() -> None:
    from ray.exceptions import ActorDiedError
    from ray.train import FailureConfig

    from pretune_trainer.drive.failure_policy import LossesSinceCommit

    board = Board()
    number = board.put({"namespace": "local", "kind": "PretrainJob", "name": "general"}, "causalLM", {})
    with BoardServer(board, "token") as server:
        desk = Desk(f"http://127.0.0.1:{server.desk_port}", "token")
        desk.next_order()
        losses = LossesSinceCommit(FailureConfig(max_failures=2), desk)
        decided = [losses.make_decision(training_failed_error=_loss(ActorDiedError())).value for _ in range(2)]
        desk.tell(number, [Committed(100, 0.1, 1.0, 99)])
        decided += [losses.make_decision(training_failed_error=_loss(ActorDiedError())).value for _ in range(3)]
    assert decided == ["RETRY", "RETRY", "RETRY", "RETRY", "RAISE"]
