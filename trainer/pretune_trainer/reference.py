"""What the model made of every example before it was trained, for tasks that compare it with itself.

Computed once, on the weights that training starts from, by all ranks, and kept in the job's folder: later runs read it.
"""

import io
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretune_trainer.batches import pinned
from pretune_trainer.data.example import Array, Pack
from pretune_trainer.data.npy import npy
from pretune_trainer.data.token_cache import SourceExamples
from pretune_trainer.data.views import Extended
from pretune_trainer.errors import StopRequestedError
from pretune_trainer.inputs import Inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.step import Step, autocast, judging
from pretune_trainer.stopping import StopVote
from pretune_trainer.storage.runs import Run

_ROWS: Final = 8
"""Examples computed at once: without gradients, that takes little memory."""


def with_reference(inputs: Inputs, step: Step, ranks: Ranks, run: Run, vote: StopVote) -> Inputs:
    """The same, with what `step`, as yet untrained, makes of each example beside it, if its task compares. Collective.

    Raises:
        StopRequestedError: asked to stop meanwhile.
    """
    if not inputs.task.compares:
        return inputs
    sources = [*inputs.cache.train, *inputs.cache.validation, *inputs.cache.test]
    key = sha256(f"{inputs.model_digest} {inputs.cache.digest} {inputs.config.training.precision}".encode())
    name = f"reference/{key.hexdigest()}.npy"
    known = ranks.once(lambda: run.store.get(name) if run.store.exists(name) else None)
    if known is None:
        table = _computed(inputs, step, ranks, vote, sources)
        ranks.once(lambda: run.store.put(name, npy(table)))
    else:
        table = np.load(io.BytesIO(known), allow_pickle=False)
    ends = np.cumsum([len(source) for source in sources])[:-1]
    beside: list[SourceExamples] = [
        Extended(source, {"reference": part}) for source, part in zip(sources, np.split(table, ends), strict=True)
    ]
    cache, first, last = copy(inputs.cache), len(inputs.cache.train), len(sources) - len(inputs.cache.test)
    cache.train, cache.validation, cache.test = beside[:first], beside[first:last], beside[last:]
    return replace(inputs, cache=cache)


def _computed(
    inputs: Inputs, step: Step, ranks: Ranks, vote: StopVote, sources: Sequence[SourceExamples]
) -> NDArray[np.float32]:
    """float32 [examples of all sources, figures of each], on every rank."""
    found: list[Array] = []
    with judging(step), autocast(inputs.config.training, ranks):
        for packs in _shared(sources, ranks):
            outcomes = step.evaluate(pinned(inputs.task.batch(packs), ranks).to(ranks.device))
            found += [inputs.task.reference(outcome) for outcome in outcomes]
            if vote.now():
                raise StopRequestedError("stopped as requested before training began")
    shares = ranks.gather(np.stack(found) if found else None)
    table = np.empty((sum(map(len, sources)), next(part.shape[1] for part in shares if part is not None)), np.float32)
    for rank, part in enumerate(shares):
        if part is not None:
            table[rank :: ranks.size] = part
    return table


def _shared(sources: Sequence[SourceExamples], ranks: Ranks) -> Iterator[list[Pack]]:
    """This rank's share of all examples, every `size`-th; every rank has as many batches."""
    places = [(source, index) for source in sources for index in range(len(source))]
    mine = places[ranks.rank :: ranks.size]
    for start in range(0, -(-len(places) // ranks.size), _ROWS):
        packs = [Pack((source.example(index),)) for source, index in mine[start : start + _ROWS]]
        yield packs or [Pack()]
