"""Nothing is lost: killed, crashed or stopped, a run is gone on with as if nothing had happened."""

import shutil
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from pretune_api.run_config import RunConfig
from pretune_api.storage import Location
from pretune_api.training import EarlyStopping, Instability
from pretune_trainer import rank
from pretune_trainer.data.example import Cursor
from pretune_trainer.errors import (
    NumericalError,
    StopRequestedError,
    StorageDeniedError,
    StorageError,
    UserError,
)
from pretune_trainer.loop import Loop
from pretune_trainer.optim import Stability
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Committed, Evaluated, Said, Silent, Start, Step
from pretune_trainer.result import RankResult
from pretune_trainer.resume import Resumable, State
from pretune_trainer.stopping import Improvement
from pretune_trainer.storage.checkpoint import Checkpoints
from pretune_trainer.storage.client import Patience
from pretune_trainer.storage.runs import claim_run
from pretune_trainer.storage.store import Store
from support.crashing import Crash, CrashingStore, Plan
from support.jobs import Recorder, pretrain
from support.killing import run_until_killed
from support.language import TINY
from support.runs import assert_same_bits, named, run_until


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums are the same to the bit only at the same number of threads."""
    torch.set_num_threads(1)


def _undisturbed(config: RunConfig, folder: Path) -> RankResult:
    """The same job in a storage of its own."""
    storage = config.storage.model_copy(update={"uri": (folder / "undisturbed").as_uri()})
    return run_rank(config.model_copy(update={"storage": storage}), Ranks(), Recorder())


def test_killed_three_times_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    dropout = {"type": "gpt2", "config": {"n_embd": 32, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.1}}
    config = pretrain(
        tmp_path,
        training__max_steps=24,
        checkpoint__every_steps=3,
        model__architecture=dropout,
        evaluation__every_steps=5,
    )
    begun = [run_until_killed(config, step)[0].step for step in (5, 11, 17)]
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    assert begun[0] == 1
    assert begun == sorted(begun)
    assert recorder.of(Start)[0].run == 4
    assert recorder.of(Start)[0].from_step >= 12
    assert_same_bits(result, _undisturbed(config, tmp_path))


def _mutations(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the operations of an undisturbed run that change the storage."""
    plan = Plan()
    _run_crashing(config, plan, monkeypatch)
    return [number for number, name in enumerate(plan.operations) if name.split()[0] in ("put", "create", "delete")]


