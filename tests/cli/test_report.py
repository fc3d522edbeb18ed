"""`pretune report`: what a run leaves in its storage, as one page that a browser shows without fetching anything."""

from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import RunConfig
from pretune_cli.__main__ import main
from pretune_cli.documents import load
from pretune_cli.report.html import element
from pretune_cli.stages import Stages
from pretune_trainer.report import Evaluated, Said, Shown
from pretune_trainer.storage.runs import claim_run
from support.browser import browser
from support.job_files import finetune as continuing
from support.job_files import pretrain as as_written
from support.job_files import write
from support.jobs import run_config
from support.reported import CONFUSION, exhibited, finish, folder_of, local, run

Capture = pytest.CaptureFixture[str]


def spec(folder: Path, **more: object) -> dict[str, object]:
    return {
        "data": {"train": [{"uri": "s3://corpora/general/"}]},
        "storage": {"uri": (folder / "storage").as_uri()},
        "compute": {"gpusPerWorker": 0},
        **more,
    }


def pretrain(folder: Path) -> RunConfig:
    training = {"tokensPerStep": 2048, "maxSteps": 100}
    model = {"architecture": {"type": "llama", "config": {}}}
    learns: dict[str, Any] = {"objective": {"causalLM": {}}, "tokenizer": {"train": {}}}
    return run_config("PretrainJob", "general", spec(folder, model=model, training=training, **learns), {})


def finetune(folder: Path, parent: str) -> RunConfig:
    task = {"sequenceClassification": {"labels": ["cat", "dog"]}}
    training = {"examplesPerStep": 8, "maxSteps": 100}
    model = {"from": {"uri": parent}}
    return run_config("FinetuneJob", "classify", spec(folder, task=task, model=model, training=training), {})


def chain(folder: Path) -> str:
    """A chain of two jobs, the second of which was interrupted at step 80 and went on from step 50; its artifact."""
    general = pretrain(folder)
    run(general, range(1, 101))
    classify = finetune(folder, finish(general, 100))
    run(classify, range(1, 81))
    run(classify, range(51, 101), exhibited(100))
    return finish(classify, 100)


def reported(artifact: str, folder: Path) -> Path:
    file = folder / "report.html"
    assert main(["report", artifact, "--output", str(file)]) == 0
    return file


def test_it_tells_of_figures_lineage_runs_confusion_and_samples(tmp_path: Path) -> None:
    page = reported(chain(tmp_path), tmp_path).read_text()
    assert "<dt>accuracy</dt><dd>0.1</dd>" in page
    assert page.index("PretrainJob/general") < page.index("FinetuneJob/classify</b>")
    assert "0 to 80</td><td>30</td>" in page
    assert "resumed from step 50" in page
    assert all(f">{label}</th>" in page for label in CONFUSION["confusion"]["labels"])
    assert "<td>9</td><td>0.85</td>" in page
    assert "animal=dog</th>" in page


def test_a_run_that_ended_before_it_trained_has_cost_the_run_before_it_nothing(tmp_path: Path) -> None:
    config = pretrain(tmp_path)
    run(config, range(1, 51))
    claim_run(folder_of(config), lambda text: None)
    run(config, range(51, 81))
    page = reported(folder_of(config).uri, tmp_path).read_text()
    assert "0 to 50</td><td>0</td>" in page
    assert "none</td><td>0</td>" in page


def test_it_tells_what_the_runs_said_and_shows_the_example_that_training_began_with(tmp_path: Path) -> None:
    config, said = pretrain(tmp_path), Said("3 of 9 rows (33.3%) are longer")
    run(config, range(1, 51), said, Shown("<s>a row</s> ⇒ ⟦b⟧\n<s>another</s>"))
    run(config, range(51, 81), said, Said("a checkpoint was damaged"))
    page = reported(folder_of(config).uri, tmp_path).read_text()
    assert page.count(said.text) == 1
    assert "<li>a checkpoint was damaged</li>" in page
    assert "&lt;s&gt;a row&lt;/s&gt; ⇒ ⟦b⟧\n&lt;s&gt;another&lt;/s&gt;</p>" in page


def test_text_of_the_data_is_never_markup(tmp_path: Path) -> None:
    page = reported(chain(tmp_path), tmp_path).read_text()
    assert "the &lt;b&gt;cat&lt;/b&gt; &amp; dog" in page
    assert "<script>alert" not in page
    assert element("p", title='"><b>') == '<p title="&quot;&gt;&lt;b&gt;"></p>'


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_on_a_phone_without_errors_or_sideways_scrolling(tmp_path: Path, dark: bool) -> None:
    page = reported(chain(tmp_path), tmp_path)
    with browser(tmp_path / "profile") as seen:
        seen.open(page, dark=dark)
        assert seen.value("document.documentElement.scrollWidth") == 390
        assert seen.value("document.querySelectorAll('figure svg path.line').length") >= 6
        lightness = seen.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        assert (int(lightness) < 64) == dark
        box = "document.querySelector('svg').getBoundingClientRect()"
        touch = f"{{clientX: {box}.left + {box}.width / 2, bubbles: true}}"
        seen.value(f"document.querySelector('svg').dispatchEvent(new PointerEvent('pointerdown', {touch}))")
        assert seen.value("document.querySelector('output').textContent").startswith("step 4")
        assert seen.errors == []


def test_a_job_that_is_still_at_work_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 41))
    page = reported(folder_of(general).uri, tmp_path).read_text()
    assert "<dt>step</dt><dd>40 of 100</dd>" in page
    assert "Unfinished" in page


