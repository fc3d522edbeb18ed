"""A column that is not there is told with the field that names it, wherever the data is read first; so is one that is
read already."""

from pathlib import Path
from typing import Any

import pytest

from pretune_trainer.preflight.run import preflight
from support.jobs import finetune, write_rows
from support.language import small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import assert_refused

LABELS = {"labels": ["Yes.", "No."]}
SHORT = {"maxTargetTokens": 16}
READ = {
    "text": "It rains in Oslo.",
    "question": "Where?",
    "answers": {"text": ["Oslo"], "answer_start": [12]},
    "chosen": "Yes.",
    "positive": "Rain in Oslo.",
    "translation": "Es regnet.",
}
FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("sequenceClassification.labelColumn", LABELS, "label"),
    ("sequenceClassification.pairColumn", {**LABELS, "labelColumn": "chosen", "pairColumn": "other"}, "other"),
    ("tokenClassification.labelColumn", LABELS, "labels"),
    ("sequenceRegression.targetColumn", {}, "target"),
    ("questionAnswering.questionColumn", {"questionColumn": "asked"}, "asked"),
    ("questionAnswering.answersColumn", {"answersColumn": "found"}, "found"),
    ("summarization.targetColumn", SHORT, "summary"),
    ("translation.languageColumn", {**SHORT, "languageColumn": "tag"}, "tag"),
    ("preference.rejectedColumn", {}, "rejected"),
    ("embedding.positiveColumn", {"positiveColumn": "document"}, "document"),
    ("embedding.hardNegatives.column", {"positiveColumn": "positive", "hardNegatives": {}}, "negatives"),
    ("chat.answerColumn", {"answerColumn": "output"}, "output"),
    ("chat.contextColumn", {"answerColumn": "chosen", "contextColumn": "input"}, "input"),
    ("chat.systemColumn", {"answerColumn": "chosen", "systemColumn": "system"}, "system"),
]
"""The field, its task, and the column that no row has."""


def job(folder: Path, field: str, spec: dict[str, Any], **changes: Any) -> Any:
    small_tokenizer().save_pretrained(folder / "tokenizer")
    tokenizer = {"from": {"uri": (folder / "tokenizer").as_uri()}}
    task = {field.partition(".")[0]: spec}
    uri = write_rows(folder / "rows.jsonl", [READ] * 8)
    return finetune(folder, task, uri, **{"tokenizer": tokenizer, "data__validation": None, **changes})


@pytest.mark.parametrize(("field", "spec", "column"), FIELDS)
def test_a_run_tells_the_field(tmp_path: Path, field: str, spec: dict[str, Any], column: str) -> None:
    sentence = rf"^spec\.task\.{field}: file://\S+/rows.jsonl row 1: there is no column '{column}'; known: answers, "
    assert_refused(job(tmp_path, field, spec), sentence)


@pytest.mark.parametrize(
    "reads_first",
    [{"tokenizer": {"train": {"vocabSize": 300}}}, {"data__cleaning": {"duplicates": "exact"}}],
    ids=["its tokenizer", "cleaning"],
)
def test_whatever_reads_a_column_first_tells_the_field(tmp_path: Path, reads_first: dict[str, Any]) -> None:
    field, spec, _ = FIELDS[1]
    architecture = {"model__architecture": ARCHITECTURES["bert"]}
    assert_refused(job(tmp_path, field, spec, **architecture, **reads_first), rf"^spec\.task\.{field}: .* no column")


def test_preflight_tells_the_field(tmp_path: Path) -> None:
    field, spec, _ = FIELDS[0]
    (finding,) = [finding for finding in preflight(job(tmp_path, field, spec)) if finding.ok is False]
    assert (finding.check, finding.place) == ("rows", f"spec.task.{field}")
    assert finding.sentence.endswith("rows.jsonl row 1: there is no column 'label'; known: " + ", ".join(sorted(READ)))


@pytest.mark.parametrize(
    ("field", "spec", "place"),
    [
        ("sequenceClassification.pairColumn", {**LABELS, "labelColumn": "chosen", "pairColumn": "text"}, "train"),
        ("sequenceRegression.pairColumn", {"pairColumn": "question"}, "validation.sources"),
        ("chat.answerColumn", {"answerColumn": "question"}, "test"),
        ("chat.contextColumn", {"answerColumn": "chosen", "contextColumn": "text"}, "train"),
        ("chat.systemColumn", {"systemColumn": "text"}, "train"),
    ],
)
def test_no_text_is_read_twice_from_a_sources_own_column(
    tmp_path: Path, field: str, spec: dict[str, Any], place: str
) -> None:
    others = [{"uri": write_rows(tmp_path / "others.jsonl", [READ]), "column": "question"}]
    sources = {"data__validation": {"sources": others}} if "validation" in place else {"data__test": others}
    config = job(tmp_path, field, spec, **sources)
    sentence = rf"'(text|question)' is spec\.data\.{place}\[0\]'s own column already; name another one, or remove it"
    assert_refused(config, rf"^spec\.task\.{field}: {sentence}$")
    assert ("spec", f"spec.task.{field}") in {(said.check, said.place) for said in preflight(config) if not said.ok}
