"""`make bench`: ours against what others would use, on this machine: one table of ratios, and .bench/results.json.

Named measures alone: python tests/bench/run.py with_hf_trainer data
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import setting
from rich.console import Console
from rich.table import Table
from turns import Burst, duel

HERE = Path(__file__).parent
RAY_STORAGE = setting.HOME / "ray"
RAY_PAIRS = 3
RATES = (20, 40)
"""Jobs a second that the operator is given."""
WARM_UP = 20
"""Steps of a run that do not count as steady state."""
CHECKPOINT_INTERVAL = 500
"""Steps between checkpoints by default (checkpoint.everySteps)."""
WANTED = {
    "pretrain_vs_bare_loop": "≥ 0.98",
    "pretrain_vs_hf_trainer": "> 1",
    "finetune_packed_vs_hf_trainer": "≥ 2",
    "data_vs_hf_datasets_streaming": "≥ 2",
    "ray_vs_no_ray": "≥ 0.98",
    "checkpoint_stall": "≤ 0.01",
    "peak_memory_vs_bare_loop": "≤ 1.05",
    "cli_help_seconds": "ours < 0.3 s",
    "operator_apply_to_rayjob_p99_seconds_at_20": "ours < 0.5 s",
    "operator_apply_to_rayjob_p99_seconds_at_40": "ours < 0.5 s",
    "operator_idle_cpu": "ours < 0.02",
    "operator_memory": "ours < 400 MiB at 10,000 jobs",
    "operator_restart_seconds": "ours < 60 s at 10,000 jobs",
    "operator_status_writes": "ours < 50 a second",
    "operator_progress_age_p99": "ours ≤ 30 s",
}


Event = dict[str, Any]
"""What a run says of a step, as JSON."""


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    ours: float
    peer: float
    ratio: float
    unit: str


def with_bare_loop() -> Iterator[Result]:
    """A plain PyTorch loop on the same rows: the most that can be had."""
    turns = duel(["ours.py", "pretrain"], ["bare_loop.py"])
    yield Result("pretrain_vs_bare_loop", *turns.of(_speed), "tokens/s")
    yield Result("peak_memory_vs_bare_loop", *turns.of(lambda burst: burst.peak_bytes / 2**20), "MiB")
    apart = duel(["ours.py", "pretrain"], ["bare_loop.py", "documents"])
    yield Result("pretrain_vs_bare_loop_by_document", *apart.of(_speed), "tokens/s")
    yield Result("first_step_seconds", *turns.of(lambda burst: burst.first_step_seconds), "s")


def with_hf_trainer() -> Iterator[Result]:
    """transformers.Trainer: on the same rows, and on conversations that it pads and we pack."""
    pretrain = duel(["ours.py", "pretrain"], ["hf_trainer.py", "pretrain"])
    yield Result("pretrain_vs_hf_trainer", *pretrain.of(_speed), "tokens/s")
    finetune = duel(["ours.py", "finetune"], ["hf_trainer.py", "finetune"])
    yield Result("finetune_packed_vs_hf_trainer", *finetune.of(_speed), "tokens/s")


def data() -> Iterator[Result]:
    """datasets, streaming: tokens that reach the loop."""
    warm = duel(["ours_data.py", "warm"], ["hf_streaming.py"], pairs=3)
    yield Result("data_vs_hf_datasets_streaming", *warm.of(_speed), "tokens/s")
    cold = duel(["ours_data.py", "cold"], ["hf_streaming.py"], pairs=3)
    yield Result("data_vs_hf_datasets_streaming_cold", *cold.of(_speed), "tokens/s")


def with_and_without_ray() -> Iterator[Result]:
    """The same job by `pretune run`, with one worker: steady state, and what its checkpoints cost."""
    runs: dict[str, list[list[Event]]] = {"--ray": [], "--no-ray": []}
    for pair in range(RAY_PAIRS):
        for way in sorted(runs, reverse=bool(pair % 2)):
            runs[way].append(_history(way))
    ray, alone = ([_steady_speed(events) for events in runs[way]] for way in ("--ray", "--no-ray"))
    ratios = [a / b for a, b in zip(ray, alone, strict=True)]
    yield Result("ray_vs_no_ray", median(ray), median(alone), median(ratios), "tokens/s")
    events = [event for run in runs["--no-ray"] for event in run]
    blocked = median(event["blocked_seconds"] for event in events if event["event"] == "Committed")
    interval = CHECKPOINT_INTERVAL * median(event["seconds"] for event in events if event["event"] == "Step")
    yield Result("checkpoint_stall", blocked, interval, blocked / interval, f"s in {CHECKPOINT_INTERVAL} steps")


def command_line() -> Iterator[Result]:
    """How long `pretune --help` takes, beside Python itself."""
    ours = median(_seconds(sys.executable, "-m", "pretune_cli", "--help") for _ in range(9))
    peer = median(_seconds(sys.executable, "-c", "pass") for _ in range(9))
    yield Result("cli_help_seconds", ours, peer, ours / peer, "s")


def operator() -> Iterator[Result]:
    """The operator on a real API server, beside a bare kopf operator; two cores cannot take 40 jobs a second."""
    for rate in RATES:
        ours, bare = (json.loads(_output("operator_load.py", way, "--rate", str(rate))) for way in ("ours", "bare"))
        for quantile in ("p50", "p99"):
            name, key = f"operator_apply_to_rayjob_{quantile}_seconds_at_{rate}", f"{quantile}_seconds"
            yield Result(name, ours[key], bare[key], ours[key] / bare[key], f"s at {rate} jobs/s")
    for name, key, unit in (
        ("operator_cpu_seconds_per_job", "cpu_seconds_per_job", "s"),
        ("operator_memory", "mebibytes", "MiB"),
    ):
        yield Result(name, ours[key], bare[key], ours[key] / bare[key], unit)
    for name, key, unit in (
        ("operator_idle_cpu", "idle_cpu", "cores"),
        ("operator_restart_seconds", "restart_seconds", "s"),
    ):
        yield Result(name, ours[key], float("nan"), float("nan"), unit)
    calls = sum(ours["calls_of_a_life"].values())
    yield Result("operator_api_calls_per_job", calls, float("nan"), float("nan"), "calls beside watches")


def operator_progress() -> Iterator[Result]:
    """The operator beside 1,000 jobs that train: what it writes, and how old the progress is that status shows."""
    found = json.loads(_output("operator_progress.py"))
    for name, key, unit in (
        ("operator_status_writes", "status_writes_per_second", "a second"),
        ("operator_progress_age_p99", "progress_age_p99_seconds", "s"),
        ("operator_running_cpu", "cpu", "cores"),
    ):
        yield Result(name, found[key], float("nan"), float("nan"), unit)


MEASURES = {
    measure.__name__: measure
    for measure in (
        command_line,
        data,
        with_bare_loop,
        with_hf_trainer,
        with_and_without_ray,
        operator,
        operator_progress,
    )
}


def _speed(burst: Burst) -> float:
    return burst.tokens / burst.seconds


def _output(script: str, *arguments: str) -> str:
    """The last line that a script here prints."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout.splitlines()[-1]


