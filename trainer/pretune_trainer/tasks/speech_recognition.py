"""Speech recognition, by whichever model listens."""

from pretune_trainer.tasks.base import Context
from pretune_trainer.tasks.speech import SpeechTask
from pretune_trainer.tasks.speech_ctc import SpeechCtc
from pretune_trainer.tasks.speech_seq2seq import SpeechSeq2Seq


def speech_recognition(context: Context) -> SpeechTask:
    """The task for the model: an encoder writes letter by letter, an encoder-decoder as it speaks."""
    return SpeechSeq2Seq(context) if context.encoder_decoder else SpeechCtc(context)
