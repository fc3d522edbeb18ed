"""What a preflight's last words tell."""

import pytest

from pretune_operator import findings


@pytest.mark.parametrize(
    "message",
    ["", "Killed", "[" * 4_000, "{}", '{"findings": 7}', '{"findings": [{"check": "spec", "ok": []}]}'],
    ids=lambda message: message[:20],
)
def test_last_words_that_tell_no_findings_are_none(message: str) -> None:
    assert findings.read(message) == []
