"""The report as one HTML file: nothing is fetched to look at it, in light or in dark, on a phone or a desk."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Final

from pretune_cli.formatting import amount, duration, figure, headline, moment
from pretune_cli.report.chart import draw
from pretune_cli.report.curves import LOSS, charts
from pretune_cli.report.data import data
from pretune_cli.report.evaluation import evaluation, exhibited
from pretune_cli.report.html import Html, element, join
from pretune_cli.report.lineage import Ancestor
from pretune_cli.report.story import Story
from pretune_cli.report.tables import section, table

_MOST_FIGURES: Final = 4
"""Figures of the evaluation that stand at the top."""


def page(story: Story) -> str:
    """The whole document."""
    here = files("pretune_cli.report")
    body = join(
        _header(story),
        _tiles(story),
        _lineage(story),
        section(
            "Curves over the steps", element("div", *map(draw, charts(story.history, story.unit)), class_="charts")
        ),
        *evaluation(story),
        *exhibited(story.exhibits),
        *_attempts(story),
        _runs(story),
        *data(story),
        _config(story),
    )
    return Template(here.joinpath("page.html").read_text("utf-8")).substitute(
        title=join(story.name),
        style=here.joinpath("page.css").read_text("utf-8"),
        script=here.joinpath("page.js").read_text("utf-8"),
        body=body,
    )


def _header(story: Story) -> Html:
    config = story.config
    state = element("span", story.state, class_=f"state {story.state.lower()}")
    method = "" if config.method.kind == "full" else f", by {config.method.kind}"
    return element(
        "header",
        element("h1", config.job.name, " ", state),
        element("p", f"{config.job.kind} in namespace {config.job.namespace}: {config.stage}{method}"),
        element("p", f"as of {moment(datetime.now(tz=UTC))}", class_="quiet"),
    )


def _tiles(story: Story) -> Html:
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in _key(story)))


def _key(story: Story) -> Iterator[tuple[str, str]]:
    """The figures to know first."""
    start = next(run.start for run in reversed(story.history.runs) if run.start)
    first = headline(story.figures, story.config.evaluation.metrics)
    for name, value in list(first.items())[:_MOST_FIGURES]:
        yield "validation loss" if name == LOSS else name, figure(value)
    yield "step", f"{story.step:,} of {start['total_steps']:,}"
    yield story.unit, amount(float(story.history.steps["tokens"].sum()))
    yield "parameters", amount(start["parameters"])
    if start["trainable"] != start["parameters"]:
        yield "trainable", amount(start["trainable"])
    yield "training time", duration(story.seconds)
    yield "ranks", f"{story.config.ranks} on {'GPU' if story.config.device == 'cuda' else 'CPU'}"
    if story.gpu_hours is not None:
        yield "GPU-hours", figure(story.gpu_hours)


def _lineage(story: Story) -> Html:
    own = _box(story.name, story.config.stage, story.step, story.figures.get("loss"))
    digest = element("p", element("code", story.artifact.uri), class_="quiet") if story.artifact else ""
    return section("Lineage", element("div", _family(own, story.ancestors), class_="lineage"), digest)


def _family(own: Html, parents: tuple[Ancestor, ...]) -> Html:
    """Parents first, each with its own; an arrow from each to their child."""
    if not parents:
        return own
    each = (element("div", _forebear(parent), element("span", parent.gave, class_="arrow")) for parent in parents)
    return element("div", element("div", *each, class_="parents"), own, class_="family")


def _forebear(parent: Ancestor) -> Html:
    facts = parent.facts
    loss = facts.metrics.get("loss") if facts else None
    return _family(
        _box(parent.name, parent.stage or parent.digest[:19], facts.step if facts else None, loss), parent.parents
    )


def _box(name: str, stage: str, step: int | None, loss: float | None) -> Html:
    figures = [f"step {step:,}" if step else "", f"loss {figure(loss)}" if loss is not None else ""]
    said = ", ".join(filter(None, figures))
    return element("div", element("b", name), element("span", stage), element("span", said), class_="box")


def _attempts(story: Story) -> Iterator[Html]:
    """Where a cluster was asked: its attempts, and why they failed."""
    if story.status is None or not story.status.attempts:
        return
    rows = [
        (
            str(attempt.number),
            moment(attempt.start_time) if attempt.start_time else "",
            duration(attempt.active_seconds),
            "" if attempt.from_step is None else f"{attempt.from_step:,}",
            str(attempt.runs),
            attempt.cause or "",
            attempt.message or "",
        )
        for attempt in story.status.attempts
    ]
    heads = ("attempt", "started", "held machines", "from step", "runs", "cause", "message")
    yield section("Attempts", table(heads, rows, "attempts"))


def _runs(story: Story) -> Html:
    rows = [
        (
            str(run.record.ordinal),
            moment(run.record.time),
            run.record.host,
            duration(run.seconds) if run.until else "",
            f"{run.from_step:,} to {run.last_step:,}" if run.start else "none",
            f"{story.history.lost_steps(run):,}",
        )
        for run in story.history.runs
    ]
    heads = ("run", "started", "host", "duration", "steps", "steps lost")
    return section("Runs", table(heads, rows), *_said(story.history.said))


def _said(sentences: Sequence[str]) -> Iterator[Html]:
    """What the runs said to people: of rows that were truncated, of checkpoints that were damaged."""
    if sentences:
        said = element("ul", *(element("li", sentence) for sentence in sentences))
        yield element("details", element("summary", "what the runs said"), said)


def _config(story: Story) -> Html:
    document = json.dumps(story.config.brief(), indent=2)
    shown = element("details", element("summary", "the whole run config"), element("pre", document))
    return section("Settings", shown, element("p", element("code", story.uri), class_="quiet"))
