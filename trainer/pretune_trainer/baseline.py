"""What a language model makes of the validation data before it is trained, where it is asked in its prompt.

Found before the model that is trained takes up memory, and kept in the job's folder: later runs read it.
"""

import json
from dataclasses import asdict, replace
from typing import Final

import numpy as np

from pretune_api.base import Spec
from pretune_api.tasks import in_context_of
from pretune_trainer.data.few_shot import few_shot
from pretune_trainer.data.groups import grouping_of
from pretune_trainer.data.token_cache import TokenCache, token_cache
from pretune_trainer.data.tokenise import Tokenisation
from pretune_trainer.evaluate import Judgement
from pretune_trainer.inputs import Design, Inputs
from pretune_trainer.model.origin import Source, check_language_model, positions
from pretune_trainer.parallel import Ranks
from pretune_trainer.report import Reporter
from pretune_trainer.storage.runs import Run
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks.base import Context
from pretune_trainer.tasks.in_context import WHERE, InContext

_FILE_NAME: Final = "baseline.json"
_MIXED: Final = 5
"""Keeps the randomness of the order of what is shown apart from that of its draw."""


def in_context_design(made: Design) -> Design | None:
    """The parent as a language model, and what it is asked; None where it is not.

    Raises:
        UserError: it is no language model, or what it is to be shown does not fit into its positions.
    """
    if in_context_of(made.config.learn) is None:
        return None
    config, spec, origin = made.config, made.config.learn.value, made.build.origin
    assert isinstance(spec, Spec), "every task is a part of the API"
    assert isinstance(origin, Source), "the spec asks for a parent"
    check_language_model(origin, WHERE)
    length = positions(origin) or config.data.sequence_length
    context = Context(spec, made.build.text, length, packs=False, by_boundaries=False, seed=config.training.seed)
    return Design(config, replace(made.build, sequence_length=length, virtual_tokens=0), InContext(context))


def in_context_inputs(made: Design, inputs: Inputs, ranks: Ranks, reporter: Reporter) -> Inputs:
    """The data of `inputs` as `made` is asked it, examples shown. Collective.

    Raises:
        UserError: a label has fewer examples than are to be shown.
        StopRequestedError: asked to stop while the token cache was made.
    """
    config, task, asks = made.config, made.task, in_context_of(made.config.learn)
    assert isinstance(task, InContext), "`in_context_design` has made it"
    assert asks is not None, "`in_context_design` has made it"
    storage, grouping = Store.open(config.storage), grouping_of(config.data, config.evaluation)
    data = config.data.model_copy(update={"test": None})  # what is trained is tested, and not its parent
    tokenisation = Tokenisation(data, task, inputs.vocabulary_digest, clean=inputs.clean, grouping=grouping)
    cache = token_cache(tokenisation, storage, ranks, reporter.stop_requested)
    if asks.examples_per_class:
        _show(task, few_shot(cache, task, asks.examples_per_class, config.training.seed, f"{WHERE}.examplesPerClass"))
    return replace(inputs, build=made.build, task=task, cache=cache)


def _show(task: InContext, drawn: TokenCache) -> None:
    examples = [source.example(index) for source in drawn.train for index in range(len(source))]
    order = np.random.default_rng((task.seed, _MIXED)).permutation(len(examples))
    task.show(examples[at] for at in order)


def saved_baseline(run: Run, ranks: Ranks) -> Judgement | None:
    """What an earlier run has found; None if none has. Collective."""
    store = run.store
    found = ranks.once(lambda: store.get(_FILE_NAME) if store.exists(_FILE_NAME) else None)
    return None if found is None else Judgement(**json.loads(found))


def save_baseline(run: Run, ranks: Ranks, found: Judgement) -> None:
    """Write down what was found. Collective."""
    ranks.once(lambda: run.store.put(_FILE_NAME, json.dumps(asdict(found)).encode()))
