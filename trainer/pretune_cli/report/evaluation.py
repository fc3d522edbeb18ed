"""How good the model is: figures, those of each label and slice, the confusion matrix, samples of what it writes."""

from collections.abc import Iterator

from pretune_cli.formatting import figure, of_part
from pretune_cli.report.html import Html, element, join
from pretune_cli.report.story import Story
from pretune_cli.report.tables import scrolling, section, table
from pretune_trainer.metrics.exhibits import ConfusionMatrix, Exhibits, Sample
from pretune_trainer.metrics.slices import TEST


def evaluation(story: Story) -> Iterator[Html]:
    """The figures of the model, beside those before training where they are known."""
    whole = {name: value for name, value in story.figures.items() if not of_part(name)}
    if not whole:
        return
    before = story.artifact.facts.baseline if story.artifact else {}
    heads = ("metric", *(["before training"] if before else []), "value")
    rows = [
        (name, *([figure(before[name]) if name in before else ""] if before else []), figure(value))
        for name, value in whole.items()
    ]
    judged_on = dict.fromkeys("the test" if name.startswith(TEST) else "the validation" for name in whole)
    yield section(f"Evaluation on {' and '.join(judged_on)} data", table(heads, rows), *_of_each(story.figures))


def _of_each(figures: dict[str, float]) -> Iterator[Html]:
    """Of every label or slice, a row."""
    by_part: dict[str, dict[str, str]] = {}
    for name, value in figures.items():
        if found := of_part(name):
            metric, part = found
            by_part.setdefault(part, {})[metric] = figure(value)
    if by_part:
        metrics = list(dict.fromkeys(metric for row in by_part.values() for metric in row))
        rows = [(part, *(row.get(metric, "") for metric in metrics)) for part, row in by_part.items()]
        yield element("details", element("summary", "each label and slice"), table(("", *metrics), rows))


def exhibited(exhibits: Exhibits) -> Iterator[Html]:
    """What the evaluation left to look at."""
    if exhibits.confusion is not None:
        yield section("Confusion matrix", _confusion(exhibits.confusion))
    if exhibits.samples:
        yield section("Samples", *map(_sample, exhibits.samples))


def _confusion(matrix: ConfusionMatrix) -> Html:
    heads = (element("th", element("span", label), scope="col") for label in matrix.labels)
    head = element("thead", element("tr", element("td", "expected ↓ predicted →"), *heads))
    rows = (
        element("tr", element("th", label, scope="row"), *_cells(counts))
        for label, counts in zip(matrix.labels, matrix.counts, strict=True)
    )
    return scrolling(element("table", head, element("tbody", *rows), class_="confusion"))


def _cells(counts: list[int]) -> Iterator[Html]:
    """A row, each cell coloured by its share of the label's examples."""
    whole = sum(counts) or 1
    for count in counts:
        share = round(100 * count / whole)
        strong = "strong" if share > 50 else None
        title = f"{share}% of {sum(counts):,}"
        yield element("td", f"{count:,}" if count else "", class_=strong, style=f"--share: {share}%", title=title)


def _sample(sample: Sample) -> Html:
    return element(
        "div",
        join(element("p", sample.wanted, class_="wanted"), element("p", sample.written, class_="written")),
        class_="sample",
    )
