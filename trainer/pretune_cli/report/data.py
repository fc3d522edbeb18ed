"""What the model was trained on, and what cleaning left of it."""

from collections.abc import Iterator

from pretune_cli.formatting import FIRST_EXAMPLE, amount
from pretune_cli.report.html import Html, element
from pretune_cli.report.story import Story
from pretune_cli.report.tables import section, table
from pretune_trainer.data.cleaning.report import Balance, DataReport


def data(story: Story) -> Iterator[Html]:
    """The sources; what cleaning did, where there was any; and an example."""
    yield section("Data", *_read(story), *_example(story.history.example))


def _read(story: Story) -> Iterator[Html]:
    if story.cleaned is not None:
        yield from (element("p", _summary(story.cleaned)), _sources(story.cleaned), *_more(story.cleaned))
        return
    rows = [
        (source.uri, source.format or "", f"{source.weight:g}" if source.weight else "")
        for source in story.config.data.train
    ]
    yield table(("source", "format", "weight"), rows)


def _example(text: str) -> Iterator[Html]:
    if text:
        yield element("h3", FIRST_EXAMPLE.capitalize())
        yield element("p", text, class_="example")


def _summary(cleaned: DataReport) -> str:
    said = f"Of {cleaned.documents:,} documents {cleaned.kept:,} were kept, {cleaned.held_out:,} of them held out."
    masked = ", ".join(f"{kind} {count:,}" for kind, count in cleaned.masked.items())
    return f"{said} Masked: {masked}." if masked else said


def _sources(cleaned: DataReport) -> Html:
    rows = [
        (
            source.uri,
            f"{source.documents:,}",
            f"{source.kept:,}",
            f"{source.kept / source.documents:.1%}" if source.documents else "",
            amount(source.characters_kept),
        )
        for source in cleaned.sources
    ]
    return table(("source", "documents", "kept", "share", "characters kept"), rows)


def _more(cleaned: DataReport) -> Iterator[Html]:
    if cleaned.dropped:
        rows = [(reason, f"{count:,}") for reason, count in cleaned.dropped.items()]
        yield element("h3", "Dropped, by reason")
        yield table(("reason", "documents"), rows)
    for column, balance in cleaned.balance.items():
        yield element("h3", f"Balance of {column}")
        yield _balance(balance)


def _balance(balance: Balance) -> Html:
    rows = [(value, f"{count:,}", f"{balance.kept.get(value, 0):,}") for value, count in balance.read.items()]
    return table(("value", "read", "kept"), rows)
