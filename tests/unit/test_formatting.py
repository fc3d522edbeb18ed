"""Figures of a report as people read them."""

import pytest

from pretune_cli.formatting import amount


@pytest.mark.parametrize(
    ("value", "short"),
    [(950, "950"), (9_500, "9,500"), (12_500, "12.5k"), (999_999, "1M"), (999_700_000, "1B"), (3_200_000, "3.2M")],
)
def test_a_count_in_short_has_three_digits_and_its_unit(value: float, short: str) -> None:
    assert amount(value) == short
