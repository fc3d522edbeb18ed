"""The same numbers: as a plain loop, at any micro-batch, packed or not, killed or not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from pretune_api.run_config import RunConfig
from pretune_trainer.data.example import Cursor
from pretune_trainer.inputs import gather_inputs
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.optim import schedule
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent, Step
from pretune_trainer.training_plan import plan_training
from support.jobs import Recorder, classification, pretrain
from support.runs import weights_of


def _trained(config: RunConfig) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The loss of every step, and the artifact's weights."""
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    return [event.loss for event in recorder.of(Step)], weights_of(result)


def _plain_loop(config: RunConfig, steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """What anyone would write with transformers and PyTorch alone, on the same rows."""
    inputs = gather_inputs(config, Ranks(), Silent())
    plan = plan_training(inputs, Ranks())
    model = inputs.make_model().model
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, fused=True)
    rate = schedule(config.training, steps)
    losses: list[float] = []
    rows = plan.stream.steps(Cursor())
    for step in range(steps):
        batch = inputs.task.batch(next(rows).packs)
        labels = F.pad(batch.targets["lm"], (1, 0), value=IGNORED)[:, :-1]
        loss = model(**batch.inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model.state_dict()


def test_training_is_equal_to_the_bit_to_a_plain_loop_over_50_steps(tmp_path: Path) -> None:
    config = pretrain(tmp_path, training__max_steps=50)
    ours, our_weights = _trained(config)
    theirs, their_weights = _plain_loop(config, 50)
    assert ours == theirs
    for name, weight in our_weights.items():
        assert torch.equal(weight, their_weights[name]), name


@pytest.mark.parametrize("job", [pretrain, classification])
def test_the_loss_does_not_depend_on_micro_batches(tmp_path: Path, job: Callable[..., RunConfig]) -> None:
    once, often = Recorder(), Recorder()
    run_rank(job(tmp_path / "once", training__micro_batch_rows=16), Ranks(), once)
    run_rank(job(tmp_path / "often", training__micro_batch_rows=1), Ranks(), often)
    for one, other in zip(once.of(Step), often.of(Step), strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-5)
    assert once.of(Evaluated)[-1].metrics == pytest.approx(often.of(Evaluated)[-1].metrics, rel=1e-6)


def test_recomputing_activations_changes_no_bit(tmp_path: Path) -> None:
    kept, recomputed = Recorder(), Recorder()
    run_rank(pretrain(tmp_path / "kept"), Ranks(), kept)
    run_rank(pretrain(tmp_path / "recomputed", training__activation_checkpointing=True), Ranks(), recomputed)
    assert [event.loss for event in kept.of(Step)] == [event.loss for event in recomputed.of(Step)]
