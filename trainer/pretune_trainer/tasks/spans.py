"""Taking spans out of a text, as T5 and BART do it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from pretune_trainer.tasks.masking import Ids


@dataclass(frozen=True)
class Spans:
    """Spans of a text, in order; they do not overlap."""

    starts: Ids
    """First place of each, int64 [spans]."""
    lengths: Ids
    """Tokens of each, int64 [spans]; 0 where nothing is taken out between two tokens."""

    @classmethod
    def segmented(cls, tokens: int, rate: float, mean: float, random: np.random.Generator) -> Self:
        """T5's spans: as many, of as many tokens together, as rate and mean length say, and at least one token.

        What is kept and what is taken are cut at random into equally many parts, which take turns: a text begins with
        what is kept and ends with a span. `random_spans_noise_mask` of T5 (Raffel et al., 2020) is the model of this.
        """
        taken, spans = segments(tokens, rate, mean)
        lengths, kept = _parts(taken, spans, random), _parts(tokens - taken, spans, random)
        return cls(np.cumsum(kept) + np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def poisson(cls, tokens: int, rate: float, mean: float, random: np.random.Generator) -> Self:
        """BART's spans (Lewis et al., 2020): lengths are Poisson distributed until the rate is reached; 0 is a length.

        They lie apart where there is room between them.
        """
        taken = min(tokens, max(1, round(tokens * rate)))
        lengths = np.zeros(0, np.int64)
        while lengths.sum() < taken:
            lengths = np.append(lengths, random.poisson(mean))
        lengths[-1] -= lengths.sum() - taken
        room = tokens - taken + 1
        gaps = np.sort(random.choice(room, len(lengths), replace=len(lengths) > room))
        return cls(gaps + np.cumsum(lengths) - lengths, lengths)

    def kept(self, ids: Ids) -> list[Ids]:
        """What stands before each span, and what stands behind the last."""
        ends = [0, *(self.starts + self.lengths).tolist()]
        return [ids[end:start] for end, start in zip(ends, [*self.starts.tolist(), len(ids)], strict=True)]

    def taken(self, ids: Ids) -> list[Ids]:
        """What stands in each span."""
        return [ids[start : start + length] for start, length in zip(self.starts, self.lengths, strict=True)]


def segments(tokens: int, rate: float, mean: float) -> tuple[int, int]:
    """Tokens that T5 takes out of a text of so many (at least 2), and the number of its spans."""
    taken = min(max(round(tokens * rate), 1), tokens - 1)
    return taken, max(1, min(round(taken / mean), taken, tokens - taken))


def longest_text(room: int, rate: float, mean: float) -> int:
    """Tokens of the longest text of which T5 leaves at most `room`, sentinels included: 0.15 and 3 give 568 for 511."""
    tokens = 2
    while _left(tokens + 1, rate, mean) <= room:
        tokens += 1
    return tokens


def _left(tokens: int, rate: float, mean: float) -> int:
    taken, spans = segments(tokens, rate, mean)
    return tokens - taken + spans


def _parts(total: int, parts: int, random: np.random.Generator) -> Ids:
    """`total` as a sum of numbers from 1 on, every such sum as likely: int64 [parts]."""
    cuts = np.sort(random.choice(np.arange(1, total), parts - 1, replace=False)) if parts > 1 else np.zeros(0, np.int64)
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
