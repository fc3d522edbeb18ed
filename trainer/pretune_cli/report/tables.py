"""Sections and tables of the report."""

from collections.abc import Sequence
from itertools import compress

from pretune_cli.report.html import Html, element


def section(title: str, *content: str) -> Html:
    """A part of the report, under its title."""
    return element("section", element("h2", title), *content)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str | None = None) -> Html:
    """A table, which scrolls by itself where it is wider than the page; the first column names the rows.

    Columns that are empty in every row are left out. `kind` is its class for page.css.
    """
    filled = [not number or any(row[number] for row in rows) for number in range(len(heads))]
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in compress(heads, filled))))
    body = element("tbody", *(_row(list(compress(row, filled))) for row in rows))
    return scrolling(element("table", head, body, class_=kind))


def scrolling(content: Html) -> Html:
    """Something wide in a frame of its own, which the keyboard can scroll."""
    return element("div", content, class_="wide", tabindex=0, role="region", aria_label="table")


def _row(cells: Sequence[str]) -> Html:
    first, *others = cells
    return element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others))
