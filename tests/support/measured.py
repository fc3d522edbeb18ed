"""What a gate measures, for the table "What is learnt" in README.md."""

from collections.abc import Callable, Mapping

Measured = Callable[[Mapping[str, float]], None]
"""Takes figures by name."""