def _seconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _history(way: str) -> list[Event]:
    """The events of a new run of job.yaml."""
    shutil.rmtree(RAY_STORAGE / "local", ignore_errors=True)
    command = [sys.executable, "-m", "pretune_cli", "run", str(HERE / "job.yaml"), way]
    with setting.LOG.open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    chunks = sorted(RAY_STORAGE.glob("local/*/history/*/*.jsonl"))
    return [json.loads(line) for chunk in chunks for line in chunk.open()]


def _steady_speed(events: list[Event]) -> float:
    steps = [event for event in events if event["event"] == "Step" and event["step"] > WARM_UP]
    tokens, seconds = (sum(step[name] for step in steps) for name in ("tokens", "seconds"))
    return float(tokens / seconds)


def _table(results: list[Result]) -> Table:
    table = Table("measure", "ours", "peer", "ratio", "unit", "wanted", title=f"{os.cpu_count()} cores")
    for column in table.columns[1:4]:
        column.justify = "right"
    for result in results:
        figures = (f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in (result.ours, result.peer))
        table.add_row(result.name, *figures, f"{result.ratio:.3g}", result.unit, WANTED.get(result.name, ""))
    return table


def main(names: list[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
    setting.prepare()
    console = Console()
    results: list[Result] = []
    for name in names or MEASURES:
        with console.status(name):
            results += MEASURES[name]()
    console.print(_table(results))
    document = json.dumps([asdict(result) for result in results], indent=2)
    (setting.HOME / "results.json").write_text(document + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
