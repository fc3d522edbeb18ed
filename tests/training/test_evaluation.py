"""Evaluations: before training, on a part of the data, on several ranks."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_api.checkpoint import STATE_NAME, CheckpointState
from pretune_api.run_config import RunConfig
from pretune_trainer import loop
from pretune_trainer.evaluate import Judgement
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Event, Exhibited, Said, Silent, Step
from pretune_trainer.result import RankResult
from pretune_trainer.tasks.judging import likelihood
from support.group import in_ranks
from support.jobs import Recorder, classification, pretrain
from support.language import small_tokenizer
from support.runs import as_parent, named, path_of, run, run_until

BASELINE = {"evaluation__baseline": True, "training__max_steps": 4}


def card(result: RankResult) -> str:
    return (path_of(result) / "README.md").read_text()


def test_the_model_is_judged_before_training_where_that_is_asked_for(tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_rank(pretrain(tmp_path, **BASELINE), Ranks(), recorder)
    before, after = recorder.of(Evaluated)
    assert (before.step, after.step) == (0, 4)
    assert before.metrics["loss"] > after.metrics["loss"]
    row = f"| loss | {before.metrics['loss']:.4f} | {after.metrics['loss']:.4f} |"
    assert "| metric | before training | value |" in card(result)
    assert row in card(result)


def test_a_run_that_is_resumed_remembers_the_baseline_and_ends_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = run_rank(pretrain(tmp_path / "whole", **BASELINE), Ranks(), Silent())
    plain = run_rank(pretrain(tmp_path / "plain", training__max_steps=4), Ranks(), Silent())
    config = pretrain(tmp_path / "stopped", **BASELINE)
    run_until(Ranks(), config, 1)
    recorder = Recorder()
    resumed = run_rank(config, Ranks(), recorder)
    assert [each.step for each in recorder.of(Step)] == [4]
    assert [each.step for each in recorder.of(Evaluated)] == [4]
    table = [line for line in card(whole).splitlines() if line.startswith("| loss")]
    assert [line for line in card(resumed).splitlines() if line.startswith("| loss")] == table
    assert plain.metrics == whole.metrics == resumed.metrics


def test_a_parent_is_trained_with_dropout_whether_it_was_judged_before_or_not(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    dropout = {"type": "gpt2", "config": {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.3}}
    made = run_rank(pretrain(tmp_path, model__architecture=dropout, training__max_steps=1), Ranks(), Silent())
    ways: dict[str, dict[str, Any]] = {
        "unseen": {},
        "before": {"evaluation__baseline": True},
        "often": {"evaluation__every_steps": 1},
    }
    losses = [
        [step.loss for step in run(Ranks(), named(classification(tmp_path, as_parent(made), **changes), name))[1]]
        for name, changes in ways.items()
    ]
    assert losses[0] == losses[1] == losses[2]


class _Clock(Recorder):
    """A clock that only goes on, by 100 s, while an evaluation is told, and by 1 s while a step is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def tell(self, event: Event) -> None:
        super().tell(event)
        self.now += {Evaluated: 100.0, Step: 1.0}.get(type(event), 0.0)

    def perf_counter(self) -> float:
        return self.now


def test_the_time_of_steps_is_theirs_alone_and_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(loop, "time", clock)
    config = pretrain(tmp_path, evaluation__every_steps=2, checkpoint__every_steps=4, **BASELINE)
    run_rank(config, Ranks(), clock)
    seconds = [step.seconds for step in clock.of(Step)]
    assert seconds == [0.0, 1.0, 0.0, 1.0], "a step is told while the next one is computed, or before an evaluation"
    states = Path(config.storage.uri.removeprefix("file://"), config.job.folder, "checkpoints").rglob(STATE_NAME)
    assert CheckpointState.model_validate_json(max(states).read_bytes()).training_seconds == sum(seconds)


def _judged(ranks: Ranks, config: RunConfig) -> dict[str, float]:
    return run_rank(config, ranks, Silent()).metrics


def test_a_part_of_the_validation_data_is_the_same_at_any_number_of_ranks(tmp_path: Path) -> None:
    steps: dict[str, Any] = {"training__examples_per_step": 9, "training__max_steps": 1}
    changes = {"evaluation__max_batches": 1, **steps}
    whole = _judged(Ranks(), classification(tmp_path / "every", **steps))
    alone = _judged(Ranks(), classification(tmp_path / "one", **changes))
    together, _ = in_ranks(2, _judged, classification(tmp_path / "two", **changes))
    assert together == pytest.approx(alone, abs=1e-6)
    assert together["accuracy"] == alone["accuracy"]
    assert round(alone["accuracy"] * 9) / 9 == alone["accuracy"]
    assert alone["loss"] != whole["loss"]


def test_a_figure_that_does_not_exist_keeps_neither_checkpoint_nor_artifact_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "evaluate", lambda *_: Judgement({"loss": 2.0, "perplexity": math.nan}, {}, 0.0))
    assert run_rank(pretrain(tmp_path, **BASELINE), Ranks(), Silent()).metrics == {"loss": 2.0}


@pytest.mark.parametrize(("every", "is_told"), [(4, True), (3, False)])
def test_early_stopping_that_never_looks_before_the_end_is_told(tmp_path: Path, every: int, is_told: bool) -> None:
    recorder = Recorder()
    asked = {"evaluation__every_steps": every, "early_stopping": {"metric": "loss"}}
    run_rank(pretrain(tmp_path, training__max_steps=4, **asked), Ranks(), recorder)
    sentence = "training ends with step 4, so earlyStopping, which looks every 4 steps, has no effect"
    assert any(sentence in said.text for said in recorder.of(Said)) == is_told


def test_an_evaluation_leaves_what_a_report_shows(tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_rank(classification(tmp_path, training__max_steps=2), Ranks(), recorder)
    [exhibited] = recorder.of(Exhibited)
    counts = exhibited.exhibits["confusion"]["counts"]
    right, every = sum(counts[label][label] for label in range(2)), sum(map(sum, counts))
    assert right / every == result.metrics["accuracy"]


def test_bytes_are_those_of_the_text_that_is_predicted() -> None:
    tokenizer, texts = small_tokenizer(), ["Grüße, 世界: the statement", " is executed"]
    rows = [[IGNORED, *ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    targets = torch.full((2, max(map(len, rows))), IGNORED)
    for target, row in zip(targets, rows, strict=True):
        target[: len(row)] = torch.tensor(row)
    losses = torch.ones(targets.numel())
    found = likelihood(losses, targets, tokenizer)
    assert found.size == sum(len(text.encode()) for text in texts)
    assert found.targets == sum(map(len, rows)) - 2
