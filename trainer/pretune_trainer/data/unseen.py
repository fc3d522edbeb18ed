"""Labels that a spec lists and no training example bears: a model says them at random, and no loss tells."""

from typing import Any, Final

from pretune_trainer.data.token_cache import TokenCache
from pretune_trainer.tasks.base import Task

_MOST_NAMED: Final = 20
"""Labels, in a sentence."""


def unseen_labels(cache: TokenCache, task: Task[Any]) -> list[str]:
    """The labels that no training example bears, in order. Examples are read until each label was seen."""
    missing = set(range(len(task.listed_labels)))
    for source in cache.train:
        for index in range(len(source)):
            if not missing:
                return []
            missing.difference_update(task.labels_of(source.example(index)))
    return [task.listed_labels[number] for number in sorted(missing)]


def told(labels: list[str], where: str) -> str:
    """What these labels mean for whoever wrote the field `where`, in a sentence."""
    names = ", ".join(f"'{label}'" for label in labels[:_MOST_NAMED])
    more = f" and {len(labels) - _MOST_NAMED} others" if len(labels) > _MOST_NAMED else ""
    return f"{where}: no training row has {names}{more}, which the model cannot learn; add rows, or leave it out"
