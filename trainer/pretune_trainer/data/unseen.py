"""Labels that a spec lists and no training example bears: a model says them at random, and no loss tells."""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from pretune_trainer.data.example import Example
from pretune_trainer.data.token_cache import TokenCache

_MOST_NAMED: Final = 20
"""Labels, in a sentence."""
_MOST_READ: Final = 200_000
"""Examples that are looked at: some seconds. Of more than that, nothing is claimed."""


class Labels(Protocol):
    """What is asked of a task."""

    listed_labels: Sequence[str]

    def labels_of(self, example: Example) -> Collection[int]:
        """Numbers of the labels that the example bears."""


def unseen_labels(cache: TokenCache, task: Labels) -> list[str]:
    """The labels that no training example bears, in order; none where there are too many examples to look at."""
    missing = set(range(len(task.listed_labels)))
    examples = (source.example(index) for source in cache.train for index in range(len(source)))
    for read, example in enumerate(examples):
        if not missing or read == _MOST_READ:
            return []
        missing.difference_update(task.labels_of(example))
    return [task.listed_labels[number] for number in sorted(missing)]


def unseen_sentence(labels: list[str], where: str) -> str:
    """What these labels mean for whoever wrote the field `where`, in a sentence."""
    names = ", ".join(f"'{label}'" for label in labels[:_MOST_NAMED])
    more = f" and {len(labels) - _MOST_NAMED} others" if len(labels) > _MOST_NAMED else ""
    return f"{where}: no training row has {names}{more}, which the model cannot learn; add rows, or remove it"