def _run_crashing(config: RunConfig, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> RankResult:
    class Opening(Store):
        @classmethod
        def open(cls, location: Location, patience: Patience | None = None) -> Any:
            return CrashingStore.around(Store.open(location, patience), plan)

    with monkeypatch.context() as patch:
        patch.setattr(rank, "Store", Opening)
        return run_rank(config, Ranks(), Recorder())


def test_a_crash_before_any_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pretrain(tmp_path, training__max_steps=4, checkpoint__every_steps=2, checkpoint__keep=1)
    whole = _undisturbed(config, tmp_path)
    numbers = _mutations(named(config, "counted"), monkeypatch)
    assert len(numbers) > 20
    for number in numbers:
        crashed = named(config, f"crash-{number}")
        with pytest.raises(Crash):
            _run_crashing(crashed, Plan(at=number), monkeypatch)
        assert_same_bits(run_rank(crashed, Ranks(), Recorder()), whole)


def test_asked_to_stop_a_run_commits_and_a_second_goes_on_there(tmp_path: Path) -> None:
    config = pretrain(tmp_path, checkpoint__every_steps=100)
    first = Recorder(stop_at=3)
    with pytest.raises(StopRequestedError):
        run_rank(config, Ranks(), first)
    stopped = first.of(Committed)[-1].step
    second = Recorder()
    result = run_rank(config, Ranks(), second)
    assert stopped == first.of(Step)[-1].step < 8
    assert second.of(Start)[0].from_step == stopped
    assert second.of(Committed)[-1].step == 8, "whoever is killed while the artifact is made need not train again"
    assert_same_bits(result, _undisturbed(config, tmp_path))


class _StopsInEvaluation(Recorder):
    """Asks to stop while the evaluation after step 4 runs, when no step is under way."""

    def stop_requested(self) -> bool:
        return len(self.of(Step)) == 4


def test_asked_to_stop_in_an_evaluation_a_run_commits_and_evaluates_after_it_goes_on(tmp_path: Path) -> None:
    config = pretrain(tmp_path, evaluation__every_steps=2, checkpoint__every_steps=100)
    first, second = _StopsInEvaluation(), Recorder()
    with pytest.raises(StopRequestedError, match="during an evaluation"):
        run_rank(config, Ranks(), first)
    result = run_rank(config, Ranks(), second)
    assert [event.step for event in first.of(Evaluated)] == [2]
    assert [event.step for event in second.of(Evaluated)] == [4, 6, 8]
    assert_same_bits(result, _undisturbed(config, tmp_path))


def test_the_best_evaluation_may_be_of_the_step_that_a_run_goes_on_from(tmp_path: Path) -> None:
    patient = {"metric": "loss", "minDelta": 100.0}
    config = pretrain(tmp_path, evaluation__every_steps=4, checkpoint__every_steps=100, early_stopping=patient)
    with pytest.raises(StopRequestedError, match="during an evaluation"):
        run_rank(config, Ranks(), _StopsInEvaluation())
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    best, last = recorder.of(Evaluated)
    assert (best.step, last.step) == (4, 8)
    assert (result.step, result.metrics) == (4, best.metrics)


def test_asked_to_stop_before_the_first_step_a_run_leaves_and_the_next_begins_anew(tmp_path: Path) -> None:
    config = pretrain(tmp_path)
    run_until(Ranks(), config, 0)
    assert_same_bits(run_rank(config, Ranks(), Recorder()), _undisturbed(config, tmp_path))


def test_a_checkpoint_that_cannot_be_committed_ends_the_run_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints.save

    def save_and_fail(checkpoints: Checkpoints, *arguments: Any) -> None:
        save(checkpoints, *arguments)
        assert checkpoints._saving is not None
        assert checkpoints._saving.exception(60) is not None

    def denied(*_: object) -> int:
        raise StorageDeniedError("access denied")

    monkeypatch.setattr(Checkpoints, "save", save_and_fail)
    monkeypatch.setattr(Checkpoints, "_commit", denied)
    recorder = Recorder()
    with pytest.raises(StorageDeniedError):
        run_rank(pretrain(tmp_path), Ranks(), recorder)
    assert [event.step for event in recorder.of(Step)] == [1, 2, 3, 4, 5]


def test_a_run_that_fails_commits_the_checkpoint_that_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, gradients, commit = Event(), Loop._gradients, Checkpoints._commit

    def fail_after_a_checkpoint(loop: Loop, *arguments: Any) -> torch.Tensor:
        if loop.state.step == 4:
            failed.set()
            raise StorageError("a source does not answer")
        return gradients(loop, *arguments)

    def commit_slowly(*arguments: Any) -> int:
        assert failed.wait(60)
        return commit(*arguments)

    monkeypatch.setattr(Loop, "_gradients", fail_after_a_checkpoint)
    monkeypatch.setattr(Checkpoints, "_commit", commit_slowly)
    config, recorder = pretrain(tmp_path), Recorder()
    with pytest.raises(StorageError):
        run_rank(config, Ranks(), recorder)
    assert [event.step for event in recorder.of(Committed)] == [4]


def test_an_evaluation_that_the_checkpoint_knows_of_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = Loop._gradients

    def fail_after_an_evaluation(loop: Loop, *arguments: Any) -> torch.Tensor:
        if loop.state.step == 4:
            raise StorageError("a source does not answer")
        return gradients(loop, *arguments)

    config, recorders = pretrain(tmp_path, evaluation__every_steps=4), [Recorder(), Recorder()]
    monkeypatch.setattr(Loop, "_gradients", fail_after_an_evaluation)
    with pytest.raises(StorageError):
        run_rank(config, Ranks(), recorders[0])
    monkeypatch.setattr(Loop, "_gradients", gradients)
    run_rank(config, Ranks(), recorders[1])
    assert [[event.step for event in recorder.of(Evaluated)] for recorder in recorders] == [[4], [8]]


def _resumable(store: Store) -> Resumable:
    """A training whose only tensor is one number."""
    return Resumable(
        checkpoints=Checkpoints(store, claim_run(store, lambda _: None), Ranks(), 3, Silent()),
        tensors={"weight": torch.zeros(())},
        stability=Stability(Instability(), torch.optim.AdamW([torch.zeros(())]), torch.device("cpu")),
        improvement=Improvement(EarlyStopping(), larger_is_better=False),
        model_digest="model",
        data_digest="data",
        ranks=1,
        reporter=Silent(),
    )


def test_whatever_training_decides_by_is_gone_on_with(local: Store) -> None:
    stopped = _resumable(local)
    assert stopped.improvement is not None
    stopped.improvement.best, stopped.improvement.best_step, stopped.improvement.waited = 1.5, 6, 2
    stopped.stability.skipped = 1
    stopped.stability.mean.fill_(2.5)
    figures: dict[str, Any] = {"metrics": {"loss": 1.75}, "baseline": {"loss": 9.0}}
    state = State(9, Cursor(1, 2, 3), tokens=900, seconds=4.5, evaluated_step=8, micro_batch_rows=4, **figures)
    stopped.save(state)
    stopped.checkpoints.wait()
    again = _resumable(local)
    assert again.restore() == state
    assert again.improvement == stopped.improvement
    assert (again.stability.skipped, again.stability.mean.item()) == (1, 2.5)


def test_the_metrics_that_the_spec_names_are_reported_and_no_others(tmp_path: Path) -> None:
    recorder = Recorder()
    result = run_rank(pretrain(tmp_path, evaluation__metrics=["perplexity"]), Ranks(), recorder)
    assert result.metrics.keys() == {"perplexity"}
    assert recorder.of(Evaluated)[-1].metrics.keys() == {"perplexity"}


def test_a_finished_job_is_not_run_again(tmp_path: Path) -> None:
    config = pretrain(tmp_path)
    first, again = run_rank(config, Ranks(), Recorder()), Recorder()
    second = run_rank(config, Ranks(), again)
    assert second.skipped_because_done
    assert (second.artifact_digest, second.metrics, second.step) == (first.artifact_digest, first.metrics, 8)
    assert again.of(Start) == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"hidden_size": 48},
            r"checkpoints/0001/step-0000000\d: '.*' is F32 .*: this is the checkpoint of another model",
        ),
        ({"rms_norm_eps": 0.001}, r"^spec\.model: checkpoints/0001/step-0000000\d started from a different model \("),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, fields: dict[str, Any], sentence: str) -> None:
    run_until(Ranks(), pretrain(tmp_path), 2)
    other = pretrain(tmp_path, model__architecture={"type": "llama", "config": TINY["llama"] | fields})
    with pytest.raises(UserError, match=sentence):
        run_rank(other, Ranks(), Recorder())


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    config = pretrain(tmp_path)
    run_until(Ranks(), config, 2)
    tokenizer = config.tokenizer
    shorter = pretrain(tmp_path, data__sequence_length=32).model_copy(update={"tokenizer": tokenizer})
    with pytest.raises(UserError, match=r"spec\.data: .* was trained on different data"):
        run_rank(shorter, Ranks(), Recorder())


