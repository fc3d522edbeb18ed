"""The objective and task speechRecognition."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ColumnName


class SpeechRecognition(Spec):
    """Transcribe speech: letter by letter along the audio (wav2vec2, HuBERT, WavLM; CTC), or with a decoder (Whisper).

    The source's column holds WAV, FLAC, MP3 or Ogg bytes, or an object {bytes} as Hugging Face datasets write it; or
    the source consists of audio files, and the transcript of a.wav is in a.txt next to it. Audio is resampled to the
    model's rate and mixed down to one channel.
    """

    transcript_column: ColumnName = "text"
    """Column with the transcript. CTC compares transcripts letter by letter, so write them all in the same style, such
    as in capitals without punctuation."""
    sampling_rate: Annotated[int | None, Field(ge=1_000, le=192_000)] = None
    """Samples per second that the model reads; defaults to the parent's, or 16000. Whisper supports only 16000."""
    max_seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 30.0
    """Maximum length of a clip, in seconds; for Whisper, at most its window (max_source_positions / 50 seconds). Longer
    clips are rejected; data.cleaning.audio can drop them."""
    language: Annotated[str | None, Field(min_length=2, max_length=32)] = None
    """Language of the speech, such as en, for a multilingual Whisper; by default none is specified, which suits a
    Whisper for one language."""
