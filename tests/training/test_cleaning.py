"""Data is cleaned before anything is learnt from it: alike by any ranks, once, and with a report that adds up."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pretune_api.data import Data
from pretune_api.manifest import Manifest
from pretune_trainer.data import readers
from pretune_trainer.data.cleaning import clean
from pretune_trainer.data.cleaning.clean import Cleaned, cleaned
from pretune_trainer.data.cleaning.report import DataReport
from pretune_trainer.data.cleaning.survey import Surveyor
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.example import Layout, Row
from pretune_trainer.data.token_cache import TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation
from pretune_trainer.errors import BadRowError, PretuneError, StopRequestedError, UserError
from pretune_trainer.inputs import gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.storage.commit import commit
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks.token_classification import TokenClassification
from support.jobs import finetune, pretrain, write_corpus, write_rows
from support.letters import Letters, data_of, on_ranks, store_at, texts_of, write_jsonl

LONG = Layout(length=10**6, packs=True)


def make(
    folder: Path,
    data: Data,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
    columns: Sequence[str] = (),
) -> tuple[Cleaned, TokenCache]:
    """Verdicts and token cache."""
    store, ranks = store_at(folder / "store"), ranks or Ranks()
    found = verdicts(data, store, ranks, stop, columns)
    return found, token_cache(Tokenisation(data, Letters(layout=LONG), "tokenizer", clean=found), store, ranks, stop)


def verdicts(
    data: Data,
    store: Store,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
    columns: Sequence[str] = (),
) -> Cleaned:
    found = cleaned(data, columns, store, ranks or Ranks(), stop)
    assert found is not None
    return found


def modules() -> list[str]:
    """Real text: modules of Python's standard library."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    found = [
        path.read_text(encoding="utf-8", errors="replace") for path in files if 3_000 < path.stat().st_size < 12_000
    ]
    return [text.encode("ascii", "replace").decode() for text in found][:40]


