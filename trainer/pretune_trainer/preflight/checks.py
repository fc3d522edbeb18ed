"""The checks, one by one: each returns what later ones need, and a sentence; or raises what the run would raise."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import torch

from pretune_api.model import Architecture, TokenizerTraining
from pretune_api.run_config import Parent, RunConfig
from pretune_api.tasks import text_columns
from pretune_trainer.baseline import in_context_design
from pretune_trainer.data.cleaning.language import check_languages
from pretune_trainer.data.corpus import document_of
from pretune_trainer.data.example import Example, Pack, Row, length_of
from pretune_trainer.data.groups import grouping_of
from pretune_trainer.data.inputs import DataSource
from pretune_trainer.data.readers import Unit, rows, units
from pretune_trainer.data.sources import SourceFile
from pretune_trainer.data.truncation import lengths_needed
from pretune_trainer.data.vocabulary import stand_in
from pretune_trainer.data.work import check_judged_only
from pretune_trainer.errors import PretuneError, StorageError, UserError
from pretune_trainer.inputs import (
    Design,
    Vocabulary,
    check_spec,
    design,
    load_tokenizer,
    naming_columns,
    tokenizer_form,
)
from pretune_trainer.methods import Tuned
from pretune_trainer.microbatch import check_whole
from pretune_trainer.model.origin import Source
from pretune_trainer.parallel import Ranks
from pretune_trainer.parents import FoundParent, find_parent
from pretune_trainer.preflight.findings import Checked, NotKnownError
from pretune_trainer.preflight.memory import activations, amount, held
from pretune_trainer.storage.store import Store
from pretune_trainer.tasks.base import Batch
from pretune_trainer.training_plan import early_stopping_sentence, rows_per_step, warmup_sentence

_FIRST_ROWS: Final = 64
"""Rows read of each source."""
_FOOTERS: Final = 16
"""Parquet files whose footers are read before their rows are."""
_FEWEST: Final = 2
"""Rows of a batch whose rows depend on each other: a batch normalisation knows no variance of one."""
_PROBE: Final = b"Pretune has tried whether it can write here, and may be deleted."


@dataclass(frozen=True)
class Sample:
    """What is read of a source before a run."""

    source: DataSource
    """The source."""
    number: int
    """Its place among all sources."""
    files: Sequence[SourceFile]
    """All its files."""
    rows: Sequence[Row]
    """Its first rows, with the columns that a tokenizer is trained on."""


def check_storage(config: RunConfig) -> tuple[Store, str]:
    """Write below the job's folder, read it back, and delete it."""
    store = Store.open(config.storage)
    job, name = store.child(config.job.folder), f".preflight-{secrets.token_hex(8)}"
    job.put(name, _PROBE)
    if job.get(name) != _PROBE:
        raise StorageError(f"{job.uri}/{name}: what was read is not what was written; check the health of the store")
    job.delete(name)
    puts = "has" if job.guarantees_create else "has no"
    return store, f"{job.uri} can be written, read and deleted; the store {puts} conditional puts"


def check_whole_spec(config: RunConfig) -> tuple[int, str]:
    """The rows of a step; what does not go together is refused."""
    check_spec(config)
    cleaning = config.data.cleaning
    if cleaning is not None and cleaning.language is not None:
        check_languages(cleaning.language.keep)
    rows = rows_per_step(config)
    return rows, "; ".join([f"{rows} rows a step, on {config.ranks} ranks", *_in_vain(config)])


def _in_vain(config: RunConfig) -> list[str]:
    """What has no effect in so few steps, in sentences, where the spec alone says how many there are."""
    total = config.training.max_steps
    if total is None or config.training.epochs is not None:
        return []
    return list(filter(None, (warmup_sentence(config.training, total), early_stopping_sentence(config, total))))


def read_source(config: RunConfig, source: DataSource, number: int) -> tuple[Sample, str]:
    """A source's files, and its first rows."""
    files = source.opened.files()
    found = _first_rows(source, number, files, text_columns(config.learn))
    where, uri = f"{source.opened.where}.uri", source.opened.source.uri
    if not found:
        raise UserError(where, f"{uri} is empty: its files have no rows")
    size = amount(sum(file.size for file in files))
    said = f"{uri}: {len(files)} files of {size}; its first {len(found)} rows can be read"
    return Sample(source, number, files, found), said


