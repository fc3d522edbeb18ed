"""How it ends where Ray Train cannot start all ranks, or loses them."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pretune_api.names import Cause
from pretune_api.run_config import RunConfig
from pretune_trainer.drive import on_ray as on_ray_module
from pretune_trainer.drive.board import Board
from pretune_trainer.drive.board_server import BoardServer
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.group import Orders, drive
from pretune_trainer.drive.on_ray import RaySettings, on_ray
from pretune_trainer.errors import RanksMissingError
from pretune_trainer.report import Committed
from support.stand_in import obey, told


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
    group.join(240)
    assert isinstance(group.error, RanksMissingError)
    assert str(group.error) == "not all 2 ranks could start within 1.5 s"
    assert group.error.cause is Cause.NODE_LOST


@pytest.mark.parametrize(("ranks", "seconds"), [(1, "0.5"), (250, "0.5"), (1000, "2")])
def test_a_head_of_one_cpu_keeps_up_with_asking_all_ranks(
    monkeypatch: pytest.MonkeyPatch, ranks: int, seconds: str
) -> None:
    monkeypatch.setattr(os, "environ", {})
    on_ray(Desk("http://127.0.0.1:1", "nobody asks it"), RaySettings(ranks=ranks, device="cuda"))
    assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == seconds


def _meeting_with_a_loss(marker: Path) -> type:
    """How Ray Train lets ranks meet, but that the first time one of them dies."""
    from ray.train.torch.config import TorchConfig, _TorchBackend

    class Meeting(_TorchBackend):  # type: ignore[misc]  # Ray is not annotated
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            if not marker.exists():
                marker.touch()
                worker_group.execute_single(1, lambda: os._exit(1))
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> type:
            return Meeting

    return Config


@pytest.mark.usefixtures("no_ray_afterwards")
def test_a_rank_that_dies_while_its_group_starts_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.train.torch.TorchConfig", _meeting_with_a_loss(tmp_path / "lost"))
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "60")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where ranks find the stand-in
    config = told({"uri": (tmp_path / "storage").as_uri()}, name="general")
    with BoardServer(Board(), "token") as server:
        desk = Desk(f"http://127.0.0.1:{server.desk_port}", "token")
        group = on_ray(desk, RaySettings(ranks=2, device="cpu", execute=obey))
        ending = drive(_orders(config), group, desk, threading.Event())
    assert ending is not None
    assert ending.succeeded, ending.message
    assert (tmp_path / "lost").exists()


def _orders(config: RunConfig) -> Orders:
    yield config


def _loss(cause: Exception) -> Exception:
    """How Ray Train says that it has lost a rank, which answers no more."""
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    causes = {1: WorkerHealthCheckFailedError("a health check failed", cause)}
    lost: Exception = WorkerGroupError("rank 1 is lost", causes)
    return lost


def test_a_rank_that_ray_has_ended_for_its_memory_has_run_out_of_it() -> None:
    from ray.exceptions import OutOfMemoryError as KilledForMemory

    known = on_ray_module._known(_loss(KilledForMemory("Task was killed due to the node running low on memory.")))
    assert known is not None
    assert known.cause is Cause.OUT_OF_MEMORY


def test_only_losses_without_a_commit_in_between_end_an_attempt() -> None:
    from ray.exceptions import ActorDiedError
    from ray.train import FailureConfig

    from pretune_trainer.drive.lean_trainer import LossesSinceCommit

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


def _lost_at_start() -> list[Exception]:
    """What Ray Train hears of a rank that is lost while its group starts: of Ray, or of a rank that waits for it."""
    from ray.exceptions import ActorDiedError, RayTaskError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
    from torch.distributed import DistNetworkError

    closed = DistNetworkError("Connection was closed by the remote peer")
    by_a_rank = RayTaskError("on_start", "traceback", closed).as_instanceof_cause()
    return [WorkerGroupStartupFailedError("at least one failed"), ActorDiedError(), by_a_rank]


def test_a_rank_that_is_lost_while_its_group_starts_is_a_loss_like_any_other() -> None:
    from ray.train import ControllerError, FailureConfig

    from pretune_trainer.drive.lean_trainer import LossesSinceCommit

    def decided(*said: Exception) -> list[str]:
        config = FailureConfig(max_failures=3, controller_failure_limit=0)
        losses = LossesSinceCommit(config, Desk("http://127.0.0.1:1", "nobody answers"))
        return [losses.make_decision(ControllerError(each)).value for each in said]

    lost = _lost_at_start()
    assert decided(*lost, lost[0]) == ["RETRY", "RETRY", "RETRY", "RAISE"]
    assert decided(ValueError("a mistake of ours")) == ["RAISE"]