def nearly(text: str) -> str:
    """The text with one word in the middle replaced."""
    middle = text.index(" ", len(text) // 2)
    return f"{text[:middle]} planted{text[middle:]}"


@pytest.fixture(autouse=True)
def each_file_is_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readers._BY_RUNS, "jsonl", 0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules in four files, with equal copies of 5, near ones of 5, 3 that are in the validation and 2 nearly so."""
    folder = tmp_path_factory.mktemp("planted")
    real = modules()
    copies = [text.replace("\n", "\n  ") for text in real[:5]] + [nearly(text) for text in real[5:10]]
    rows = [*real[:30], *copies, *real[30:33], *map(nearly, real[33:35])]
    for file in range(4):
        write_jsonl(folder / f"train/{file}.jsonl", rows[file * 12 : file * 12 + 12])
    write_jsonl(folder / "validation.jsonl", real[30:])
    return folder


def planted_data(folder: Path, **cleaning: object) -> Data:
    rules = {"duplicates": "near", **cleaning}
    return data_of(
        folder / "train", validation={"sources": [{"uri": f"file://{folder}/validation.jsonl"}]}, cleaning=rules
    )


def test_planted_copies_and_contaminations_are_found_in_real_text_and_nothing_else(
    tmp_path: Path, planted: Path
) -> None:
    found, cache = make(tmp_path, planted_data(planted))
    assert texts_of(cache.train) == modules()[:30]
    assert texts_of(cache.validation) == modules()[30:]
    assert found.report.dropped == {"duplicate": 5, "nearDuplicate": 5, "contamination": 3, "nearContamination": 2}


def test_any_number_of_ranks_comes_to_the_same_verdicts(tmp_path: Path, planted: Path) -> None:
    alone, cache = make(tmp_path / "alone", planted_data(planted))
    shared = on_ranks(3, lambda ranks: make(tmp_path / "shared", planted_data(planted), ranks))
    assert {(each.digest, each.report.model_dump_json()) for each, _ in shared} == {
        (alone.digest, alone.report.model_dump_json())
    }
    assert {each.digest for _, each in shared} == {cache.digest}


@pytest.mark.parametrize("name", ["train/0.jsonl", "train/9.jsonl"])
def test_a_source_that_changes_after_it_was_cleaned_is_told_and_cleaned_the_next_time(
    tmp_path: Path, planted: Path, name: str
) -> None:
    folder = shutil.copytree(planted, tmp_path / "planted")
    data, store = planted_data(folder), store_at(tmp_path / "store")
    found = verdicts(data, store)
    with (folder / name).open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    with pytest.raises(PretuneError, match=rf"{name} has changed since it was cleaned; keep the sources"):
        token_cache(Tokenisation(data, Letters(), "tokenizer", clean=found), store, Ranks(), lambda: False)
    assert make(tmp_path, data)[0].report.kept == found.report.kept + 1


def test_a_stopped_cleaning_keeps_what_is_done_and_the_next_does_the_rest(
    tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(clean, "_TURN", 1)
    add = Surveyor.add

    def noted(self: Surveyor, row: Row) -> None:
        judged.append(str(row.place))
        add(self, row)

    monkeypatch.setattr(Surveyor, "add", noted)
    with pytest.raises(StopRequestedError, match="while the data was cleaned; what is done is kept"):
        make(tmp_path, planted_data(planted), stop=lambda: len(judged) >= 30)
    before = set(judged)
    judged.clear()
    found, cache = make(tmp_path, planted_data(planted))
    assert len(before) == 30
    assert 0 < len(before & set(judged)) < 12  # of the file at which it stopped
    assert len(before | set(judged)) == 55
    judged.clear()
    assert make(tmp_path, planted_data(planted))[1].digest == cache.digest
    assert judged == []
    assert make(tmp_path / "undisturbed", planted_data(planted))[0].report == found.report


ROWS: list[dict[str, str | None]] = [
    {"text": "write to ann@mail.org at once", "label": "yes", "accent": "north"},
    {"text": "write  to ann@mail.org at once", "label": "no", "accent": "north"},
    {"text": "call 555-123-4567 at noon", "label": "yes", "accent": "south"},
    {"text": "short", "label": "no", "accent": "south"},
    {"text": "", "label": "no", "accent": "north"},
    {"text": None, "label": None, "accent": "east"},
    {"text": "12345 67890 12345 67890", "label": "yes", "accent": "south"},
]
RULES = {
    "length": {"minWords": 2},
    "characters": {"maxDigits": 0.5},
    "duplicates": "exact",
    "mask": ["emailAddress", "phoneNumber"],
    "balance": ["label", "accent"],
}


def test_the_report_says_what_was_dropped_and_masked_and_how_groups_fare(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "a.jsonl", ROWS)
    found, cache = make(tmp_path, data_of({"uri": uri}, cleaning=RULES))
    assert texts_of(cache.train) == ["write to |||EMAIL_ADDRESS||| at once", "call |||PHONE_NUMBER||| at noon"]
    report = found.report
    assert (report.documents, report.kept, report.held_out) == (7, 2, 0)
    assert report.dropped == {"empty": 2, "duplicate": 1, "manyDigits": 1, "tooShort": 1}
    assert report.masked == {"emailAddress": 2, "phoneNumber": 1}
    assert {name: (balance.read, balance.kept) for name, balance in report.balance.items()} == {
        "label": ({"no": 3, "yes": 3, "null": 1}, {"no": 0, "yes": 2, "null": 0}),
        "accent": ({"north": 3, "south": 3, "east": 1}, {"north": 1, "south": 1, "east": 0}),
    }


def test_two_jobs_that_clean_the_same_data_at_once_under_two_spellings_of_its_uri_both_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_rows(tmp_path / "a.jsonl", ROWS)
    spelled = plain.replace("a.jsonl", "%61.jsonl")
    store, both = store_at(tmp_path / "store"), [data_of({"uri": uri}, cleaning=RULES) for uri in (plain, spelled)]
    others: list[Cleaned] = []

    def commit_after_the_other(folder: Store, manifest: Manifest) -> None:
        monkeypatch.setattr(clean, "commit", commit)
        others.append(verdicts(both[1], store))
        commit(folder, manifest)

    monkeypatch.setattr(clean, "commit", commit_after_the_other)
    found = [verdicts(both[0], store), *others]
    assert [each.report.sources[0].uri for each in found] == [plain, spelled]
    assert found[0].digest == found[1].digest


def adds_up(report: DataReport) -> bool:
    sources = report.sources
    by_reason = {reason: sum(source.dropped.get(reason, 0) for source in sources) for reason in report.dropped}
    counted = all(source.documents == source.kept + sum(source.dropped.values()) for source in sources)
    balanced = all(sum(each.kept.values()) == report.kept - report.held_out for each in report.balance.values())
    return counted and balanced and by_reason == report.dropped and report.kept == sum(each.kept for each in sources)


def test_the_numbers_of_a_report_add_up(tmp_path: Path) -> None:
    random = Random(3)
    sources = []
    for name in ("a", "b"):
        rows = [{**random.choice(ROWS), "label": str(random.randrange(200))} for _ in range(300)]
        rows += [{"text": f"one of a kind {at}{name}", "label": "x", "accent": "east"} for at in range(60)]
        sources.append({"uri": write_rows(tmp_path / f"{name}.jsonl", rows)})
    found, cache = make(tmp_path, data_of(*sources, validation={"fraction": 0.2}, cleaning=RULES))
    assert adds_up(found.report)
    assert found.report.documents == 720
    assert found.report.kept == len(texts_of(cache.train)) + len(texts_of(cache.validation)) == 122
    assert found.report.held_out == len(texts_of(cache.validation)) > 5
    assert len(found.report.balance["label"].read) == 101  # 100 by name, and the others


def test_sources_of_the_validation_are_left_as_they_are(tmp_path: Path) -> None:
    same = ["ann@mail.org", "ann@mail.org", "x"]
    train, apart = write_jsonl(tmp_path / "a.jsonl", ["a text", *same]), write_jsonl(tmp_path / "b.jsonl", same)
    rules = {"length": {"minWords": 2}, "duplicates": "near", "mask": ["emailAddress"], "filters": ["gopherRepetition"]}
    _, cache = make(tmp_path, data_of(train, validation={"sources": [{"uri": f"file://{apart}"}]}, cleaning=rules))
    assert (texts_of(cache.train), texts_of(cache.validation)) == (["a text"], same)


@pytest.mark.parametrize("duplicates", ["exact", "near"])
def test_a_copy_of_the_validation_is_found_though_cleaning_changes_it(tmp_path: Path, duplicates: str) -> None:
    page = "Write to ann@mail.org at once please.\n\nMenu\n\nIt is a long text. It has three sentences here."
    other = "This text has nothing in common. It is another one. So it stays."
    train, apart = write_jsonl(tmp_path / "a.jsonl", [page, other]), write_jsonl(tmp_path / "b.jsonl", [page])
    rules = {"mask": ["emailAddress"], "filters": ["c4"], "duplicates": duplicates}
    data = data_of(train, validation={"sources": [{"uri": f"file://{apart}"}]}, cleaning=rules)
    found, cache = make(tmp_path, data)
    assert found.report.dropped == {"contamination": 1}
    assert found.report.masked == {"emailAddress": 1}
    assert (texts_of(cache.train), texts_of(cache.validation)) == ([other], [page])


def test_rows_that_differ_in_another_column_with_text_are_not_the_same(tmp_path: Path) -> None:
    rows = [{"text": "a context", "question": question} for question in ("who?", "when?", "who?")]
    data = data_of({"uri": write_rows(tmp_path / "a.jsonl", rows)}, cleaning={"duplicates": "near"})
    assert make(tmp_path / "whole", data, columns=["question"])[0].report.kept == 2
    assert make(tmp_path / "text", data)[0].report.kept == 1


def test_a_tokenizer_learns_from_what_is_clean(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "a.jsonl", ROWS)
    data = data_of({"uri": uri}, cleaning=RULES)
    found = verdicts(data, store_at(tmp_path / "store"))
    learnt = list(Corpus(data, (), found).sample(100))
    assert learnt == ["write to |||EMAIL_ADDRESS||| at once", "call |||PHONE_NUMBER||| at noon"]


def test_other_rules_make_other_verdicts_and_another_cache(tmp_path: Path, planted: Path) -> None:
    near, exact = (make(tmp_path, planted_data(planted, duplicates=wanted)) for wanted in ("near", "exact"))
    assert near[0].digest != exact[0].digest
    assert near[1].digest != exact[1].digest
    assert exact[0].report.dropped == {"duplicate": 5, "contamination": 3}


@pytest.mark.parametrize(
    ("rows", "rules", "error", "sentence"),
    [
        (
            [{"text": "one"}, {"text": None}],
            {"length": {"minWords": 2}},
            UserError,
            (
                "spec.data.cleaning: none of the 2 rows of {uri} (spec.data.train[0]) is left (empty 1, tooShort 1); "
                "relax the filters, or remove the source"
            ),
        ),
        (
            [{"text": "one", "id": number} for number in range(1001)],
            {"balance": ["id"]},
            BadRowError,
            (
                "{uri} row 1001: column 'id' has more than 1000 different values; "
                "spec.data.cleaning.balance is for columns with labels or groups"
            ),
        ),
        (
            [{"text": "one"}],
            {"balance": ["label"]},
            BadRowError,
            "{uri} row 1: there is no column 'label'; known: text",
        ),
        (
            [{"text": 3}],
            {"duplicates": "near"},
            BadRowError,
            (
                "{uri} row 1: column 'text' holds int, but spec.data.cleaning reads text, "
                "or audio if it has audio: {{}}, or images if it has images: {{}}"
            ),
        ),
    ],
)
def test_data_that_cannot_be_cleaned_is_refused_in_a_sentence(
    tmp_path: Path, rows: list[dict[str, object]], rules: dict[str, object], error: type[PretuneError], sentence: str
) -> None:
    uri = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(error) as caught:
        make(tmp_path, data_of({"uri": uri}, cleaning=rules))
    assert str(caught.value) == sentence.format(uri=uri)


def test_texts_are_not_changed_where_answers_are_places_in_them(tmp_path: Path) -> None:
    config = finetune(
        tmp_path, {"questionAnswering": {}}, write_corpus(tmp_path), data__cleaning={"mask": ["ipAddress"]}
    )
    with pytest.raises(UserError) as caught:
        gather_inputs(config, Ranks(), Silent())
    assert str(caught.value) == (
        "spec.data.cleaning: mask and c4 change texts, but questionAnswering has positions in them; remove both"
    )


def test_tagged_words_are_masked_one_by_one_and_texts_with_spans_are_not_changed(tmp_path: Path) -> None:
    words = {"text": ["Ask", "ann@mail.org", ",", "Ann"], "labels": ["O", "O", "O", "B-Name"]}
    spans = {"text": "Ask ann@mail.org, Ann", "labels": [{"start": 18, "end": 21, "label": "Name"}]}
    task, cleaning = {"tokenClassification": {"labels": ["Name"]}}, {"mask": ["emailAddress"]}
    small = {"train": {"algorithm": "bpe", "vocabSize": 270}}
    changes: dict[str, Any] = {"data__cleaning": cleaning, "data__validation": None, "tokenizer": small}
    uri = write_rows(tmp_path / "words.jsonl", [words] * 9)
    inputs = gather_inputs(finetune(tmp_path, task, uri, **changes), Ranks(), Silent())
    assert isinstance(inputs.task, TokenClassification)
    decoded = inputs.task.tokenizer.decode(inputs.cache.train[0].example(0)["ids"], skip_special_tokens=True)
    assert decoded == "Ask |||EMAIL_ADDRESS||| , Ann"
    uri = write_rows(tmp_path / "spans.jsonl", [spans] * 9)
    with pytest.raises(BadRowError, match=r"row 1: spec.data.cleaning: mask and c4 change texts, but 'labels' has"):
        gather_inputs(finetune(tmp_path, task, uri, **changes), Ranks(), Silent())


def test_an_artifact_says_what_was_dropped(tmp_path: Path) -> None:
    config = pretrain(
        tmp_path, training__max_steps=1, data__cleaning={"length": {"minWords": 12}, "duplicates": "near"}
    )
    artifact = Path(run_rank(config, Ranks(), Silent()).artifact_uri.removeprefix("file://"))
    report = DataReport.model_validate_json((artifact / "data.json").read_bytes())
    assert report.documents == 300
    assert 0 < report.dropped["tooShort"] < 300
    assert adds_up(report)
    assert f"Of 300 documents {report.kept} were kept; dropped: tooShort" in (artifact / "README.md").read_text()
    assert "data.json" in {file["path"] for file in json.loads((artifact / "manifest.json").read_text())["files"]}
