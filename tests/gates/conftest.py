"""What gates measure is told at the end of `make gates`, and kept in .bench/gates.xml."""

from support.debian import sides
from support.measured import measured, pytest_terminal_summary

__all__ = ["measured", "pytest_terminal_summary", "sides"]
