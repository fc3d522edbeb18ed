"""Learning from a few examples of each class, drawn at random: few-shot learning."""

from collections.abc import Sequence
from copy import copy
from typing import Final, Protocol

import numpy as np

from pretune_trainer.data.example import Example
from pretune_trainer.data.token_cache import TokenCache
from pretune_trainer.data.views import Chosen
from pretune_trainer.errors import UserError

_DRAW: Final = 4
"""Keeps the randomness of the draw apart from that of the order."""
WHERE: Final = "spec.data.examplesPerClass"
"""The field that asks for few-shot learning."""


class Classifies(Protocol):
    """What the draw needs to know of a task."""

    classes: Sequence[str]

    def class_of(self, example: Example) -> int:
        """Number of the example's class."""


def few_shot(cache: TokenCache, task: Classifies, count: int, seed: int, where: str = WHERE) -> TokenCache:
    """The cache with `count` training examples of each class of `task`, the same wherever they are drawn.

    `where` is the field that says how many.

    Raises:
        UserError: the task has no classes, or a class has fewer examples.
    """
    places = [(number, index) for number, source in enumerate(cache.train) for index in range(len(source))]
    drawn: dict[str, list[tuple[int, int]]] = {name: [] for name in task.classes}
    if not drawn:
        raise UserError(where, "this task has no classes to sample examples of; remove it")
    missing = count * len(drawn)
    for at in np.random.default_rng((seed, _DRAW)).permutation(len(places)):
        if not missing:
            break
        source, index = places[at]
        mine = drawn[task.classes[task.class_of(cache.train[source].example(index))]]
        if len(mine) < count:
            mine.append((source, index))
            missing -= 1
    _check(drawn, count, where)
    return _only(cache, sorted(place for mine in drawn.values() for place in mine))


def _check(drawn: dict[str, list[tuple[int, int]]], count: int, where: str) -> None:
    for name, places in drawn.items():
        if len(places) < count:
            raise UserError(where, f"'{name}' has {len(places)} training examples, but {count} are requested; lower it")


def _only(cache: TokenCache, places: Sequence[tuple[int, int]]) -> TokenCache:
    """The cache with these training examples alone; sources of none are left out."""
    chosen = copy(cache)
    indices = [
        np.array([at for source, at in places if source == number], np.int64) for number in range(len(cache.train))
    ]
    kept = [number for number, mine in enumerate(indices) if len(mine)]
    chosen.train = [Chosen(cache.train[number], indices[number]) for number in kept]
    chosen.weights = [cache.weights[number] for number in kept]
    return chosen