def check_validation(samples: Sequence[Checked[Sample]]) -> tuple[bool, str]:
    """Whether the own files of validation and test are none that is learnt from; there is a sample of every source."""
    read = [sample.get() for sample in samples]
    check_judged_only([sample.source for sample in read], [sample.files for sample in read])
    return True, "none of their files serves as anything else"


def _first_rows(source: DataSource, number: int, files: Sequence[SourceFile], columns: Sequence[str]) -> list[Row]:
    """The first rows of a source; no more is read than they take."""
    found = (rows(source.opened, unit, columns) for unit in _units(source, number, files))
    return list(islice(chain.from_iterable(found), _FIRST_ROWS))


def _units(source: DataSource, number: int, files: Sequence[SourceFile]) -> Iterator[Unit]:
    parquet = [file for file in files if file.format == "parquet"]
    yield from units(source.opened, number, [file for file in files if file.format != "parquet"])
    for start in range(0, len(parquet), _FOOTERS):
        yield from units(source.opened, number, parquet[start : start + _FOOTERS])


def check_parent(config: RunConfig, parent: Parent, where: str, waiting: frozenset[str]) -> tuple[FoundParent, str]:
    """An existing model, all of it read and verified; its weights stay where they are."""
    if parent.folder is not None and parent.folder.job in waiting:
        raise NotKnownError(f"not known before {parent.folder.job} has finished")
    found = find_parent(parent, config.storage, Ranks(), where, "verified")
    if parent.folder is None:
        return found, f"{found.source.name} at {found.source.revision}"
    return found, f"{parent.folder.uri} is intact: {found.digest}"


def check_tokenizer(
    config: RunConfig, samples: Sequence[Checked[Sample]], parent: FoundParent | None
) -> tuple[Vocabulary, str]:
    """The tokenizer; or one that stands in for it, from samples of the training sources."""
    assert config.tokenizer is not None, "text is read"
    if config.tokenizer.train is not None:
        rows = [row for sample in samples if sample.value for row in sample.value.rows]
        return _stand_in(config, config.tokenizer.train, rows or samples[0].get().rows)
    assert parent is not None, "a tokenizer that is not trained comes from somewhere"
    tokenizer = load_tokenizer(parent.source)
    adapted = config.tokenizer.adapt
    later = f"; the {adapted.tokens} tokens to add will be taken from all of the data" if adapted else ""
    return Vocabulary(tokenizer), f"it has {len(tokenizer)} entries{later}"


def _stand_in(config: RunConfig, training: TokenizerTraining, rows: Sequence[Row]) -> tuple[Vocabulary, str]:
    columns = text_columns(config.learn)
    texts = (
        document_of(row, [column for column in columns if column in row.values])  # its task tells what lacks
        for row in rows
        if row.value(row.column) is not None
    )
    tokenizer = stand_in(training, texts, config.data.sequence_length, tokenizer_form(config))
    said = f"a {training.algorithm} of {training.vocab_size} entries can be trained, if all of the data yields as many"
    return Vocabulary(tokenizer), said


def check_task(config: RunConfig, origin: Architecture | Source, vocabulary: Vocabulary) -> tuple[Design, str]:
    """What is learnt, and how the model is made."""
    made = design(config, origin, vocabulary, torch.device(config.device))
    in_context_design(made)
    return made, f"{config.stage} fits the tokenizer; it measures {', '.join(made.task.metrics_known)}"


def check_model(made: Design) -> tuple[Tuned, str]:
    """The model as its method trains it, on the meta device."""
    with torch.device("meta"):
        tuned = made.make_model()
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in tuned.model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    kind = tuned.model.config.model_type
    return tuned, f"{kind}: {sum(size for size, _ in sizes):,} parameters, {trained:,} of them trained"


