"""Speech written down as a decoder writes, having heard a whole window: Whisper (Radford et al., 2022)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForSpeechSeq2Seq, PreTrainedModel, WhisperTokenizer

from pretune_api.model import Architecture
from pretune_trainer.data.audio import Samples
from pretune_trainer.data.example import Pack, Row
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.metrics.transcripts import Transcript
from pretune_trainer.model.build import Build
from pretune_trainer.model.gather import are_several
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.tasks.base import Batch, Context
from pretune_trainer.tasks.encoder_decoder import answer_losses
from pretune_trainer.tasks.generation import PLAINLY
from pretune_trainer.tasks.language import padded
from pretune_trainer.tasks.logits import fitting
from pretune_trainer.tasks.speech import SpeechTask, clips_of, frames_in, transcripts


class SpeechSeq2Seq(SpeechTask):
    """Cross-entropy of the transcript's tokens, those that say language and task among them."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not isinstance(self.tokenizer, WhisperTokenizer):
            raise UserError(
                "spec.tokenizer", "Whisper has its own special tokens; train one with algorithm: bpe, or use a parent's"
            )
        self.pad = context.pad
        self.most = int(self.sounds.config.max_target_positions)
        self.fingerprint += f"/{self.most}"
        self._name_language()

    def _name_language(self) -> None:
        """Let every transcript begin with its language, where there is one to name."""
        language = self.spec.language
        if language is None:
            return
        known = self.tokenizer.get_vocab().keys()
        if f"<|{language}|>" not in known or "<|transcribe|>" not in known:
            raise UserError(f"{self.where}.language", f"the tokenizer lacks the language '{language}'; remove it")
        self.tokenizer.set_prefix_tokens(language=language, task="transcribe")

    def model(self, build: Build) -> PreTrainedModel:
        """A Whisper; a new one begins as its tokenizer does, and may write as much as it has positions."""
        start, *_, plain = self.tokenizer.prefix_tokens
        new = isinstance(build.origin, Architecture)
        own = {"decoder_start_token_id": start, "begin_suppress_tokens": None, "suppress_tokens": None}
        model = build.make(AutoModelForSpeechSeq2Seq, **(own if new else {}))
        if new:
            model.generation_config.update(no_timestamps_token_id=plain, max_length=self.most)
        if self.spec.language is not None:
            model.generation_config.update(language=self.spec.language, task="transcribe")
        return model

    def answer(self, row: Row, said: str) -> list[int]:
        """The transcript's tokens between those that begin and end it; the very first is the decoder's own."""
        return list(self.tokenizer(said)["input_ids"][1:])

    def check(self, row: Row, audio: Samples, answer: NDArray[np.int32]) -> None:
        """The decoder has a position for each token."""
        if len(answer) > self.most:
            raise BadRowError(
                str(row.place),
                f"the transcript has {len(answer)} tokens, but the model has {self.most} positions for them "
                "(max_target_positions); shorten the clip, or remove it",
            )

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Spectrograms [packs, mels, frames]; targets "lm" int64 [packs, width]."""
        examples = clips_of(packs, np.zeros(1, np.int16))
        answers = [example["answer"] for example in examples]
        inputs = {"input_features": self.heard(examples)["input_features"]}
        count, targets = sum(map(len, answers)), padded(answers, IGNORED, self.most)
        return Batch(inputs, {"lm": targets}, {"lm": count}, frames_in(examples, self.sounds.rate) + count, packs)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over the tokens of the transcripts."""
        return {"lm": answer_losses(model, batch, self.pad).sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Transcript]:
        """The likelihood of the transcripts, and what the model writes where that is looked at."""
        assert isinstance(model, PreTrainedModel)
        losses = answer_losses(model, batch, self.pad).view(batch.targets["lm"].shape).sum(1)
        written = self._written(model, batch) if self.writes else None
        return transcripts(clips_of(batch.packs, np.zeros(0, np.int16)), losses.tolist(), written)

    def _written(self, model: PreTrainedModel, batch: Batch) -> list[str]:
        """Greedily; sharded ranks write until the last one has finished.

        At once: where timestamps are written, though none are asked for, Whisper would begin anew behind the last one,
        more often on one rank than on another, and for ever where that one is the clip's beginning.
        """
        ids = model.generate(
            **fitting(batch.inputs, model),
            num_beams=1,
            synced_gpus=are_several(),
            force_unique_generate_call=True,
            **PLAINLY,
        )
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
