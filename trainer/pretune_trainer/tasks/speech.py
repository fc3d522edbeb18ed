"""What is said, written down: what tasks on speech have in common, whatever model listens."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pretune_api.speech import SpeechRecognition as Spec
from pretune_trainer.ahead import ahead
from pretune_trainer.data.audio import FULL, Samples, checked
from pretune_trainer.data.example import Example, Layout, Pack, Row
from pretune_trainer.errors import BadRowError, quoted
from pretune_trainer.metrics.base import Metric
from pretune_trainer.metrics.transcripts import Transcript, TranscriptReport
from pretune_trainer.tasks.base import Context, Task

_FRAMES: Final = 50
"""A second weighs as much as so many tokens: the frames that models of speech see of it."""
_DECODED_AT_ONCE: Final = 4
"""Clips decoded and resampled at once, each in a thread: the libraries let others work meanwhile."""


class SpeechTask(Task[Transcript]):
    """Clips with what is said in them.

    A clip is decoded and resampled once, and kept in 16 bits; what the model reads is made of it when its turn comes.
    """

    metrics_known: Mapping[str, bool] = TranscriptReport.known

    def __init__(self, context: Context) -> None:
        assert isinstance(context.spec, Spec)
        self.spec = context.spec
        self.sounds = context.audio
        self.tokenizer = context.tokenizer
        self.seconds = min(self.spec.max_seconds, self.sounds.seconds)
        self.layout = Layout(length=max(1, round(self.seconds * _FRAMES)), packs=False)
        self.columns = (self.spec.transcript_column,)
        self.where = f"spec.{context.part}.speechRecognition"
        self.fingerprint = f"speechRecognition/1/{self.sounds.rate}/{self.seconds}/{self.spec.model_dump_json()}"
        self.writes = context.metrics is None or not {"wer", "cer"}.isdisjoint(context.metrics)
        """Whether evaluations let the model write."""

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a clip: audio int16 [samples], answer int32 [n], and said uint8: the transcript in UTF-8."""
        for row, audio in zip(rows, ahead(self._audio, rows, _DECODED_AT_ONCE), strict=True):
            said = self._said(row)
            answer = np.asarray(self.answer(row, said), np.int32)
            self.check(row, audio, answer)
            yield [{"audio": audio, "answer": answer, "said": np.frombuffer(said.encode(), np.uint8)}]

    def _audio(self, row: Row) -> Samples:
        return checked(row.content(), row.place, self.sounds.rate, self.seconds)

    def _said(self, row: Row) -> str:
        value = row.value(self.spec.transcript_column)
        if not isinstance(value, str) or not value.strip():
            raise BadRowError(
                str(row.place),
                f"column '{self.spec.transcript_column}' holds {quoted(value)}, expected the transcript",
            )
        return " ".join(value.split())

    @abstractmethod
    def answer(self, row: Row, said: str) -> Sequence[int]:
        """The tokens that are wanted for what is said."""

    @abstractmethod
    def check(self, row: Row, audio: Samples, answer: NDArray[np.int32]) -> None:
        """Refuse a clip from which the answer cannot be learnt.

        Raises:
            BadRowError: it cannot.
        """

    def heard(self, examples: Sequence[Example], **how: object) -> dict[str, Any]:
        """What the model reads of the clips, as the extractor makes it."""
        waves = [example["audio"].astype(np.float32) / np.float32(FULL) for example in examples]
        extractor: Any = self.sounds.extractor  # the type that all extractors have declares no call
        return dict(extractor(waves, sampling_rate=self.sounds.rate, return_tensors="pt", **how))

    def metrics(self) -> list[Metric[Transcript]]:
        """Loss, word error rate, character error rate."""
        return [TranscriptReport()]


def clips_of(packs: Sequence[Pack], silence: Samples) -> list[Example]:
    """The clip of each row; one in which nothing is said where a row only fills up a batch.

    Sharded ranks must compute equally often, and some models compute clip by clip.
    """
    nothing: Example = {"audio": silence, "answer": np.zeros(0, np.int32), "said": np.zeros(0, np.uint8)}
    return [pack.examples[0] if pack.examples else nothing for pack in packs]


def frames_in(examples: Sequence[Example], rate: int) -> int:
    """What the clips weigh in tokens; those in which nothing is said only fill up a batch."""
    return sum(len(example["audio"]) * _FRAMES // rate for example in examples if len(example["answer"]))


def transcripts(
    examples: Sequence[Example], losses: Sequence[float], written: Sequence[str] | None
) -> list[Transcript]:
    """What a model made of each clip in which something is said."""
    texts: Sequence[str | None] = written or [None] * len(examples)
    return [
        Transcript(loss, len(example["answer"]), example["said"].tobytes().decode(), text)
        for example, loss, text in zip(examples, losses, texts, strict=True)
        if len(example["answer"])
    ]
