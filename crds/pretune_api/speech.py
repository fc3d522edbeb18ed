"""What it takes to write down what is said."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ColumnName


class SpeechRecognition(Spec):
    """Write down what is said: letter by letter along the audio (wav2vec2, HuBERT, WavLM; CTC), or as a decoder writes
    (Whisper).

    The source's column holds WAV, FLAC, MP3 or Ogg bytes, or an object {bytes} as Hugging Face datasets write it; or
    the source consists of audio files, and what is said in a.wav stands in a.txt beside it. Audio is resampled to the
    model's rate, and its channels are mixed.
    """

    transcript_column: ColumnName = "text"
    """Column with what is said. CTC compares it letter by letter, so write all transcripts in the same manner, such as
    in capitals without punctuation."""
    sampling_rate: Annotated[int | None, Field(ge=1_000, le=192_000)] = None
    """Samples a second that the model reads; by default the parent's, or 16000. Whisper knows no other than that."""
    max_seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 30.0
    """Longest clip; Whisper reads no more than its window (max_source_positions / 50 seconds). Longer ones are refused:
    data.cleaning.audio can leave them out."""
    language: Annotated[str | None, Field(min_length=2, max_length=32)] = None
    """Language of what is said, such as en, for a Whisper that knows several; without it none is named, as suits one
    that knows no other."""
