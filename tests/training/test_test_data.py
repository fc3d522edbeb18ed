"""The test data: judged once, by the weights that are published, and nothing else depends on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune_api.run_config import RunConfig
from pretune_trainer import rank
from pretune_trainer.data.cache_index import INDEX_NAME
from pretune_trainer.drive.tracking import curves
from pretune_trainer.errors import OutOfMemoryError, StopRequestedError
from pretune_trainer.evaluate import evaluate
from pretune_trainer.metrics.slices import TEST
from pretune_trainer.parallel import Ranks
from pretune_trainer.preflight.run import preflight
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent, Start, Step
from pretune_trainer.result import RankResult
from support.group import in_ranks
from support.jobs import Recorder, finetune, write_rows
from support.language import paragraphs
from support.runs import assert_refused, assert_same_bits, gathered, named, path_of, run

LABELS = {"sequenceClassification": {"labels": ["short", "long"]}}
PATIENT = {"metric": "loss", "patience": 2}


def rows(start: int, stop: int) -> list[dict[str, str]]:
    """Paragraphs, and whether they are long and of code."""
    return [
        {
            "text": text[:300],
            "label": "long" if len(text) > 100 else "short",
            "about": "code" if "(" in text else "prose",
        }
        for text in paragraphs()[start:stop]
    ]


def job(folder: Path, *, tested: list[dict[str, str]] | None, **changes: Any) -> RunConfig:
    """A classifier that is validated on rows of its own, and tested where there are any to test on."""
    fields: dict[str, Any] = {
        "data__validation": {"sources": [{"uri": write_rows(folder / "validation.jsonl", rows(60, 101))}]},
        "training__max_steps": 4,
        **changes,
    }
    if tested is not None:
        fields["data__test"] = [{"uri": write_rows(folder / "test.jsonl", tested)}]
    return finetune(folder, LABELS, write_rows(folder / "train.jsonl", rows(0, 60)), **fields)


def of_test(metrics: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix(TEST): value for name, value in metrics.items() if name.startswith(TEST)}


def of_validation(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(TEST)}


def on_rank(ranks: Ranks, config: RunConfig) -> RankResult:
    return run_rank(config, ranks, Silent())


def test_the_same_rows_give_the_same_figures_as_in_the_validation(tmp_path: Path) -> None:
    config = job(tmp_path, tested=rows(60, 101), evaluation__slices=["about"], evaluation__every_steps=2)
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    assert of_test(result.metrics) == of_validation(result.metrics)
    assert {"loss", "accuracy/about=code", "recall[short]"} <= of_test(result.metrics).keys()
    *before, last = recorder.of(Evaluated)
    assert last.metrics == result.metrics
    assert not any(of_test(event.metrics) for event in before)


def test_nothing_but_the_figures_depends_on_it(tmp_path: Path) -> None:
    plain, steps = run(Ranks(), job(tmp_path / "plain", tested=None))
    tested, same_steps = run(Ranks(), job(tmp_path / "tested", tested=rows(101, 140)))
    assert [step.loss for step in steps] == [step.loss for step in same_steps]
    assert of_validation(tested.metrics) == plain.metrics
    assert of_test(tested.metrics).keys() == plain.metrics.keys()
    assert_same_bits(plain, RankResult(tested.artifact_uri, tested.artifact_digest, plain.metrics, tested.step))


def test_it_is_the_best_weights_that_are_tested(tmp_path: Path) -> None:
    changes = {"training__max_steps": 40, "training__learning_rate": 0.05, "early_stopping": PATIENT}
    config = job(tmp_path, tested=rows(60, 101), evaluation__every_steps=1, **changes)
    result, steps = run(Ranks(), config)
    assert result.step < steps[-1].step, "the last weights are not the best"
    assert of_test(result.metrics) == of_validation(result.metrics)


def test_all_of_it_is_judged_where_only_a_part_of_the_validation_is(tmp_path: Path) -> None:
    sizes = {"training__examples_per_step": 9, "evaluation__max_batches": 1}
    whole = run_rank(job(tmp_path / "whole", tested=rows(60, 101), **sizes), Ranks(), Silent())
    other = run_rank(job(tmp_path / "other", tested=rows(60, 101), training__examples_per_step=9), Ranks(), Silent())
    assert of_test(whole.metrics) == of_test(other.metrics) == of_validation(other.metrics)
    assert of_validation(whole.metrics)["loss"] != of_validation(other.metrics)["loss"]


def test_it_may_be_all_that_is_judged_and_by_some_metrics_alone(tmp_path: Path) -> None:
    config = job(tmp_path, tested=rows(101, 140), data__validation=None, evaluation__metrics=["accuracy"])
    result = run_rank(config, Ranks(), Silent())
    assert result.metrics.keys() == {"test_accuracy"}
    facts = json.loads((path_of(result) / "metrics.json").read_text())
    assert facts["metrics"] == result.metrics
    assert f"| test_accuracy | {result.metrics['test_accuracy']:.4f} |" in (path_of(result) / "README.md").read_text()


def test_two_ranks_measure_what_one_does(tmp_path: Path) -> None:
    alone = run_rank(job(tmp_path / "one", tested=rows(101, 140)), Ranks(), Silent())
    together, _ = in_ranks(2, on_rank, job(tmp_path / "two", tested=rows(101, 140)))
    assert together.metrics == pytest.approx(alone.metrics, abs=1e-5)
    assert of_test(together.metrics)["accuracy"] == of_test(alone.metrics)["accuracy"]


def test_a_run_that_is_stopped_while_it_is_tested_is_tested_by_the_next(tmp_path: Path) -> None:
    config = job(tmp_path, tested=rows(101, 140))
    whole = run_rank(named(config, "whole"), Ranks(), Silent())
    recorder = _StopsAtTheEnd()
    with pytest.raises(StopRequestedError):
        run_rank(config, Ranks(), recorder)
    assert len(recorder.of(Step)) == 4
    resumed = run_rank(config, Ranks(), Silent())
    assert_same_bits(whole, resumed)


class _StopsAtTheEnd(Recorder):
    """Asks to stop once the last evaluation on the validation data has been told."""

    def stop_requested(self) -> bool:
        return bool(self.of(Evaluated))


def test_after_running_out_of_memory_while_it_is_tested_a_job_goes_on_with_half_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_device(step: Any, *arguments: Any) -> Any:
        if starts.of(Start)[-1].micro_batch_rows > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return evaluate(step, *arguments)

    starts = Recorder()
    monkeypatch.setattr(rank, "evaluate", small_device)
    config = job(tmp_path, tested=rows(101, 140))
    with pytest.raises(OutOfMemoryError, match=r"the next run resumes from the last checkpoint with 8$"):
        run_rank(config, Ranks(), starts)
    assert of_test(run_rank(config, Ranks(), starts).metrics)
    assert [start.micro_batch_rows for start in starts.of(Start)] == [16, 8]


def test_preferences_are_compared_with_what_the_parent_made_of_the_test_too(tmp_path: Path) -> None:
    pairs = [
        {"prompt": f"Is {number} a number?", "chosen": " Yes, it is.", "rejected": f" No, {number} is none."}
        for number in range(60)
    ]
    learnt, judged, tested = (
        {"uri": write_rows(tmp_path / f"{name}.jsonl", found), "column": "prompt"}
        for name, found in {"train": pairs[12:], "validation": pairs[:12], "test": pairs[:12]}.items()
    )
    sources: dict[str, Any] = {
        "data__train": [learnt],
        "data__validation": {"sources": [judged]},
        "data__test": [tested],
    }
    tokenizer = {"train": {"algorithm": "bpe", "vocabSize": 300}}
    config = finetune(tmp_path, {"preference": {}}, learnt["uri"], tokenizer=tokenizer, **sources)
    metrics = run_rank(config, Ranks(), Silent()).metrics
    assert of_test(metrics) == of_validation(metrics)
    assert "rewardAccuracy" in of_test(metrics)


def test_training_rows_that_are_in_it_too_are_dropped_as_duplicates(tmp_path: Path) -> None:
    deduplicated = {"data__cleaning": {"duplicates": "exact"}}
    config = job(tmp_path, tested=rows(50, 60), data__validation=None, **deduplicated)
    cache = gathered(config).cache
    learnt = {row["text"] for row in rows(0, 50)} - {row["text"] for row in rows(50, 60)}
    assert (sum(map(len, cache.train)), sum(map(len, cache.test))) == (len(learnt), 10)


@pytest.mark.parametrize(("file", "known"), [("train", "learnt"), ("validation", "chosen by")])
def test_files_that_a_model_was_made_of_do_not_test_it(tmp_path: Path, file: str, known: str) -> None:
    uri = (tmp_path / f"{file}.jsonl").as_uri()
    config = job(tmp_path, tested=None, data__test=[{"uri": uri}])
    sentence = rf"^spec\.data\.test\[0\]\.uri: .*{file}\.jsonl is in spec\.data\.{file}.*{known}; keep it apart"
    assert_refused(config, sentence)
    [refused] = [finding for finding in preflight(config) if finding.ok is False]
    assert refused.place == "spec.data.test[0].uri"


def test_caches_of_jobs_without_one_are_those_that_older_versions_made(tmp_path: Path) -> None:
    plain, tested = (gathered(job(tmp_path / name, tested=found)) for name, found in (("a", None), ("b", rows(1, 9))))
    assert plain.cache.test == []
    assert [len(source) for source in tested.cache.test] == [8]
    indices = [json.loads(path.read_bytes()) for path in sorted(tmp_path.glob(f"*/storage/cache/*/{INDEX_NAME}"))]
    assert ["test" in index for index in indices] == [False, True]


def test_trackers_draw_it_apart() -> None:
    drawn = curves(Evaluated(4, {"loss": 1.0, "test_loss": 2.0, "test_loss/about=code": 3.0}, 0.1))
    assert drawn == {"validation/loss": 1.0, "test/loss": 2.0, "test/loss/about=code": 3.0}