def test_training_ends_when_the_metric_stops_improving_and_keeps_the_best(tmp_path: Path) -> None:
    config = pretrain(
        tmp_path,
        training__max_steps=400,
        training__schedule="constant",
        training__learning_rate=0.03,
        training__tokens_per_step=2048,
        evaluation__every_steps=10,
        early_stopping={"metric": "loss", "patience": 3},
        checkpoint__every_steps=1000,
    )
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    evaluations = recorder.of(Evaluated)
    best = min(evaluations, key=lambda event: event.metrics["loss"])
    assert len(evaluations) < 40, "it has ended early"
    assert evaluations[-4].step == best.step == result.step
    assert result.metrics == best.metrics


def test_when_the_best_checkpoint_is_lost_the_newest_is_exported_and_people_are_told(tmp_path: Path) -> None:
    config = pretrain(
        tmp_path,
        training__learning_rate=0.3,
        training__max_steps=60,
        evaluation__every_steps=2,
        early_stopping={"metric": "loss", "patience": 2},
    )
    first = run_rank(config, Ranks(), Recorder())
    job = Path(first.artifact_uri.removeprefix("file://")).parents[1]
    shutil.rmtree(job / "artifact")
    shutil.rmtree(job / f"checkpoints/0001/step-{first.step:08d}")
    recorder = Recorder()
    second = run_rank(config, Ranks(), recorder)
    assert second.step > first.step
    assert any(f"of step {first.step}, is lost" in said.text for said in recorder.of(Said))


def test_a_loss_that_is_not_finite_ends_training_with_its_cause(tmp_path: Path) -> None:
    # A step multiplies every weight by 1 - 10 * 10: after some 20 steps they are beyond what float32 holds.
    wild = {"training__learning_rate": 10.0, "training__weight_decay": 10.0, "training__schedule": "constant"}
    config = pretrain(tmp_path, **wild, training__max_steps=200, data__validation=None)
    with pytest.raises(NumericalError, match=r"(nan|inf).*maxSkippedSteps allows 0"):
        run_rank(config, Ranks(), Recorder())


def test_a_spike_is_left_out_and_training_goes_on(tmp_path: Path) -> None:
    quiet = {"max_skipped_steps": 50, "spike_factor": 1.0001}
    config = pretrain(tmp_path, training__learning_rate=0.3, training__instability=quiet, training__max_steps=30)
    recorder = Recorder()
    run_rank(config, Ranks(), recorder)
    skipped = [event for event in recorder.of(Step) if event.skipped]
    assert 0 < len(skipped) <= 30
    assert recorder.of(Step)[-1].step == 30
