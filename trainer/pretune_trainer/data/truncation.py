"""Examples that are longer than a row: counted while they are tokenised, told when a run starts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pretune_trainer.data.example import Array, Example

_ENOUGH: Final = 0.99
"""Share of the rows that a length should hold to be advised."""


class Truncated(dict[str, Array]):
    """What is left of an example that was longer than a row."""

    def __init__(self, example: Example, needed: int) -> None:
        super().__init__(example)
        self.needed = needed
        """Tokens of a row that would have held all of it."""


def fitted(example: Example, needed: int, length: int) -> Example:
    """The example as it is in a row of `length` tokens, where all of it needs so many."""
    return example if needed <= length else Truncated(example, needed)


def lengths_needed(examples: Iterable[Example]) -> Iterator[int]:
    """Of each that was truncated, the power of two that would have held it."""
    return (1 << (each.needed - 1).bit_length() for each in examples if isinstance(each, Truncated))


def truncation_sentence(truncated: Mapping[int, int], rows: int, length: int, most: int | None) -> str:
    """How many of so many rows were truncated to `length` tokens, and what would be right; empty where none was.

    `most` is how many tokens the model reads at once; None where nothing bounds it.
    """
    lost = sum(truncated.values())
    if not lost:
        return ""
    said = f"{lost:,} of {rows:,} rows ({share(lost, rows)}) are longer than spec.data.sequenceLength, {length} tokens"
    return f"{said}, and were truncated; {_advice(truncated, rows, most)}"


def _advice(truncated: Mapping[int, int], rows: int, most: int | None) -> str:
    lost, held = sum(truncated.values()), {}
    for needed in sorted(truncated):
        lost -= truncated[needed]
        if most is None or needed <= most:
            held[needed] = rows - lost
    if not held:
        return f"the model reads {most} at most"
    best = next((length for length, count in held.items() if count >= _ENOUGH * rows), max(held))
    advice = f"{best} would hold {100 * held[best] // rows}% of the rows"
    return advice if held[best] >= _ENOUGH * rows else f"{advice}, and the model reads {most} at most"


def share(part: int, whole: int) -> str:
    """A part as a percentage: never 0% of something."""
    return f"{part / whole:.1%}" if part >= whole / 1000 else "less than 0.1%"
