"""What a preflight has found: from the last words of its container to what status says."""

import json
from typing import Any, Final

from pretune_api.status import MOST_FINDINGS, Finding

_RESULTS: Final = {True: "Ok", False: "Wrong", None: "NotKnown"}


def read(message: str) -> list[Finding]:
    """The findings in a container's termination message; none where it broke before it had any."""
    try:
        return [_finding(found) for found in json.loads(message)["findings"][:MOST_FINDINGS]]
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