def test_a_storage_with_one_job_is_that_job_and_of_several_one_must_be_given(tmp_path: Path, capsys: Capture) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 3))
    storage = str(tmp_path / "storage")
    reported(storage, tmp_path)
    run(finetune(tmp_path, finish(general, 2)), range(1, 3))
    capsys.readouterr()
    for folder in (storage, f"{storage}/local"):
        assert main(["report", folder]) == 2
        said = capsys.readouterr().err
        assert "there are several jobs in it; specify one of " in said
        assert "/storage/local/finetunejob-classify-00000000, " in said


def test_of_a_file_each_job_that_ran_here_has_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("corpus/a.jsonl"), '{"text": "some"}')
    file = write(tmp_path / "jobs.yaml", as_written("first"), as_written("second"))
    ran(file, tmp_path)
    assert main(["report", str(file), "--storage", "storage"]) == 0
    assert all("<dt>step</dt><dd>2 of 100</dd>" in Path(f"{name}.html").read_text() for name in ("first", "second"))
    assert main(["report", str(file), "--storage", "storage", "--output", "one.html"]) == 2
    assert f"--output: names one file, and {file} has 2 jobs; remove it" in capsys.readouterr().err


def test_jobs_of_two_kinds_that_have_one_name_have_a_page_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("corpus/a.jsonl"), '{"text": "some"}')
    file = write(tmp_path / "jobs.yaml", as_written("reviews"), continuing("reviews", "reviews"))
    ran(file, tmp_path)
    assert main(["report", str(file), "--storage", "storage"]) == 0
    assert [page.name for page in sorted(tmp_path.glob("*.html"))] == [
        "finetunejob-reviews.html",
        "pretrainjob-reviews.html",
    ]


def ran(file: Path, folder: Path) -> None:
    """Each job of the file has run in the storage of `folder`."""
    documents = load([file], [f"spec.storage.uri={folder}/storage"])
    for job, place in Stages([document.job for document in documents], ranks=1, device="cpu").folders():
        general = pretrain(folder)
        named = general.job.model_copy(
            update={"kind": job.kind, "name": job.metadata.name, "uid": place.uri[-8:]},
        )
        config = general.model_copy(update={"job": named})
        assert folder_of(config).uri == place.uri
        run(config, range(1, 3))
        finish(config, 2)


def test_a_parent_that_is_gone_is_told_by_its_name(tmp_path: Path) -> None:
    artifact = chain(tmp_path)
    general = local(folder_of(pretrain(tmp_path)).uri)
    general.rename(tmp_path / "moved")
    assert f"{general.as_uri()}/artifact/0001</b>" in reported(artifact, tmp_path).read_text()


def test_what_cleaning_did_is_told_by_source_and_reason(tmp_path: Path) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 3))
    source = {"uri": "s3://corpora/general/", "characters": 9000, "charactersKept": 8000}
    counts = {"documents": 200, "kept": 150, "dropped": {"duplicate": 50}}
    report = counts | {"heldOut": 10, "masked": {"emailAddress": 3}, "sources": [source | counts], "balance": {}}
    page = reported(finish(general, 2, data=report), tmp_path).read_text()
    assert "Of 200 documents 150 were kept, 10 of them held out. Masked: emailAddress 3." in page
    assert '<th scope="row">duplicate</th><td>50</td>' in page


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: Capture) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 3))
    assert main(["report", folder_of(general).uri, "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: cannot be written (Is a directory); use another --output\n"


@pytest.mark.parametrize("folder", ["nothing", "."])
def test_where_there_is_no_job_it_is_said(tmp_path: Path, folder: str, capsys: Capture) -> None:
    assert main(["report", str(tmp_path / folder)]) == 2
    assert capsys.readouterr().err.startswith(str(tmp_path) if folder == "nothing" else tmp_path.as_uri())


def test_a_job_that_has_not_begun_to_train_has_nothing_to_report(tmp_path: Path, capsys: Capture) -> None:
    general = pretrain(tmp_path)
    claim_run(folder_of(general), lambda text: None)
    assert main(["report", folder_of(general).uri]) == 2
    assert "no job has started training here yet" in capsys.readouterr().err


def test_what_was_measured_once_has_no_chart_and_what_nobody_set_no_column(tmp_path: Path) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 41))
    page = reported(folder_of(general).uri, tmp_path).read_text()
    assert '<th scope="row">accuracy</th>' in page
    assert "<b>accuracy</b>" not in page
    assert ">source</th>" in page
    assert ">weight</th>" not in page
    run(general, range(41, 101))
    assert "<b>accuracy</b>" in reported(folder_of(general).uri, tmp_path).read_text()


def test_figures_of_the_test_stand_beside_those_of_the_validation(tmp_path: Path) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 41), Evaluated(40, {"loss": 2.0, "test_loss": 3.0}, 1.0))
    page = reported(folder_of(general).uri, tmp_path).read_text()
    assert "Evaluation on the validation and the test data" in page
    assert '<th scope="row">test_loss</th><td>3</td>' in page
    assert "<dt>test_loss</dt>" in page


def test_a_model_that_was_only_tested_was_not_evaluated_on_the_validation(tmp_path: Path) -> None:
    general = pretrain(tmp_path)
    run(general, range(1, 41), Evaluated(40, {"test_loss": 3.0}, 1.0))
    assert "<h2>Evaluation on the test data</h2>" in reported(folder_of(general).uri, tmp_path).read_text()


def test_a_job_on_images_counts_images(tmp_path: Path) -> None:
    training = {"examplesPerStep": 8, "maxSteps": 100}
    model = {"architecture": {"type": "vit_mae", "config": {}}}
    more = {"objective": {"maskedImage": {}}, "model": model, "training": training}
    painter = run_config("PretrainJob", "painter", spec(tmp_path, **more), {})
    run(painter, range(1, 3))
    page = reported(folder_of(painter).uri, tmp_path).read_text()
    assert "<dt>images</dt>" in page
    assert "Images per second" in page
