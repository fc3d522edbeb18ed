"""Records of files whose fields are delimited, by commas or tabs, as in RFC 4180."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from pretune_trainer.data.example import Place
from pretune_trainer.data.lines import text_of
from pretune_trainer.errors import BadRowError, shortened

_LARGEST: Final = 64 * 2**20
"""Characters of a field, at most: after a quote that nothing closes, the rest of a file would be one field. By
default it is 131,072, and documents have more."""
_DELIMITERS: Final = {",": "commas", "\t": "tabs"}
"""What stands between fields, and what it is called."""

csv.field_size_limit(_LARGEST)


def delimited(lines: Iterator[bytes], uri: str, delimiter: str) -> Iterator[tuple[Place, dict[str, object]]]:
    """The records of a file's lines, each with as many fields as its header; those of a column without a name are left
    out, and records whose fields are all empty, as spreadsheets write them.

    Raises:
        BadRowError: a line is not UTF-8, quotes are out of place, fields are too many or too few, or two columns have
            the same name.
    """
    records = _Records(lines, uri, delimiter)
    header = next(filter(any, records), [])
    _check_names(header, uri)
    for number, fields in enumerate(records, start=1):
        if any(fields):
            records.check(fields, header)
            yield records.place, {name: field for name, field in zip(header, fields, strict=True) if name}
        records.place = Place(uri, number + 1)


class _Records:
    """The fields of one record after the other."""

    def __init__(self, lines: Iterator[bytes], uri: str, delimiter: str) -> None:
        self.place = Place(uri, 1)
        """Where the record stands that is read; of the header, where the first one does."""
        self._delimiters = _DELIMITERS[delimiter]
        self._fields = csv.reader(map(self._text, lines), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self._fields)
        except csv.Error as error:
            gist = str(error).partition(" - ")[0].replace("\t", r"\t")
            raise BadRowError(
                str(self.place),
                f"the CSV is not valid ({gist}); quote fields with {self._delimiters}, quotes or line breaks, "
                "and close each quote",
            ) from error

    def _text(self, line: bytes) -> str:
        return f"{text_of(line, self.place)}\n"

    def check(self, fields: Sequence[str], header: Sequence[str]) -> None:
        """Refuse a record that has not as many fields as the header.

        Raises:
            BadRowError: it has more or fewer.
        """
        if len(fields) != len(header):
            raise BadRowError(
                str(self.place),
                f"there are {len(fields)} fields, but the header has {len(header)}; "
                f"quote fields with {self._delimiters}",
            )


def _check_names(header: Sequence[str], uri: str) -> None:
    for name, times in Counter(filter(None, header)).items():
        if times > 1:
            said = f"there are {times} columns '{shortened(name)}'; rename or remove all but one"
            raise BadRowError(f"{uri} header", said)
