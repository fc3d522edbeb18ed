"""Audio: decoded, mixed to one channel, resampled to the rate that a model reads."""

import io
from collections.abc import Iterator
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
_BLOCK: Final = 2**20
"""Samples decoded at once, of all channels."""
_MOST: Final = 2**28
"""Samples that are decoded of one file, 1 GiB: more than four hours at 16 kHz."""
_STREAMED: Final = 2**63 - 1
"""What libsndfile says of a number of samples that is unknown."""
_UNKNOWN: Final = 2**31 - 2**16
"""Bytes; who writes WAV into a pipe does not know the size, and says that it is as large as can be: this or more."""


def decode(content: bytes) -> tuple[Wave, int]:
    """The audio in a WAV, FLAC, MP3 or Ogg file, float32 [samples], its channels mixed; and its samples a second.

    Raises:
        ValueError: it is no audio, or a damaged one.
    """
    try:
        with _OnwardsOnly(io.BytesIO(content)) as file:
            wave, rate = np.concatenate(list(_blocks(file))), file.samplerate
    except soundfile.LibsndfileError as error:
        raise ValueError("the audio cannot be decoded; supported formats are WAV, FLAC, MP3 and Ogg") from error
    if _is_cut_off(content) or _lacks_samples(file, len(wave)):
        raise ValueError("the audio is truncated: the file is shorter than its header says; convert it again")
    if not np.isfinite(wave).all():
        raise ValueError("the audio has samples that are NaN or infinite; convert it again")
    return wave, int(rate)


class _OnwardsOnly(soundfile.SoundFile):  # type: ignore[misc]  # it is not annotated
    """Goes on where it is: by default it seeks there after each read, which libsndfile misses near the end of Opus."""

    def seekable(self) -> bool:
        """Not to be sought in."""
        return False


def _blocks(file: soundfile.SoundFile) -> Iterator[Wave]:
    """The audio, piece by piece: headers say any length, and a minute of silence takes 3 KB as FLAC."""
    yield np.empty(0, np.float32)
    samples = 0
    while len(block := file.read(min(file.frames, _BLOCK // file.channels), dtype="float32", always_2d=True)):
        samples += len(block)
        if samples > _MOST:
            raise ValueError(f"the audio has more than {_MOST:,} samples; cut it into clips")
        yield block.mean(axis=1)


def _lacks_samples(file: soundfile.SoundFile, found: int) -> bool:
    """Whether a FLAC file has fewer samples than it says; who writes one into a pipe does not know how many."""
    return bool(file.format == "FLAC" and found < file.frames < _STREAMED)


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
