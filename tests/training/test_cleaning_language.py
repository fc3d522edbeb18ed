"""Documents in other languages are left out, and all languages are counted."""

from pathlib import Path

import pytest

from pretune_trainer.data.cleaning.clean import cleaned
from pretune_trainer.data.cleaning.report import DataReport
from pretune_trainer.errors import UserError
from pretune_trainer.parallel import Ranks
from support.jobs import write_rows
from support.letters import data_of, store_at

TEXTS = {
    "en": "The compiler reads each line of the program and says what it has understood of it.",
    "de": "Der Übersetzer liest jede Zeile des Programms und sagt, was er davon verstanden hat.",
    "fr": "Le compilateur lit chaque ligne du programme et dit ce qu'il en a compris.",
    "ja": "コンパイラはプログラムの各行を読み、理解したことを述べます。",
}


def report_on(folder: Path, texts: list[str], keep: list[str]) -> DataReport:
    data = data_of(
        {"uri": write_rows(folder / "a.jsonl", ({"text": text} for text in texts))},
        cleaning={"language": {"keep": keep}},
    )
    found = cleaned(data, (), store_at(folder / "store"), Ranks(), lambda: False)
    assert found is not None
    return found.report


def test_documents_in_other_languages_are_dropped_and_all_are_counted(tmp_path: Path) -> None:
    report = report_on(tmp_path, [*TEXTS.values(), TEXTS["de"] * 2, "12 + 30 = 42", ""], ["de", "ja"])
    assert report.dropped == {"otherLanguage": 3, "empty": 1}
    assert report.languages is not None
    assert report.languages.read == {"de": 2, "und": 2, "en": 1, "fr": 1, "ja": 1}
    assert {name: count for name, count in report.languages.kept.items() if count} == {"de": 2, "ja": 1}


def test_a_language_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^spec\.data\.cleaning\.language\.keep\[1\]: 'xx' cannot be detected; "):
        report_on(tmp_path, [TEXTS["en"]], ["en", "xx"])
