"""A run on one rank that saves checkpoints whose values tell their step."""

import json

import torch
from torch import Tensor

from pretune_api.checkpoint import CheckpointState, Cursor
from pretune_trainer.parallel import Ranks
from pretune_trainer.storage.checkpoint import Checkpoints
from pretune_trainer.storage.commit import commits
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store
from support.listening import Listener

Tensors = dict[str, Tensor]


def state(step: int, best_step: int | None = None) -> CheckpointState:
    return CheckpointState(
        step=step,
        cursor=Cursor(epoch=1, window=2, row=step),
        tokens_total=step * 64,
        micro_batch_rows=4,
        best_step=best_step,
        data_digest="data",
        model_digest="model",
        ranks=1,
    )


def tensors(step: int) -> Tensors:
    """Tensors of every kind that training has, with values that tell the step."""
    return {
        "model.weight": torch.arange(15, dtype=torch.float32).view(5, 3) + step,
        "model.norm": torch.full((3,), step, dtype=torch.bfloat16),
        "optimizer.step": torch.tensor(float(step)),
        "model.mask": torch.tensor([True, False, step % 2 == 0]),
        "model.ids": torch.tensor([step, 2**40]),
        "model.empty": torch.empty(0, 7),
    }


def zeros() -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors(0).items()}


class Trainer:
    """One run on one rank."""

    def __init__(self, store: Store, keep: int = 3) -> None:
        self.listener = Listener()
        self.store = store
        self.run = claim_run(store, lambda _: None)
        self.checkpoints = Checkpoints(store, self.run, Ranks(), keep, self.listener)

    def save(self, step: int, best_step: int | None = None) -> None:
        self.checkpoints.save(tensors(step), state(step, best_step))
        self.checkpoints.wait()

    def resumes_from(self) -> int | None:
        """The step of what is found, after making sure that all of it is that step's."""
        read = zeros()
        found = self.checkpoints.latest(read)
        step = 0 if found is None else found.state.step
        expected = zeros() if found is None else tensors(step)
        assert all(torch.equal(read[name], expected[name]) for name in expected)
        if found is None:
            return None
        assert found.state == state(step, best_step(self.store, found.origin.path))
        return step


def best_step(store: Store, path: str) -> int | None:
    """The best step that a commit names."""
    named: int | None = json.loads(store.get(f"{path}/state.json"))["bestStep"]
    return named


def steps(store: Store) -> list[int]:
    return [commit.step for commit in commits(store, "checkpoints")]