def check_rows(made: Design, sample: Sample) -> tuple[list[Example], str]:
    """The examples of a source's first rows, which are read anew where the task needs other columns."""
    grouping, source = grouping_of(made.config.data, made.config.evaluation), sample.source
    columns = [*made.task.columns, *grouping.columns]
    found = _first_rows(source, sample.number, sample.files, columns) if columns else sample.rows
    kept = [row for row in found if row.values.get(row.column, "") is not None]
    with naming_columns(made.config):
        for row in kept:
            grouping.of(row, source.side_of(row))
        examples = list(chain.from_iterable(made.task.examples(kept)))
    if not examples:
        raise NotKnownError(f"nothing can be learned from its first {len(found)} rows: {made.task.nothing_learnt}")
    return examples, f"{len(found)} rows yield {len(examples)} examples{_truncated(made, examples)}"


def _truncated(made: Design, examples: Sequence[Example]) -> str:
    """How many of them are too long, where the tokenizer is the one of the run, and none that stands in for it."""
    tokenizer, count = made.config.tokenizer, sum(1 for _ in lengths_needed(examples))
    known = tokenizer is not None and tokenizer.parent is not None
    return f", {count} of them truncated to {made.task.layout.length} tokens" if known and count else ""


def check_batch(made: Design, examples: Sequence[Example]) -> tuple[Batch, str]:
    """The longest example as a batch: once, or twice where the rows of a batch depend on each other."""
    if not examples:
        raise NotKnownError("not known without an example")
    batch = made.task.batch([Pack((max(examples, key=length_of),))] * _rows_tried(made))
    tensors = {name: value for name, value in batch.inputs.items() if isinstance(value, torch.Tensor)}
    return batch, ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())


def _rows_tried(made: Design) -> int:
    return _FEWEST if made.task.couples_rows else 1


def check_memory(made: Design, tuned: Tuned, batch: Batch) -> tuple[int, str]:
    """What each device must hold at least, and the host that makes the model. The model is used up."""
    config, host = made.config, _host(made, tuned)
    rows, length = _rows_at_once(made), made.task.layout.length
    found = held(tuned, config.training, config.ranks, accumulates=rows < _most_rows(config))
    parts = {"weights": found.weights, "gradients": found.gradients, "optimizer": found.optimizer}
    if config.ranks > 1:
        parts["gathered from other ranks"] = found.gathered
    total = sum(parts.values())
    said = ", ".join(f"{name} {amount(size)}" for name, size in parts.items())
    kept = _activations(made, tuned, batch)
    place = "GPU" if config.device == "cuda" else "rank"
    if kept is None:
        return total, f"at least {amount(total)} per {place}: {said}; activations not included{host}"
    kept *= rows
    size = f"{rows} row of {length}" if rows == 1 else f"{rows} rows of {length}"
    said = f"{said}, activations of {size} {amount(kept)}"
    return total + kept, f"at least {amount(total + kept)} per {place}: {said}{host}"


def _host(made: Design, tuned: Tuned) -> str:
    """What the host of rank 0 must hold, where that is not what its device holds."""
    whole = sum(tensor.nbytes for tensor in tuned.model.parameters())
    return f"; the host of rank 0 makes the model in {amount(whole)}" if made.config.device == "cuda" else ""


def _rows_at_once(made: Design) -> int:
    """Rows that a rank must compute at once: one, unless they are compared with each other, or more are asked for."""
    config = made.config
    most, asked = _most_rows(config), config.training.micro_batch_rows
    if made.task.couples_rows:
        check_whole(asked, most)
        return most
    return min(asked or 1, most)


def _most_rows(config: RunConfig) -> int:
    """Rows that a rank has in a step."""
    return -(-rows_per_step(config) // config.ranks)


def _activations(made: Design, tuned: Tuned, batch: Batch) -> int | None:
    """Bytes that one row of full length keeps; None for a model or loss that needs to see numbers."""
    try:
        kept = activations(tuned, made.task, batch, made.config.training, made.config.ranks) // _rows_tried(made)
    except PretuneError:
        raise
    except Exception:  # tensors without content refuse in many ways
        return None
    widths = [value.shape[1] for name, value in batch.inputs.items() if name.endswith("input_ids")]
    # Padded rows are as long as the longest that was seen; what is kept grows with their length.
    return kept * max(*widths, made.task.layout.length) // max(widths) if widths else kept
