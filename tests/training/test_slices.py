"""Metrics by language, accent or group: those of the rows alone, at any number of ranks, and not too many."""

import json
from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import RunConfig
from pretune_trainer.drive.prometheus import TrainMetrics
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent
from support.group import in_ranks
from support.jobs import Recorder, finetune, pretrain, write_rows
from support.language import paragraphs

LABELS = {"sequenceClassification": {"labels": ["short", "long"]}}


def rows(start: int, stop: int) -> list[dict[str, str]]:
    """Paragraphs with a label, and what they are about."""
    return [
        {
            "text": text[:300],
            "label": "long" if len(text) > 100 else "short",
            "about": "code" if "(" in text else "prose",
            "half": "odd" if number % 2 else "even",
        }
        for number, text in enumerate(paragraphs()[start:stop])
    ]


def judged_on(folder: Path, found: list[dict[str, str]], **changes: Any) -> RunConfig:
    """One step of a classifier, judged on these rows."""
    uri = write_rows(folder / "validation.jsonl", iter(found))
    changes = {
        "training__max_steps": 1,
        "training__micro_batch_rows": 4,
        "data__validation": {"sources": [{"uri": uri}]},
        **changes,
    }
    return finetune(folder, LABELS, write_rows(folder / "train.jsonl", iter(rows(0, 60))), **changes)


def figures(config: RunConfig) -> dict[str, float]:
    return run_rank(config, Ranks(), Silent()).metrics


def on_rank(ranks: Ranks, config: RunConfig) -> dict[str, float]:
    return run_rank(config, ranks, Silent()).metrics


def of_slice(figures: dict[str, float], name: str) -> dict[str, float]:
    return {figure.partition("/")[0]: value for figure, value in figures.items() if figure.endswith(f"/{name}")}


def test_the_figures_of_a_slice_are_those_of_its_rows_alone(tmp_path: Path) -> None:
    judged = rows(100, 161)
    sliced = figures(judged_on(tmp_path / "sliced", judged, evaluation__slices=["about", "half"]))
    plain = figures(judged_on(tmp_path / "plain", judged))
    assert {name: sliced[name] for name in plain} == pytest.approx(plain, abs=1e-6)
    assert {name.partition("/")[2] for name in sliced} == {"", "about=code", "about=prose", "half=even", "half=odd"}
    code = figures(judged_on(tmp_path / "code", [row for row in judged if row["about"] == "code"]))
    named = {name: value for name, value in code.items() if "[" not in name}
    assert of_slice(sliced, "about=code") == pytest.approx(named, abs=1e-6)


def test_slices_are_the_same_at_any_number_of_ranks(tmp_path: Path) -> None:
    judged = rows(100, 161)
    alone = figures(judged_on(tmp_path / "one", judged, evaluation__slices=["about", "half"]))
    together, _ = in_ranks(2, on_rank, judged_on(tmp_path / "two", judged, evaluation__slices=["about", "half"]))
    assert together == pytest.approx(alone, abs=1e-6)
    counted = [name for name in alone if name.startswith("accuracy")]
    assert [together[name] for name in counted] == [alone[name] for name in counted]


def test_a_source_gives_its_rows_what_they_have_in_common(tmp_path: Path) -> None:
    texts = paragraphs()[300:360]
    uris = [
        write_rows(tmp_path / f"{number}.jsonl", ({"text": text} for text in texts[number::2])) for number in (0, 1)
    ]
    sources = [{"uri": uri, "values": {"language": name}} for uri, name in zip(uris, ("en", "xx"), strict=True)]
    recorder = Recorder()
    config = pretrain(
        tmp_path,
        training__max_steps=2,
        data__validation={"sources": sources},
        evaluation={"slices": ["language"], "metrics": ["loss"]},
    )
    result = run_rank(config, Ranks(), recorder)
    assert result.metrics.keys() == {"loss", "loss/language=en", "loss/language=xx"}
    artifact = Path(result.artifact_uri.removeprefix("file://"))
    assert json.loads((artifact / "metrics.json").read_text())["metrics"] == result.metrics
    assert f"| loss/language=en | {result.metrics['loss/language=en']:.4f} |" in (artifact / "README.md").read_text()
    (told,) = recorder.of(Evaluated)
    assert told.metrics == result.metrics


def test_prometheus_is_spared_the_figures_of_slices() -> None:
    metrics = TrainMetrics()
    job = {"namespace": "local", "kind": "PretrainJob", "name": "general"}
    figures = {"loss": 2.0, "loss/language=de": 3.0, "f1[news/sports]": 0.5}
    metrics.observe(job, Evaluated(step=1, metrics=figures, seconds=1.0))
    text = metrics.to_text().decode()
    assert 'metric="loss"' in text
    assert 'metric="f1[news/sports]"' in text, "of a label"
    assert "language" not in text


def test_too_many_slices_are_refused_in_a_sentence(tmp_path: Path) -> None:
    judged = [{**row, "name": f"{number:02d}"} for number, row in enumerate(rows(100, 165))]
    with pytest.raises(UserError) as caught:
        figures(judged_on(tmp_path, judged, evaluation__slices=["name"]))
    assert str(caught.value) == (
        "spec.evaluation.slices: name: more than 64 different values, such as '00', '01', '02'; "
        "use columns with few values, such as a language, an accent or a group"
    )


def test_a_slice_of_a_column_that_is_missing_is_refused(tmp_path: Path) -> None:
    config = judged_on(tmp_path, rows(100, 110), evaluation__slices=["accent"])
    with pytest.raises(BadRowError) as caught:
        figures(config)
    assert "validation.jsonl row 1: there is no column 'accent'; known: about, half, label, text" in str(caught.value)
