"""Tokens added to an existing tokenizer, for the words of another domain.

Byte pair encoding (Sennrich et al., 2016) goes on where the tokenizer has stopped: of the pairs of its tokens that
stand side by side in words, the most frequent becomes a token, again and again. Other text is encoded as before.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pretune_trainer.data.long_words import with_few_long_words
from pretune_trainer.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

ADDED_NAME: Final = "tokenizer_adaptation.json"
_WHERE: Final = "spec.tokenizer.adapt"
_LEAST_SEEN: Final = 2
"""Times that a pair must occur to become a token."""
_KINDS: Final = ("BPE", "WordPiece", "Unigram")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Added:
    """The tokens that were added."""

    first: int
    """Id of the first one; the others follow."""
    tokens: tuple[str, ...]
    """As the tokenizer writes them."""
    pieces: tuple[tuple[int, ...], ...]
    """What each consists of: ids of tokens that were there before."""

    def save(self, folder: Path) -> None:
        """Write it as JSON, as `load` reads it."""
        (folder / ADDED_NAME).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What was written into a folder."""
        document = json.loads((folder / ADDED_NAME).read_text())
        return cls(document["first"], tuple(document["tokens"]), tuple(map(tuple, document["pieces"])))


def adapt(parent: "PreTrainedTokenizerBase", texts: Iterator[str], count: int, folder: Path) -> None:
    """Write `parent`, with `count` tokens added that are frequent in `texts`, into a folder.

    Raises:
        UserError: the tokenizer cannot be extended, or the texts do not give so many tokens.
    """
    from tokenizers import Tokenizer

    backend = _backend(parent)
    document = json.loads(backend.to_str())
    prefix = document["model"].get("continuing_subword_prefix") or ""
    ordinary = backend.get_vocab().keys() - {token["content"] for token in document["added_tokens"]}
    learner = _Learner(_words(backend, texts, ordinary), set(backend.get_vocab()), prefix)
    merges = learner.merges(count)
    if len(merges) < count:
        raise UserError(
            f"{_WHERE}.tokens",
            f"{count} are too many for the training documents: they yield {len(merges)}; lower it, or add data",
        )
    added = _added(backend, merges, prefix)
    _extend(document, added, merges, learner)
    parent.save_pretrained(folder)
    Tokenizer.from_str(json.dumps(document)).save(str(folder / "tokenizer.json"))
    added.save(folder)


def _backend(parent: "PreTrainedTokenizerBase") -> "Tokenizer":
    backend: Tokenizer | None = getattr(parent, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ not in _KINDS or backend.pre_tokenizer is None:
        raise UserError(
            _WHERE, "the parent's tokenizer does not split text into words that BPE, WordPiece or Unigram encode"
        )
    return backend


def _words(backend: "Tokenizer", texts: Iterator[str], known: Set[str]) -> Iterator[tuple[list[str], int]]:
    """Each word of several tokens that are all `known`, as these, and how often it comes."""
    counts: Counter[str] = Counter()
    for text in with_few_long_words(texts):
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    for word, count in counts.items():
        tokens = [token.value for token in backend.model.tokenize(word)]
        if len(tokens) > 1 and all(token in known for token in tokens):
            yield tokens, count


def _joined(pair: Pair, prefix: str) -> str:
    return pair[0] + pair[1].removeprefix(prefix)


class _Learner:
    """Learns merges, the most frequent pair first; of equally frequent ones the first by name."""

    def __init__(self, words: Iterable[tuple[list[str], int]], known: set[str], prefix: str) -> None:
        self._words: list[list[str]] = []
        self._weights: list[int] = []
        for tokens, weight in words:
            self._words.append(tokens)
            self._weights.append(weight)
        self._known, self._prefix = known, prefix
        self.tokens = sum(len(word) * weight for word, weight in zip(self._words, self._weights, strict=True))
        """Tokens in all words, before the first merge."""
        self.seen: dict[Pair, int] = {}
        """How often each pair came when it was merged."""
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number in range(len(self._words)):
            self._count(number, 1)
        self._queue = [(-count, pair) for pair, count in self._counts.items()]
        heapify(self._queue)

    def merges(self, most: int) -> list[Pair]:
        """At most that many pairs that become tokens, in order."""
        while self._queue and len(self.seen) < most:
            count, pair = heappop(self._queue)
            if -count != self._counts[pair] or -count < _LEAST_SEEN:
                continue  # it has become rarer since, and stands in the queue again
            token = _joined(pair, self._prefix)
            if token not in self._known:
                self._known.add(token)
                self.seen[pair] = -count
                self._merge(pair, token)
        return list(self.seen)

    def _merge(self, pair: Pair, token: str) -> None:
        touched: set[Pair] = set()
        for number in list(self._places[pair]):
            touched |= self._count(number, -1)
            self._words[number] = _replaced(self._words[number], pair, token)
            touched |= self._count(number, 1)
        for each in touched:
            heappush(self._queue, (-self._counts[each], each))

    def _count(self, number: int, sign: int) -> set[Pair]:
        """Count the pairs of a word, or take them back."""
        pairs = list(pairwise(self._words[number]))
        for pair in pairs:
            self._counts[pair] += sign * self._weights[number]
            if sign > 0:
                self._places[pair].add(number)
            else:
                self._places[pair].discard(number)
        return set(pairs)


def _replaced(word: Sequence[str], pair: Pair, token: str) -> list[str]:
    found: list[str] = []
    for each in word:
        if found and (found[-1], each) == pair:
            found[-1] = token
        else:
            found.append(each)
    return found


def _added(backend: "Tokenizer", merges: Sequence[Pair], prefix: str) -> Added:
    known = backend.get_vocab()
    pieces: dict[str, tuple[int, ...]] = {token: (number,) for token, number in known.items()}
    tokens = [_joined(pair, prefix) for pair in merges]
    for token, (one, other) in zip(tokens, merges, strict=True):
        pieces[token] = pieces[one] + pieces[other]
    return Added(max(known.values()) + 1, tuple(tokens), tuple(pieces[token] for token in tokens))


def _extend(document: dict[str, Any], added: Added, merges: Sequence[Pair], learner: _Learner) -> None:
    """Write the tokens into a tokenizer's JSON document, behind all ids that it has given.

    Special tokens that stand beside the model's vocabulary are written into it too: they would be given other ids.
    """
    model = document["model"]
    beside = {token["content"]: token["id"] for token in document["added_tokens"]}
    if model["type"] == "Unigram":
        _extend_unigram(model["vocab"], beside, added, merges, learner)
        return
    model["vocab"].update(beside)
    model["vocab"].update({token: added.first + number for number, token in enumerate(added.tokens)})
    if model["type"] == "BPE":
        model["merges"] += [list(pair) for pair in merges]


def _extend_unigram(
    vocabulary: list[list[Any]], beside: dict[str, int], added: Added, merges: Sequence[Pair], learner: _Learner
) -> None:
    """Each token's log-probability is that of its pair, and in any case above that of its parts side by side."""
    by_number = {number: content for content, number in beside.items()}
    vocabulary += [[by_number[number], 0.0] for number in range(len(vocabulary), added.first)]
    scores: dict[str, float] = dict(vocabulary)
    for token, pair in zip(added.tokens, merges, strict=True):
        parts = scores[pair[0]] + scores[pair[1]]
        scores[token] = max(math.log(learner.seen[pair] / learner.tokens), parts + abs(parts) * 1e-3)
        vocabulary.append([token, scores[token]])
