"""What a preflight has found: from the last words of its container to what status says."""

from typing import Any, Final

from pydantic_core import from_json

from pretune_api.status import MOST_FINDINGS, Finding

_RESULTS: Final = {True: "Ok", False: "Wrong", None: "NotKnown"}


def read(message: str) -> list[Finding]:
    """The findings in a container's termination message; none where it broke before it had any."""
    try:
        return [_finding(found) for found in from_json(message)["findings"][:MOST_FINDINGS]]
    except (ValueError, KeyError, TypeError):
        return []


def _finding(found: dict[str, Any]) -> Finding:
    return Finding(
        check=found["check"],
        result=_RESULTS[found["ok"]],
        place=found["place"],
        sentence=found["sentence"],
        cause=found.get("cause"),
    )
