"""How it ends where Ray Train cannot start all ranks."""

from collections.abc import Iterator

import pytest

from pretune_api.names import Cause
from pretune_trainer.drive.desk import Desk
from pretune_trainer.drive.on_ray import RaySettings, on_ray
from pretune_trainer.errors import RanksMissingError


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
