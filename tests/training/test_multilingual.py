"""Languages of unequal size are mixed by temperature: by source, or by a column, as in XLM."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pretune_api.training import Evaluation
from pretune_trainer.data.example import Cursor, Layout
from pretune_trainer.data.groups import grouping_of
from pretune_trainer.data.order import tempered
from pretune_trainer.data.stream import Stream
from pretune_trainer.data.token_cache import TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation
from pretune_trainer.errors import UserError
from pretune_trainer.parallel import Ranks
from support.jobs import write_rows
from support.letters import Letters, data_of, store_at, text_of

SIZES = {"de": 8000, "fr": 1000, "ja": 200}
LAYOUT = Layout(length=16, packs=True)


def rows() -> Iterator[dict[str, str]]:
    """Texts of ten letters, in no order, each with its language."""
    for number in range(max(SIZES.values()) // 10):
        for language, size in SIZES.items():
            if number < size // 10:
                yield {"text": f"{language}{number:08d}", "language": language}


def by_column(folder: Path) -> list[dict[str, Any]]:
    """All languages in one file."""
    return [{"uri": write_rows(folder / "all.jsonl", rows())}]


def by_source(folder: Path) -> list[dict[str, Any]]:
    """A file for each language."""
    return [
        {"uri": write_rows(folder / f"{name}.jsonl", (row for row in rows() if row["language"] == name))}
        for name in SIZES
    ]


def by_values(folder: Path) -> list[dict[str, Any]]:
    """Two files of each language, which themselves do not say which it is."""
    return [
        {
            "uri": write_rows(
                folder / f"{name}{part}.jsonl",
                ({"text": row["text"]} for row in list(rows())[part::2] if row["language"] == name),
            ),
            "values": {"language": name},
        }
        for name in SIZES
        for part in (0, 1)
    ]


def cache_of(folder: Path, sources: list[dict[str, Any]], mixture: dict[str, Any]) -> TokenCache:
    data = data_of(*sources, mixture=mixture)
    task = Letters(layout=LAYOUT)
    store, grouping = store_at(folder / "store"), grouping_of(data, Evaluation())
    return token_cache(Tokenisation(data, task, "tokenizer", grouping=grouping), store, Ranks(), lambda: False)


def shares(cache: TokenCache, steps: int = 400) -> dict[str, float]:
    """Of the tokens that training reads, the share of each language."""
    read = islice(Stream(cache, LAYOUT, 1, 8).steps(Cursor()), steps)
    texts = [text_of(example) for step in read for pack in step.packs for example in pack.examples]
    counts = Counter(text[:2] for text in texts)
    return {language: counts[language] / counts.total() for language in SIZES}


def wanted(temperature: float) -> dict[str, float]:
    """q of Conneau and Lample, 2019."""
    powers = {language: (size / sum(SIZES.values())) ** (1 / temperature) for language, size in SIZES.items()}
    return {language: power / sum(powers.values()) for language, power in powers.items()}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 100.0])
@pytest.mark.parametrize(("sources", "column"), [(by_column, "language"), (by_source, None), (by_values, "language")])
def test_languages_come_as_often_as_their_temperature_says(
    tmp_path: Path, sources: Any, column: str | None, temperature: float
) -> None:
    mixture = {"temperature": temperature} | ({"column": column} if column else {})
    found = shares(cache_of(tmp_path, sources(tmp_path), mixture))
    assert found == pytest.approx(wanted(temperature), abs=0.02)


def test_a_kind_shares_its_weight_among_its_sources() -> None:
    weights = tempered([300, 100, 100], ["de", "de", "fr"], 2.0)
    assert weights[0] + weights[1] == pytest.approx(400**0.5)
    assert weights == pytest.approx([15.0, 5.0, 10.0])


def test_a_column_with_too_many_values_is_refused(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "a.jsonl", ({"text": "a text", "page": f"{number}"} for number in range(65)))
    with pytest.raises(UserError, match=r"^spec\.data\.mixture\.column: page: more than 64 different values, such as"):
        cache_of(tmp_path, [{"uri": uri}], {"temperature": 2.0, "column": "page"})
