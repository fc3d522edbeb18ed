"""Audio: decoded, mixed to one channel, resampled to the rate that a model reads."""

import io
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pretune_trainer.errors import BadRowError

Samples = NDArray[np.int16]
"""One channel of 16 bits, as most speech is kept."""
Wave = NDArray[np.float32]
"""One channel, from -1 to 1."""

FULL: Final = 32_768
"""A sample of 16 bits is a share of this."""
_UNKNOWN: Final = 2**31 - 2**16
"""Bytes; who writes WAV into a pipe does not know the size, and says that it is as large as can be: this or more."""


def decode(content: bytes) -> tuple[Wave, int]:
    """The audio in a WAV, FLAC, MP3 or Ogg file, float32 [samples], its channels mixed; and its samples a second.

    Raises:
        ValueError: it is no audio, or a damaged one.
    """
    try:
        channels, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError("the audio cannot be decoded; supported formats are WAV, FLAC, MP3 and Ogg") from error
    if _is_cut_off(content):
        raise ValueError("the audio is truncated: the file is shorter than its header says; convert it again")
    if not np.isfinite(channels).all():
        raise ValueError("the audio has samples that are NaN or infinite; convert it again")
    return channels.mean(axis=1), int(rate)


def _is_cut_off(content: bytes) -> bool:
    """Whether a WAV file ends before its end, which libsndfile takes for the end; a byte to fill up may be missing."""
    size = int.from_bytes(content[4:8], "little") + 8
    return content[:4] == b"RIFF" and len(content) + 1 < size < _UNKNOWN


def resampled(wave: Wave, rate: int, wanted: int) -> Samples:
    """The audio at another rate, int16 [samples]; the same samples where the rate is the same and they had 16 bits."""
    if rate != wanted:
        wave = soxr.resample(wave, rate, wanted)
    return np.clip(np.rint(wave * FULL), -FULL, FULL - 1).astype(np.int16)


def checked(content: bytes, place: object, rate: int, seconds: float) -> Samples:
    """The file's audio at `rate`, int16 [samples], if there is some, and no more than `seconds`.

    Raises:
        BadRowError: it is not.
    """
    try:
        wave, own = decode(content)
    except ValueError as error:
        raise BadRowError(str(place), str(error)) from error
    if not len(wave):
        raise BadRowError(str(place), "the audio is empty")
    if len(wave) > seconds * own:
        raise BadRowError(
            str(place),
            f"the clip has {len(wave) / own:.2f} seconds, at most {seconds:g} are allowed; shorten it, or drop it with "
            "spec.data.cleaning.audio.maxSeconds",
        )
    return resampled(wave, own, rate)
