"""Two programs measured in turns: one trains for a burst while the other waits, so that both see the same machine."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import setting

BURST = 10
"""Steps of a turn."""
PAIRS = 10
"""Turns of each side."""


@dataclass(frozen=True)
class Burst:
    """What one turn has done."""

    tokens: int
    seconds: float
    first_step_seconds: float
    """From the start of the process to the end of its first step."""
    peak_bytes: int
    """Largest memory of the process so far: on CPUs resident, on GPUs allocated."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Turns:
    """The side that is measured: it calls `step` after each step, and is held there while the other side runs."""

    def __init__(self, burst: int = BURST, peak: Callable[[], int] = _resident) -> None:
        """`burst` is the number of steps of a turn, `peak` the largest memory so far, in bytes."""
        self._burst = burst
        self._peak = peak
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed must not mix with the answers
        self._steps = self._tokens = 0
        self._first_step_seconds = 0.0
        self._since = time.perf_counter()

    def step(self, tokens: int) -> None:
        """A step of `tokens` tokens, without padding, is done."""
        self._first_step_seconds = self._first_step_seconds or _age_of_process()
        self._steps += 1
        self._tokens += tokens
        if self._steps == self._burst:
            self._hand_over()

    def _hand_over(self) -> None:
        seconds = time.perf_counter() - self._since
        burst = Burst(self._tokens, seconds, self._first_step_seconds, self._peak())
        print(json.dumps(asdict(burst)), file=self._out, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # measured; there is nothing to finish
        self._steps = self._tokens = 0
        self._since = time.perf_counter()


def _age_of_process() -> float:
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class Side:
    """A program that is measured, seen from the runner."""

    def __init__(self, *command: str) -> None:
        self._command = [sys.executable, *command]
        here, pipe = Path(__file__).parent, subprocess.PIPE
        with setting.LOG.open("a") as log:
            self._process = subprocess.Popen(self._command, cwd=here, stdin=pipe, stdout=pipe, stderr=log, text=True)
        self.bursts = [self._answer()]

    def take_turn(self) -> None:
        """Let it run for a burst."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.bursts.append(self._answer())

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Burst:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            command = " ".join(self._command)
            raise RuntimeError(f"{command} ended with {self._process.wait()}; what it said is in {setting.LOG}")
        return Burst(**json.loads(line))


@dataclass(frozen=True)
class Duel:
    """Turns of two programs, pair by pair."""

    ours: list[Burst]
    peer: list[Burst]

    def of(self, figure: Callable[[Burst], float]) -> tuple[float, float, float]:
        """Medians of both sides, and the median of the pairs' ratios."""
        ours, peer = [figure(burst) for burst in self.ours], [figure(burst) for burst in self.peer]
        return median(ours), median(peer), median(a / b for a, b in zip(ours, peer, strict=True))


def duel(ours: list[str], peer: list[str], pairs: int = PAIRS) -> Duel:
    """Start both programs, and let them run in turns: ours, peer, peer, ours, ours, peer, ...

    The burst with which each begins is warm-up, and does not count.
    """
    sides = [Side(*ours), Side(*peer)]
    for pair in range(pairs):
        for side in sides if pair % 2 == 0 else reversed(sides):
            side.take_turn()
    for side in sides:
        side.end()
    return Duel(sides[0].bursts[1:], sides[1].bursts[1:])
