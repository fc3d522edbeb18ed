"""Exact match and F1 of answers, defined as in SQuAD (Rajpurkar et al., 2016, 2018)."""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from pretune_trainer.metrics.base import Metric, mean
from pretune_trainer.metrics.exhibits import Exhibits, Samples

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)

_OR: Final = " | "
"""Between the right answers of a question, where they are shown."""


@dataclass(frozen=True)
class Answer:
    """What a model answers to a question, having read one window of its text."""

    question: int
    """Names the question, over all windows and ranks."""
    expected: tuple[str, ...]
    """Every right answer; none where the question has none."""
    text: str
    """The likeliest span of the window."""
    score: float
    """Log-odds of it."""
    none_score: float
    """Log-odds of there being no answer in the window."""
    loss: float
    """The window's."""


class AnswerReport(Metric[Answer]):
    """The best answer of a question's windows against the right ones: the one that it is most like counts."""

    known = {"loss": False, "exactMatch": True, "f1": True}
    """The loss is the mean over windows."""

    def __init__(self, *, unanswerable: bool) -> None:
        self.unanswerable = unanswerable
        """Whether "there is none" is an answer."""
        self.loss = 0.0
        self.windows = 0
        self.answers: dict[int, Answer] = {}
        """The best answer of each question so far; its none_score is the least of all windows."""

    def update(self, outcomes: Sequence[Answer]) -> None:
        """Keep the best answer of each question."""
        self.loss += math.fsum(outcome.loss for outcome in outcomes)
        self.windows += len(outcomes)
        for outcome in outcomes:
            self._keep(outcome)

    def merge(self, other: Self) -> None:
        """Keep the better answer of each question."""
        self.loss += other.loss
        self.windows += other.windows
        for answer in other.answers.values():
            self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        known = self.answers.setdefault(answer.question, answer)
        best = max(known, answer, key=lambda each: (each.score, each.text))
        self.answers[answer.question] = replace(best, none_score=min(known.none_score, answer.none_score))

    def result(self) -> dict[str, float]:
        """Shares from 0 to 1."""
        said = [(self._said(answer), answer.expected or ("",)) for answer in self.answers.values()]
        count = len(said)
        exact = sum(max(exact_match(text, right) for right in expected) for text, expected in said)
        f1 = math.fsum(max(word_f1(text, right) for right in expected) for text, expected in said)
        return {
            "loss": mean(self.loss, self.windows),
            "exactMatch": mean(exact, count),
            "f1": mean(f1, count),
        }

    def exhibits(self) -> Exhibits:
        """Some of the answers."""
        samples = Samples()
        for answer in self.answers.values():
            samples.add(_OR.join(answer.expected), self._said(answer))
        return Exhibits(samples=samples.chosen())

    def _said(self, answer: Answer) -> str:
        return "" if self.unanswerable and answer.none_score > answer.score else answer.text


def _normalised(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(text: str, right: str) -> bool:
    """Whether two answers are the same once normalised."""
    return _normalised(text) == _normalised(right)


def word_f1(text: str, right: str) -> float:
    """Harmonic mean of precision and recall of words; 1 where neither has any."""
    said, expected = _normalised(text).split(), _normalised(right).split()
    if not said or not expected:
        return float(said == expected)
    common = sum((Counter(said) & Counter(expected)).values())
    return 2.0 * common / (len(said) + len(expected))
