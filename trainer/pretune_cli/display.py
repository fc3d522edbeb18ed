"""What `pretune run` shows: live progress on a terminal, else JSON lines; at the end a table of the stages."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pretune_api.jobs import Job
from pretune_cli.chain import name_of
from pretune_cli.formatting import FIRST_EXAMPLE, headline
from pretune_cli.streams import discard, tell
from pretune_trainer.drive.log_sink import figures
from pretune_trainer.drive.wire import Ending, event_to_json, finite
from pretune_trainer.report import Evaluated, Event, Exhibited, Said, Shown, Start, Step

Progress = Callable[[], dict[str, Any]]
"""Reads the document at /progress."""

_SECONDS_BETWEEN_LINES: Final = 5.0
_UNBOUNDED: Final = 1_000
"""Columns that no table needs."""
_BAR: Final = 24
"""Columns of a progress bar at most."""


class Display:
    """Hears every event of the ranks, in any thread."""

    def __init__(self) -> None:
        self.progress: Progress = lambda: {"state": "Waiting"}

    def hear(self, event: Event) -> None:
        """Take in an event."""

    def say(self, sentence: str) -> None:
        """Tell people something."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show progress until left."""
        yield

    def restore(self) -> None:
        """Leave the terminal as it was found, at the last moment of the process."""


class Terminal(Display):
    """One live line for the stage at work; what is worth keeping scrolls by above it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def hear(self, event: Event) -> None:
        """Print what is worth keeping."""
        match event:
            case Start():
                self.say(_started(self.progress(), event))
            case Evaluated():
                self.say(f"step {event.step}: {figures(event.metrics)}")
            case Said():
                self.say(event.text)
            case Shown():
                self.say(f"{FIRST_EXAMPLE}:\n{event.text}")

    def say(self, sentence: str) -> None:
        """Print a sentence above the live line."""
        try:
            self._console.print(Text(sentence))
        except OSError:  # the terminal was closed
            discard(self._console.file)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the live line up to date."""
        with Live(get_renderable=lambda: _line(self.progress()), console=self._console, refresh_per_second=4):
            yield

    def restore(self) -> None:
        """Show the cursor again."""
        self._console.show_cursor()


class Lines(Display):
    """JSON lines for programs: every event but what a report shows, and steps at most every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._output = sys.stdout
        self._last_step = 0.0

    def hear(self, event: Event) -> None:
        """Print the event, with the job that it is about."""
        if isinstance(event, Exhibited) or (isinstance(event, Step) and not self._is_due()):
            return
        progress = self.progress()
        line = {"job": _job(progress), **event_to_json(event)}
        if isinstance(event, Step):
            # The board may have heard of later steps already.
            total = progress["total"]
            line |= {"total": total, "percent": 100 * event.step // total if total else 0}
            line |= {name: progress[name] for name in ("etaSeconds", "tokensPerSecond")}
        try:
            print(json.dumps(line), file=self._output, flush=True)
        except OSError as error:  # the reader of a pipe is gone, or a disk is full: no reason to lose a training
            discard(self._output)
            self.say(f"cannot write to standard output ({error.strerror}); training continues")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep standard output for our lines: what libraries print, as Ray does of lost workers, goes beside it."""
        with redirect_stdout(sys.stderr):
            yield

    def say(self, sentence: str) -> None:
        """Print a sentence, for people who read along."""
        tell(sentence)

    def _is_due(self) -> bool:
        is_due = time.monotonic() - self._last_step >= _SECONDS_BETWEEN_LINES
        if is_due:
            self._last_step = time.monotonic()
        return is_due


def choose() -> Display:
    """A live line where someone looks at it, else JSON lines."""
    return Terminal(Console()) if sys.stdout.isatty() else Lines()


def summarise(endings: Sequence[tuple[Job, Ending]]) -> None:
    """The stages as a table, or where that is too wide a line each, and where their artifacts lie.

    Where nobody looks at standard output there is a JSON line a stage on it, and the table goes to standard error.
    """
    is_terminal = sys.stdout.isatty()
    if not is_terminal:
        for job, ending in endings:
            ended = {"event": "Ended", "job": name_of(job), "state": ending.state, **finite(asdict(ending))}
            print(json.dumps(ended), flush=True)
    console = Console(stderr=not is_terminal, soft_wrap=True)
    if endings:
        console.print(_fitting(_table(endings), _sentences(endings), console))
    for job, ending in endings:
        if ending.artifact is not None:
            console.print(Text(f"{name_of(job)}: {ending.artifact.uri}"))


def _fitting(table: Table, otherwise: RenderableType, console: Console) -> RenderableType:
    """`table` where it fits with a line a row."""
    unbounded = console.options.update(width=_UNBOUNDED)
    return table if Measurement.get(console, unbounded, table).maximum <= console.width else otherwise


def _table(endings: Sequence[tuple[Job, Ending]]) -> Table:
    table = Table("stage", "learns", "state", "step", "metrics")
    for job, ending in endings:
        table.add_row(*_cells(job, ending))
    return table


def _sentences(endings: Sequence[tuple[Job, Ending]]) -> Text:
    return Text("\n".join(", ".join(filter(None, _cells(job, ending))) for job, ending in endings))


def _cells(job: Job, ending: Ending) -> tuple[str, str, str, str, str]:
    state = f"{ending.state} before" if ending.was_done else ending.state
    step = str(ending.step) if ending.step else ""
    metrics = figures(headline(ending.metrics, job.spec.evaluation.metrics))
    return name_of(job), job.spec.stage, state, step, metrics


def _line(progress: dict[str, Any]) -> Table:
    state = progress["state"] if "job" not in progress else f"{_job(progress)} {progress['state'].lower()}"
    return side_by_side(state, *progress_cells(progress))


def side_by_side(*cells: RenderableType) -> Table:
    """Cells on one line; on a narrow terminal the bar among them gives way first."""
    line = Table.grid(padding=(0, 1))
    for cell in cells:
        is_bar = isinstance(cell, ProgressBar)
        line.add_column(no_wrap=not is_bar, max_width=_BAR if is_bar else None)
    line.add_row(*cells)
    return line


def progress_cells(progress: dict[str, Any]) -> Iterator[RenderableType]:
    """How far training is, as far as it is known: a bar, steps, loss, speed, time left."""
    if progress.get("total"):
        yield ProgressBar(total=progress["total"], completed=progress["step"])
        yield f"{progress['step']}/{progress['total']}"
    for name, form in _FIGURES.items():
        if progress.get(name) is not None:
            yield form(progress[name])


def _eta(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


_FIGURES: Final[dict[str, Callable[[float], str]]] = {
    "loss": lambda value: f"loss {value:.4f}",
    "tokensPerSecond": lambda value: f"{value:,.0f} tokens/s",
    "etaSeconds": _eta,
}


def _started(progress: dict[str, Any], event: Start) -> str:
    share = "" if event.trainable == event.parameters else f", {event.trainable:,} of them trained"
    resumed = f" from step {event.from_step}" if event.from_step else ""
    return f"{_job(progress)}: {event.stage}, {event.parameters:,} parameters{share}, run {event.run}{resumed}"


def _job(progress: dict[str, Any]) -> str:
    job = progress.get("job")
    return f"{job['kind']}/{job['name']}" if job else ""
