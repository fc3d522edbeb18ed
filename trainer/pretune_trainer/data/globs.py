"""What a URI names: a path, or all paths that its glob fits, as in a shell.

In file:// an encoded character, such as %5B for [, is only itself, in whatever folder a job's file lies.
"""

import re
from typing import Final
from urllib.parse import unquote

_GLOB: Final = r"[*?\[]"
"""What begins a pattern in a path."""
_CLASS: Final = r"\[[^\]]+\]"
"""One of some characters, [a-c], or any but these, [!a-c]."""
_SHOWN: Final = r"(?!(?<![^/])\.)"
"""A name that begins with a dot must be written out, as in a shell."""


def path_in(uri: str) -> str:
    """The path of a URI in its store, from the bucket on, without a slash at the end; of a file://, decoded."""
    return _decoded(uri, _written(uri))


def is_glob(uri: str) -> bool:
    """Whether a URI has a pattern in it."""
    return re.search(_GLOB, _written(uri)) is not None


def folder_of(uri: str) -> str:
    """The path of the folder that a file lies in, or all files that a glob can name."""
    return _decoded(uri, re.split(_GLOB, _written(uri), maxsplit=1)[0].rpartition("/")[0])


def reaches_below(glob: str) -> bool:
    """Whether it can name files in folders below that of `folder_of`."""
    written = _written(glob)
    return "**" in written or "/" in re.split(_GLOB, written, maxsplit=1)[1]


def pattern_of(glob: str) -> re.Pattern[str]:
    """What the paths look like that a glob fits: * stays in its folder and ** does not."""
    parts = re.split(rf"(\*\*/|\*\*|\*|\?|{_CLASS})", _written(glob))
    meaning = {
        "**/": f"(?:{_SHOWN}[^/]*/)*",
        "**": f"(?:{_SHOWN}.)*",
        "*": f"{_SHOWN}[^/]*",
        "?": f"{_SHOWN}[^/]",
    }
    return re.compile("".join(meaning.get(part) or _piece(glob, part) for part in parts))


def _written(uri: str) -> str:
    """The path as it is written."""
    scheme, _, path = uri.partition("://")
    return "/" + path.strip("/") if scheme == "file" else path.rstrip("/")


def _decoded(uri: str, part: str) -> str:
    return unquote(part) if uri.startswith("file://") else part


def _piece(glob: str, part: str) -> str:
    """A regular expression for plain text, or for one character."""
    text = _decoded(glob, part)
    if not re.fullmatch(_CLASS, part):
        return re.escape(text)
    characters = text[1:-1].replace("\\", r"\\")
    if len(characters) > 1 and characters.startswith("!"):
        characters = f"^{characters[1:]}"
    return f"{_SHOWN}(?!/)[{characters}]"
