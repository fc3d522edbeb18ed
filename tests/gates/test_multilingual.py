"""A small language gains from temperature, and a domain from a stage of its own; what others lose by it is told.

The second language says what English says, with every letter moved on by 13 places: the same structure, and not a word
in common (K et al., 2020, "Cross-Lingual Ability of Multilingual BERT", call such a language Fake English).
"""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from pretune_trainer.result import RankResult
from support.jobs import pretrain, write_rows
from support.language import paragraphs
from support.measured import Measured

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
}


def test_temperature_lowers_the_perplexity_of_a_small_language(tmp_path: Path, measured: Measured) -> None:
    found = {temperature: languages(tmp_path / str(temperature), temperature) for temperature in (1.0, 5.0)}
    for temperature, figures in found.items():
        measured({f"{name} at temperature {temperature}": figure for name, figure in figures.items()})
    assert found[5.0]["language=xx"] < 0.95 * found[1.0]["language=xx"]
    assert found[5.0]["language=en"] < 1.1 * found[1.0]["language=en"]


def languages(folder: Path, temperature: float) -> dict[str, float]:
    """Perplexity per byte of each language, where the second one has a twentieth of the texts."""
    texts = prose()
    train = [*of_language("en", texts[:1600]), *of_language("xx", texts[1600:1680])]
    judged = [*of_language("en", texts[-100:]), *of_language("xx", texts[-100:])]
    result = learn(
        folder,
        150,
        data__train=[{"uri": write_rows(folder / "train.jsonl", iter(train))}],
        data__mixture={"temperature": temperature, "column": "language"},
        data__validation={"sources": [{"uri": write_rows(folder / "validation.jsonl", iter(judged))}]},
        evaluation={"metrics": ["perplexityPerByte"], "slices": ["language"]},
    )
    return by_slice(result)


def of_language(language: str, texts: list[str]) -> Iterator[dict[str, str]]:
    for text in texts:
        yield {"text": codecs.encode(text, "rot13") if language == "xx" else text, "language": language}


def test_a_domain_stage_lowers_the_perplexity_of_its_domain_and_tells_what_it_costs(
    tmp_path: Path, measured: Measured
) -> None:
    texts, code = prose(), modules()
    judged = [
        {"uri": uri_of(tmp_path / "prose.jsonl", texts[-100:]), "values": {"domain": "prose"}},
        {"uri": uri_of(tmp_path / "code.jsonl", code[:100]), "values": {"domain": "code"}},
    ]
    same: dict[str, Any] = {
        "data__validation": {"sources": judged},
        "evaluation": {"metrics": ["perplexityPerByte"], "slices": ["domain"], "baseline": True},
    }
    general = learn(tmp_path, 150, data__train=[{"uri": uri_of(tmp_path / "general.jsonl", texts[:1800])}], **same)
    domain = {
        "model": {"from": {"uri": general.artifact_uri, "digest": general.artifact_digest}},
        "data__train": [{"uri": uri_of(tmp_path / "domain.jsonl", code[100:1500])}],
        **same,
    }
    found = {
        "general": by_slice(general),
        "domain": by_slice(learn(tmp_path / "plain", 100, tokenizer=None, **domain)),
        "domain, 256 tokens added": by_slice(
            learn(tmp_path / "adapted", 100, tokenizer={"adapt": {"tokens": 256}}, **domain)
        ),
    }
    for stage, figures in found.items():
        measured({f"{name} after {stage}": figure for name, figure in figures.items()})
    for stage in ("domain", "domain, 256 tokens added"):
        assert found[stage]["domain=code"] < 0.8 * found["general"]["domain=code"]
        assert found[stage]["domain=prose"] > found["general"]["domain=prose"]


def learn(folder: Path, steps: int, **changes: Any) -> RankResult:
    torch.set_num_threads(1)
    given = {
        "model": {"architecture": {"type": "llama", "config": LLAMA}},
        "training__max_steps": steps,
        "training__tokens_per_step": 1024,
        "training__learning_rate": 5e-3,
        "training__warmup_steps": 10,
        "checkpoint__every_steps": 10_000,
        **changes,
    }
    return run_rank(pretrain(folder, **given), Ranks(), Silent())


def by_slice(result: RankResult) -> dict[str, float]:
    """Perplexity per byte of each slice."""
    return {name.partition("/")[2]: value for name, value in result.metrics.items() if "/" in name}


def uri_of(path: Path, texts: list[str]) -> str:
    return write_rows(path, ({"text": text} for text in texts))


def prose() -> list[str]:
    """Different paragraphs of the language reference."""
    return list(dict.fromkeys(paragraphs()))


def modules() -> list[str]:
    """Pieces of modules of Python's standard library, of 600 characters."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    whole = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    return [whole[start : start + 600] for start in range(0, 600 * 1500, 600)]
