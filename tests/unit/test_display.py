"""What `pretune run` shows of a run."""

import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from pretune_api.names import ExitCode
from pretune_cli.display import Lines, Terminal, summarise
from pretune_cli.documents import load
from pretune_trainer.drive.wire import Ending
from pretune_trainer.report import Evaluated, Said, Shown, Start, Step
from support.job_files import pretrain, write

JOB = {"namespace": "local", "kind": "PretrainJob", "name": "general"}
RUNNING = {
    "state": "Running",
    "job": JOB,
    "step": 25,
    "total": 100,
    "percent": 25,
    "loss": 3.14159,
    "tokensPerSecond": 12345.6,
    "etaSeconds": 3725.0,
}


def step(number: int) -> Step:
    return Step(number, 3.0, 1e-3, 0.5, tokens=1000, tokens_total=1000 * number, seconds=0.5, data_wait_seconds=0.1)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_line_has_stage_step_loss_speed_and_time_left(console: Console) -> None:
    terminal = Terminal(console)
    terminal.progress = lambda: RUNNING
    with terminal.shown():
        pass
    for part in ("PretrainJob/general running", "25/100", "loss 3.1416", "12,346 tokens/s", "1:02:05 left"):
        assert part in shown(console)


@pytest.mark.parametrize("width", [80, 40])
def test_the_live_line_is_one_line_on_a_narrow_terminal_too(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    terminal = Terminal(console)
    terminal.progress = lambda: RUNNING
    with terminal.shown():
        pass
    assert len(shown(console).splitlines()) == 1


def test_before_the_first_order_the_line_says_so(console: Console) -> None:
    with Terminal(console).shown():
        pass
    assert "Waiting" in shown(console)


def test_starts_evaluations_and_sentences_stay_on_the_screen_and_steps_do_not(console: Console) -> None:
    terminal = Terminal(console)
    terminal.progress = lambda: RUNNING
    terminal.hear(Start("causalLM", 2, 40, 100, 1_500_000, 20_000, 8, 4, 10))
    terminal.hear(step(41))
    terminal.hear(Evaluated(50, {"accuracy": 0.75, "f1[email]": 0.5}, 1.0))
    terminal.hear(Said("a checkpoint was damaged"))
    assert shown(console).splitlines() == [
        "PretrainJob/general: causalLM, 1,500,000 parameters, 20,000 of them trained, run 2 from step 40",
        "step 50: accuracy 0.75",
        "a checkpoint was damaged",
    ]


def test_the_first_example_stays_on_the_screen_as_it_is(console: Console) -> None:
    Terminal(console).hear(Shown("[CLS] a [bold]row[/bold] [SEP] ⇒ ⟦b⟧"))
    heading, example = shown(console).splitlines()
    assert heading == "the first training example as the model sees it, what is learned in ⟦ ⟧:"
    assert example == "[CLS] a [bold]row[/bold] [SEP] ⇒ ⟦b⟧"


def test_whatever_libraries_print_standard_output_holds_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.progress = lambda: RUNNING
    with lines.shown():
        print("(raylet) a worker died")
        lines.hear(Said("hello"))
    output, errors = capsys.readouterr()
    assert [json.loads(line) for line in output.splitlines()] == [
        {"job": "PretrainJob/general", "event": "Said", "text": "hello"}
    ]
    assert "a worker died" in errors


def test_of_many_steps_a_line_is_printed_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.progress = lambda: RUNNING
    for number in range(1, 100):
        lines.hear(step(number))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["tokensPerSecond"] == RUNNING["tokensPerSecond"]
    assert json.loads(line)["step"] == 1


@pytest.mark.parametrize("columns", [80, 40])
def test_the_stages_are_told_whole_on_a_narrow_terminal_too(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    [document] = load([write(tmp_path / "job.yaml", pretrain("general"))])
    ending = Ending(ExitCode.OK, "finished", metrics={"loss": 0.25}, step=10)
    summarise([(document.job, ending)])
    told = re.sub("[^a-zA-Z0-9./]+", " ", capsys.readouterr().err)
    assert "PretrainJob/general causalLM Succeeded 10 loss 0.25" in told


def test_a_reader_who_leaves_does_not_end_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        lines = Lines()
        lines.progress = lambda: RUNNING
        lines.hear(Said("hello"))
        lines.hear(Said("still here"))
    assert capsys.readouterr().err == "cannot write to standard output (Broken pipe); training continues\n"
