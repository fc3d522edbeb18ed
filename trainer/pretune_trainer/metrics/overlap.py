"""How much of a text is in another: ROUGE, BLEU, chrF and distinct-n, as counts that can be added up.

ROUGE is that of rouge-score without stemming (Lin, 2004), but for letters beyond a to z, which that leaves out; in
scripts without spaces a character is a word. BLEU and chrF are those of sacrebleu (Post, 2018) with its default
tokenizer 13a, for which Chinese, Japanese and Thai have no words: there chrF is the figure to look at. Tests hold them
to these libraries.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.sequences import longest_common
from pretune_trainer.words import UNSPACED, word_pattern

Counts = NDArray[np.int64]

_BLEU_ORDER: Final = 4
_CHRF_ORDER: Final = 6
_CHRF_BETA: Final = 2.0
_13A: Final = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""The rules of mteval-v13a: signs stand alone, but for dots and commas in numbers, and hyphens not after digits."""
_ENTITIES: Final = (
    ("<skipped>", ""),
    ("-\n", ""),
    ("\n", " "),
    ("&quot;", '"'),
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
)


@dataclass(frozen=True)
class Written:
    """A text that a model has written, and the one that was wanted."""

    text: str
    reference: str


class OverlapReport(Metric[Written]):
    """ROUGE is a mean over texts; BLEU, chrF and distinct-n are taken over all texts together."""

    known = {
        "exactMatch": True,
        "rouge1": True,
        "rouge2": True,
        "rougeL": True,
        "bleu": True,
        "chrf": True,
        "distinct1": True,
        "distinct2": True,
    }
    """bleu and chrf are from 0 to 100, as usual, all others to 1."""

    def __init__(self) -> None:
        self.texts = 0
        self.exact = 0
        self.rouge = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
        self.bleu = np.zeros((3, _BLEU_ORDER), np.int64)
        """Matches, n-grams written, n-grams wanted, by n; the first of the latter two are the lengths in words."""
        self.chrf = np.zeros((3, _CHRF_ORDER), np.int64)
        self.grams: tuple[set[tuple[str, ...]], set[tuple[str, ...]]] = (set(), set())
        """Different words and pairs of words written."""
        self.written = [0, 0]

    def update(self, outcomes: Sequence[Written]) -> None:
        """Count what the texts share."""
        for outcome in outcomes:
            self._add(outcome.text, outcome.reference)

    def _add(self, text: str, reference: str) -> None:
        self.texts += 1
        self.exact += text.strip() == reference.strip()
        said, wanted = _words(text), _words(reference)
        self.rouge["rouge1"] += _f1(*_shared(said, wanted, 1))
        self.rouge["rouge2"] += _f1(*_shared(said, wanted, 2))
        self.rouge["rougeL"] += _f1(longest_common(said, wanted), len(said), len(wanted))
        self.bleu += _overlap(_tokens_13a(text), _tokens_13a(reference), _BLEU_ORDER)
        characters = _overlap("".join(text.split()), "".join(reference.split()), _CHRF_ORDER)
        characters[1, characters[2] == 0] = 0  # chrF counts n-grams only where some are wanted
        self.chrf += characters
        for number, seen in enumerate(self.grams):
            grams = list(_grams(said, number + 1))
            seen.update(grams)
            self.written[number] += len(grams)

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.texts += other.texts
        self.exact += other.exact
        self.bleu += other.bleu
        self.chrf += other.chrf
        for name, value in other.rouge.items():
            self.rouge[name] += value
        for number, (seen, more) in enumerate(zip(self.grams, other.grams, strict=True)):
            seen |= more
            self.written[number] += other.written[number]

    def result(self) -> dict[str, float]:
        """Figures over all texts."""
        if not self.texts:
            return dict.fromkeys(self.known, math.nan)
        return {
            "exactMatch": self.exact / self.texts,
            **{name: total / self.texts for name, total in self.rouge.items()},
            "bleu": bleu(self.bleu),
            "chrf": chrf(self.chrf),
            **{
                f"distinct{number + 1}": len(seen) / max(1, self.written[number])
                for number, seen in enumerate(self.grams)
            },
        }


def bleu(counts: Counts) -> float:
    """BLEU from matches, n-grams written and wanted by n; a precision of 0 counts as 1 / 2^k, as sacrebleu smooths."""
    matches, written, wanted = counts.tolist()
    if not matches[0]:
        return 0.0
    logs, smooth = 0.0, 1.0
    for right, all_ in zip(matches, written, strict=True):
        if not all_:
            return 0.0
        if not right:
            smooth *= 2
        logs += math.log((right or 1 / smooth) / all_)
    brevity = min(0.0, 1.0 - wanted[0] / written[0])
    return 100.0 * math.exp(brevity + logs / _BLEU_ORDER)


def chrf(counts: Counts) -> float:
    """chrF2 from matches, character n-grams written and wanted by n (Popović, 2015).

    Precision and recall are means over those n of which there are any.
    """
    orders = [(right / written, right / wanted) for right, written, wanted in counts.T.tolist() if written and wanted]
    precision, recall = (sum(values) / len(orders) for values in zip(*orders, strict=True)) if orders else (0.0, 0.0)
    weighted = _CHRF_BETA**2 * precision + recall
    return 100.0 * (1 + _CHRF_BETA**2) * precision * recall / weighted if weighted else 0.0


def _tokens_13a(text: str) -> list[str]:
    """Words and signs as BLEU counts them."""
    for entity, meant in _ENTITIES:
        text = text.replace(entity, meant)
    text = f" {text} "
    for rule, replacement in _13A:
        text = rule.sub(replacement, text)
    return text.split()


def _words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case; characters, of scripts without spaces."""
    return _word().findall(text.lower().replace("_", " "))


@cache
def _word() -> re.Pattern[str]:
    return re.compile(word_pattern(UNSPACED))


def _grams(items: Sequence[str], order: int) -> Iterable[tuple[str, ...]]:
    return zip(*(items[start:] for start in range(order)), strict=False)


def _shared(said: Sequence[str], wanted: Sequence[str], order: int) -> tuple[int, int, int]:
    """n-grams that both have, that are written, that are wanted."""
    one, other = Counter(_grams(said, order)), Counter(_grams(wanted, order))
    return (one & other).total(), one.total(), other.total()


def _overlap(said: Sequence[str], wanted: Sequence[str], orders: int) -> Counts:
    return np.array([_shared(said, wanted, order) for order in range(1, orders + 1)], np.int64).T


def _f1(shared: int, written: int, wanted: int) -> float:
    return 2.0 * shared / (written + wanted) if shared else 0.0
