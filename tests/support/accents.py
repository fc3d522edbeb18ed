"""Words that a synthesiser says in several accents: espeak-ng, where it is installed."""

import shutil
import subprocess

import numpy as np
import pytest

WORDS = ["yes", "no", "up", "down", "left", "right", "stop", "go"]
"""Some of those of Speech Commands (Warden, 2018)."""
ACCENTS = {"american": "en-us", "scottish": "en-gb-scotland", "caribbean": "en-029"}
"""Voices of espeak-ng, by name."""
_VARIANTS = ["", "+m3", "+m7", "+f2", "+f4"]
_PACE, _PITCH = (110, 160), (30, 70)

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng speaks the test's words: apt-get install espeak-ng"
)


def utterances(accent: str, count: int, seed: int) -> list[tuple[bytes, str]]:
    """WAV files of one or two words each, voice, pace and pitch drawn for every one; and the words."""
    random = np.random.default_rng((seed, *accent.encode()))
    said = [" ".join(random.choice(WORDS, random.integers(1, 3))) for _ in range(count)]
    return [(_spoken(text, accent, random), text) for text in said]


def _spoken(text: str, accent: str, random: np.random.Generator) -> bytes:
    pace, pitch = (str(random.integers(*span)) for span in (_PACE, _PITCH))
    voice = ACCENTS[accent] + str(random.choice(_VARIANTS))
    command = ["espeak-ng", "-v", voice, "-s", pace, "-p", pitch, "--stdout", text]
    return subprocess.run(command, check=True, capture_output=True).stdout
