"""A checkpoint holds what was there when it was made, however late a GPU copies it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pretune_api.run_config import RunConfig
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage import checkpoint
from pretune_trainer.storage.checkpoint import Checkpoints
from pretune_trainer.storage.shards import Piece
from pretune_trainer.storage.staging import Staging
from support.images import classified
from support.jobs import pretrain
from support.runs import named, run


class Late(Staging):
    """Copies as late as a stream of its own may: right before the tensors are allowed to change."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._pairs: list[tuple[Piece, Piece]] = []
        self._done = Event()

    def copy(self, pieces: Iterable[Piece]) -> list[Piece]:
        self._done.clear()
        self._pairs = [(piece, replace(piece, rows=torch.empty_like(piece.rows))) for piece in pieces]
        return [copied for _, copied in self._pairs]

    def protect(self) -> None:
        for piece, copied in self._pairs:
            copied.rows.copy_(piece.rows)
        self._pairs = []
        self._done.set()

    def arrived(self) -> None:
        assert self._done.wait(60)


def _second_step(folder: Path, job: str) -> dict[str, Tensor]:
    (file,) = folder.glob(f"storage/local/*-{job}-*/checkpoints/*/step-00000002/shard-00000.safetensors")
    tensors: dict[str, Tensor] = load_file(file)
    return tensors


SAVING: dict[str, Any] = {"training__max_steps": 3, "checkpoint__every_steps": 2}
JOBS: dict[str, Callable[[Path], RunConfig]] = {
    "weight": lambda folder: pretrain(folder, **SAVING),
    "running_mean": lambda folder: classified(folder, "resnet", count=40, **SAVING),
}


@pytest.mark.parametrize("name", JOBS)
def test_weights_and_statistics_of_batches_are_those_of_the_step_that_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = JOBS[name](tmp_path)
    run(Ranks(), named(config, "at-once"))
    wait = Checkpoints.wait

    def wait_at_rest(checkpoints: Checkpoints) -> None:
        checkpoints.wait_staged()  # whoever waits for a checkpoint changes nothing meanwhile
        wait(checkpoints)

    monkeypatch.setattr(Checkpoints, "wait", wait_at_rest)
    monkeypatch.setattr(checkpoint, "Staging", Late)
    run(Ranks(), named(config, "late"))
    late = _second_step(tmp_path, "late")
    assert any(each.endswith(name) for each in late)
    for each, tensor in _second_step(tmp_path, "at-once").items():
        assert torch.equal(tensor, late[each]), each
