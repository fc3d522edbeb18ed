"""Whether a clip of audio is of use by itself: its length, its loudness, and whether it was recorded too loud."""

from typing import Final

import numpy as np

from pretune_api.cleaning import AudioFilter
from pretune_trainer.data.audio import FULL, Wave, decode
from pretune_trainer.data.cleaning.reasons import Reason

_CLIPPED: Final = (FULL - 1) / FULL
"""The loudest sample of 16 bits: what was louder was cut off here."""


def judge_audio(content: bytes, wanted: AudioFilter) -> Reason | None:
    """Why a file with a clip is dropped; None if it stays."""
    try:
        wave, rate = decode(content)
    except ValueError:
        return Reason.UNDECODABLE
    if not len(wave):
        return Reason.EMPTY
    seconds = len(wave) / rate
    if seconds < (wanted.min_seconds or 0.0):
        return Reason.TOO_SHORT
    if seconds > (wanted.max_seconds or seconds):
        return Reason.TOO_LONG
    return _loudness(wave, wanted)


def _loudness(wave: Wave, wanted: AudioFilter) -> Reason | None:
    if wanted.min_level is not None and float(np.sqrt(np.mean(wave**2))) < 10 ** (wanted.min_level / 20):
        return Reason.SILENT
    if wanted.max_clipped is not None and float(np.mean(np.abs(wave) >= _CLIPPED)) > wanted.max_clipped:
        return Reason.CLIPPED
    return None
