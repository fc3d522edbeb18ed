"""Rows for the jobs of examples/, of what every machine has: real text, handwritten digits, drawn shapes, tones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from support.images import digits
from support.language import paragraphs
from support.pairs import SHAPES, rows, write_pairs
from support.speech import spoken

Fields = Mapping[str, Any]
"""Those of an objective or a task."""

_ROWS: Final = 100
_LINES: Final = 6
"""Paragraphs in a document, each on a line of its own."""


def write_source(
    path: Path, source: Mapping[str, Any], number: int, kind: str, fields: Fields, also: Sequence[str]
) -> str:
    """Rows for what is learnt, with columns `also`; their URI. Sources of other numbers have other rows.

    Images and clips of a folder are files there, as in the example.
    """
    if kind in _FILES and "column" not in source:
        for name, content in islice(_FILES[kind](fields, number), 2 * _ROWS):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return f"{path.as_uri()}/"
    made = _MADE.get(kind, _texts)(kind, fields, source.get("column", "text"), number)
    groups = ({**dict.fromkeys(also, f"group {place % 2}"), **row} for place, row in enumerate(made))
    return write_pairs(path.with_suffix(".parquet"), list(islice(groups, _ROWS)))


def _labelled(labels: Sequence[str], number: int) -> list[tuple[bytes, str]]:
    """Images with labels: the first digits stand for them."""
    known = [(content, labels[int(digit)]) for content, digit in digits() if int(digit) < len(labels)]
    return known[number * _ROWS :]


def _images(kind: str, fields: Fields, column: str, number: int) -> Iterator[dict[str, object]]:
    for content, label in _labelled(fields["labels"], number):
        yield {column: {"bytes": content, "path": None}, "label": label}


def _image_files(fields: Fields, number: int) -> Iterator[tuple[str, bytes]]:
    for place, (content, label) in enumerate(_labelled(fields["labels"], number)):
        yield f"{label}/{place:04}.png", content


def _bare_files(fields: Fields, number: int) -> Iterator[tuple[str, bytes]]:
    for place, (content, _) in enumerate(digits()[number * _ROWS :]):
        yield f"{place:04}.png", content


def _pairs(kind: str, fields: Fields, column: str, number: int) -> Iterator[dict[str, object]]:
    labels = fields.get("zeroShot", {}).get("labels", SHAPES)
    beside = fields.get("zeroShot", {}).get("labelColumn", "label")
    for row in rows(3, seed=number):
        yield {column: row["text"], "image": row["image"], beside: labels[SHAPES.index(row["label"])]}


def _spoken(number: int) -> Iterator[tuple[bytes, str]]:
    """Clips that last longer than what wav2vec2 hides of each, ten frames."""
    return ((content, said) for content, said in spoken(2 * _ROWS, seed=number, most=6) if len(said) > 3)


def _clips(kind: str, fields: Fields, column: str, number: int) -> Iterator[dict[str, object]]:
    for content, said in _spoken(number):
        yield {column: {"bytes": content, "path": "clip.wav"}, fields["transcriptColumn"]: said}


def _clip_files(fields: Fields, number: int) -> Iterator[tuple[str, bytes]]:
    for place, (content, said) in enumerate(_spoken(number)):
        yield f"{place:04}.wav", content
        yield f"{place:04}.txt", said.encode()


def _texts(kind: str, fields: Fields, column: str, number: int) -> Iterator[dict[str, object]]:
    """Real text, with what the task reads beside it."""
    lines = [" ".join(text.split()) for text in paragraphs()]
    for place in range(number * _ROWS * _LINES, len(lines) - _LINES, _LINES):
        text = "\n".join(lines[place : place + _LINES])
        yield {column: _document(kind, text), **_beside(kind, fields, text, place // _LINES)}


def _document(kind: str, text: str) -> object:
    match kind:
        case "chat":
            return [{"role": "user", "content": text[:30]}, {"role": "assistant", "content": text[30:60]}]
        case "tokenClassification":
            return _words(text)
        case "translation" | "preference" | "embedding":
            return text[:40].strip()
    return text


def _words(text: str) -> list[str]:
    """Some words of a text, few enough for a row."""
    return text[:40].split()


def _beside(kind: str, fields: Fields, text: str, place: int) -> dict[str, object]:
    labels = fields.get("labels", [])
    match kind:
        case "sequenceClassification":
            label = labels[place % len(labels)]
            return {fields.get("labelColumn", "label"): [label] if fields.get("multiLabel") else label}
        case "tokenClassification":
            tags = [f"B-{labels[place % len(labels)]}", *["O"] * (len(_words(text)) - 1)]
            return {fields.get("labelColumn", "labels"): tags}
        case "summarization":
            return {fields.get("targetColumn", "summary"): text[:10].strip()}
        case "translation":
            language = fields.get("languageColumn")
            beside = {language: "de"} if language else {}
            return {fields.get("targetColumn", "translation"): text[:10].strip(), **beside}
        case "preference":
            return {"chosen": text[40:60], "rejected": text[60:80]}
        case "embedding":
            return {"positive": text[40:80], "negatives": [text[80:120]] * (place % 2)}
    return {}


_MADE: Final[dict[str, Callable[[str, Fields, str, int], Iterator[dict[str, object]]]]] = {
    "imageClassification": _images,
    "contrastive": _pairs,
    "speechRecognition": _clips,
}
_FILES: Final[dict[str, Callable[[Fields, int], Iterator[tuple[str, bytes]]]]] = {
    "imageClassification": _image_files,
    "maskedImage": _bare_files,
    "speechRecognition": _clip_files,
}
