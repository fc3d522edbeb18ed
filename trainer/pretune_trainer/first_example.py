"""The first training example as the model sees it: a wrong template, a label cut off, an answer that is left out show
here before any metric tells of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pretune_trainer.data.example import Pack
from pretune_trainer.inputs import Inputs
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import PLACES, Batch

_MOST: Final = 600
"""Characters that are shown, about."""
_LEAST: Final = 40
"""Of each part: one that is longer loses its middle. Where parts are too many, those in the middle are left out."""
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class _Row:
    """A row of tokens that the model reads."""

    ids: Ids
    learnt: Flags
    """Which are learnt where they stand: bool [n]."""
    wanted: Mapping[int, str]
    """What is learnt at the place of a token, where that is something else: the word that it hides, its label."""


def first_example(inputs: Inputs, labels: Mapping[int, str]) -> str:
    """The first example of the training data, as text; empty where no text is read.

    `labels` are the classes' names, by number.
    """
    cache, task, text = inputs.cache, inputs.task, inputs.build.text
    if text is None:
        return ""
    source = next(source for source in cache.train if len(source))
    places = [0, 1 % len(source)] if task.layout.accompanied else [0]
    return as_seen(task.batch([Pack(tuple(source.example(place) for place in places))]), text, labels)


def as_seen(batch: Batch, text: PreTrainedTokenizerBase, labels: Mapping[int, str]) -> str:
    """A batch of one example: a line for each row of tokens; what is learnt stands in ⟦ ⟧."""
    rows, answer = list(_rows(batch, text, labels)), _answer(batch, text, labels)
    most = _MOST // max(1, len(rows) + (answer is not None))
    lines = [_shortened(list(_parts(row, text)), most) for row in rows]
    if answer is not None:
        lines[-1:] = [" ⇒ ".join([*lines[-1:], _shortened([(answer, True)], most)])]
    return "\n".join(lines)


def _rows(batch: Batch, text: PreTrainedTokenizerBase, labels: Mapping[int, str]) -> Iterator[_Row]:
    names = sorted((name for name in batch.inputs if name.endswith("input_ids")), reverse=True)  # queries come first
    for name in names:
        mask = batch.inputs.get(name.replace("input_ids", "attention_mask"))
        for number, row in enumerate(batch.inputs[name]):
            count = batch.tokens if mask is None else int(mask[number].sum())
            ids = row[:count].numpy()
            if ids.tolist() != [text.pad_token_id]:  # as a negative that is lacking
                yield _Row(ids, _learnt(batch, number, count), _wanted(batch, number, count, text, labels))


def _learnt(batch: Batch, number: int, count: int) -> Flags:
    """Which of a row's tokens are predicted, or are the answer: bool [count]."""
    learnt = np.zeros(count, np.bool_)
    if _predicts_next(batch):
        learnt[1:] = batch.targets["lm"][number, : count - 1].numpy() != IGNORED
    if "start" in batch.targets:
        learnt[int(batch.targets["start"][number]) : int(batch.targets["end"][number]) + 1] = True
    return learnt


def _predicts_next(batch: Batch) -> bool:
    """Whether the wanted tokens are those that the model reads next, and not a text of their own."""
    wanted, read = batch.targets.get("lm"), batch.inputs.get("input_ids")
    if wanted is None or read is None or wanted.shape != read.shape:
        return False
    targets, following = wanted.flatten()[:-1], read.flatten()[1:]
    return bool(((targets == IGNORED) | (targets == following)).all())


def _wanted(
    batch: Batch, number: int, count: int, text: PreTrainedTokenizerBase, labels: Mapping[int, str]
) -> dict[int, str]:
    if "mlm" in batch.targets:
        width = batch.inputs["input_ids"].shape[1]
        places = batch.targets[PLACES] - number * width
        hidden = zip(places.tolist(), batch.targets["mlm"].tolist(), strict=True)
        return {place: _decoded(text, [token]).strip() for place, token in hidden}
    if "tags" in batch.targets:
        tags = batch.targets["tags"][number, :count].tolist()
        return {place: labels[tag] for place, tag in enumerate(tags) if tag != IGNORED}
    return {}


def _answer(batch: Batch, text: PreTrainedTokenizerBase, labels: Mapping[int, str]) -> str | None:
    """What is learnt beside what is read; None where that is all in its rows."""
    targets = batch.targets
    if "label" in targets:
        return ", ".join(labels[number] for number in _numbers(targets["label"][0]))
    if "target" in targets:
        return f"{float(targets['target'][0]):g}"
    if "letters" in targets:
        return "".join(text.convert_ids_to_tokens(targets["letters"][0].tolist()))  # a decoder of CTC joins doubles
    if "lm" in targets and not _predicts_next(batch):
        return _decoded(text, [token for token in targets["lm"][0].tolist() if token != IGNORED])
    return None


def _numbers(label: Tensor) -> list[int]:
    """Of one label, int64 scalar, or of several, float32 [labels]."""
    return label.nonzero().flatten().tolist() if label.is_floating_point() else [int(label)]


def _parts(row: _Row, text: PreTrainedTokenizerBase) -> Iterator[tuple[str, bool]]:
    """The row's text in parts, and which are learnt."""
    start = 0
    for end in range(1, len(row.ids) + 1):
        if end == len(row.ids) or row.learnt[end] != row.learnt[start] or end - 1 in row.wanted:
            yield (
                _decoded(text, row.ids[start:end].tolist(), row.ids[max(0, start - 1) : start].tolist()),
                bool(row.learnt[start]),
            )
            if end - 1 in row.wanted:
                yield row.wanted[end - 1], True
            start = end


def _decoded(text: PreTrainedTokenizerBase, ids: Sequence[int], before: Sequence[int] = ()) -> str:
    """Text of tokens as they follow on others: alone, some would lose the space before them."""
    whole, lead = (
        text.decode(each, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for each in ([*before, *ids], before)
    )
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], str(whole)[len(lead) :])


def _shortened(parts: Sequence[tuple[str, bool]], most: int) -> str:
    """The parts in a line of about `most` characters, with what is learnt in ⟦ ⟧."""
    lengths = [len(part) for part, _ in parts]
    each = next((n for n in range(most, _LEAST, -1) if sum(min(n, length) for length in lengths) <= most), _LEAST)
    shown = [f"⟦{_without_middle(part, each)}⟧" if learnt else _without_middle(part, each) for part, learnt in parts]
    begins, ends = _within(shown, most // 2), _within(shown[::-1], most // 2)
    if each > _LEAST or begins + ends >= len(shown):
        return "".join(shown)
    return "".join([*shown[:begins], " … ", *shown[-ends:]])


def _within(parts: Sequence[str], most: int) -> int:
    """How many of the first parts are at most so many characters; one at least."""
    return max(1, int((np.cumsum([len(part) for part in parts]) <= most).sum()))


def _without_middle(part: str, most: int) -> str:
    half = (most - 1) // 2
    return part if len(part) <= most else f"{part[:half]}…{part[-half:]}"
