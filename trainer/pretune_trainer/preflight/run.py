"""The order of the checks, and what each needs of the ones before."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from pretune_api.model import Architecture
from pretune_api.run_config import RunConfig
from pretune_trainer.data.example import Example
from pretune_trainer.data.holdout import split_key
from pretune_trainer.data.inputs import DataSource, data_sources
from pretune_trainer.inputs import Design, Vocabulary
from pretune_trainer.model.origin import Source
from pretune_trainer.parents import FoundParent
from pretune_trainer.preflight.checks import (
    Sample,
    check_batch,
    check_memory,
    check_model,
    check_parent,
    check_rows,
    check_storage,
    check_task,
    check_tokenizer,
    check_validation,
    check_whole_spec,
    read_source,
)
from pretune_trainer.preflight.findings import Checked, Checks, Finding

_AT_ONCE: Final = 16
"""Sources read at once: one whose store does not answer is given up after most of a minute."""


def preflight(config: RunConfig, waiting: Collection[str] = ()) -> list[Finding]:
    """Everything that can be known of a run before it starts, in the order in which it would matter. Raises nothing.

    Of the sources the first rows are read alone, of a parent every byte; nothing is left in the storage. `waiting` are
    jobs, as KIND/NAME, whose artifacts are not there yet: what depends on them is not known.
    """
    checks = Checks()
    sources = data_sources(config.data, split_key(config.learn))
    checks.make("storage", "spec.storage.uri", lambda: check_storage(config))
    checks.make("spec", "spec", lambda: check_whole_spec(config))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        reading = [pool.submit(read_source, config, source, number) for number, source in enumerate(sources)]
        samples = [
            checks.make("source", source.opened.where, read.result)
            for source, read in zip(sources, reading, strict=True)
        ]
    if only_judged := [source.opened.where for source in sources if source.is_only_judged]:
        checks.make("source", only_judged[0].partition("[")[0], lambda: check_validation(samples))
    start = _Start(config, checks, frozenset(waiting))
    vocabulary = start.vocabulary(sources, samples)
    task = checks.make("task", f"spec.{config.part}", lambda: check_task(config, start.origin(), vocabulary.get()))
    model = checks.make("model", "spec.model", lambda: check_model(task.get()))
    given = [
        checks.make("rows", source.opened.where, partial(_rows, task, sample))
        for source, sample in zip(sources, samples, strict=True)
    ]
    examples = [example for each in given for example in each.value or ()]
    batch = checks.make("batch", "spec.data", lambda: check_batch(task.get(), examples))
    checks.make("memory", "spec.compute", lambda: check_memory(task.get(), model.get(), batch.get()))
    return checks.findings


def _rows(task: Checked[Design], sample: Checked[Sample]) -> tuple[list[Example], str]:
    return check_rows(task.get(), sample.get())


class _Start:
    """What training starts from: a parent, if there is one, and a tokenizer, if text is read."""

    def __init__(self, config: RunConfig, checks: Checks, waiting: frozenset[str]) -> None:
        self._config, self._checks, self._waiting = config, checks, waiting
        self._parent: Checked[FoundParent] | None = None
        if (parent := config.model.parent) is not None:
            where = "spec.model.from"
            self._parent = checks.make("parent", where, lambda: check_parent(config, parent, where, waiting))

    def origin(self) -> Architecture | Source:
        """Where the weights come from."""
        if self._parent is not None:
            return self._parent.get().source
        assert self._config.model.architecture is not None, "a model is new, or has a parent"
        return self._config.model.architecture

    def vocabulary(self, sources: Sequence[DataSource], samples: Sequence[Checked[Sample]]) -> Checked[Vocabulary]:
        """How text becomes tokens; nothing is checked where none is read."""
        if self._config.tokenizer is None:
            return Checked(Finding("tokenizer", True, "no text is read", "spec.tokenizer"), Vocabulary(None))
        learnt = [sample for source, sample in zip(sources, samples, strict=True) if not source.is_only_judged]
        return self._checks.make(
            "tokenizer", "spec.tokenizer", lambda: check_tokenizer(self._config, learnt, self._tokenizer_parent())
        )

    def _tokenizer_parent(self) -> FoundParent | None:
        tokenizer = self._config.tokenizer
        assert tokenizer is not None, "text is read"
        parent = tokenizer.adapt.parent if tokenizer.adapt is not None else tokenizer.parent
        if parent is None:
            return None
        if self._parent is not None and parent == self._config.model.parent:
            return self._parent.get()
        return check_parent(self._config, parent, "spec.tokenizer", self._waiting)[0]
