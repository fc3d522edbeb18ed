"""Speech written down letter by letter along the audio: connectionist temporal classification (Graves et al., 2006)."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCTC, PreTrainedModel, Wav2Vec2CTCTokenizer

from pretune_api.model import Architecture
from pretune_trainer.data.audio import Samples
from pretune_trainer.data.example import Example, Pack, Row
from pretune_trainer.errors import BadRowError, UserError, quoted
from pretune_trainer.metrics.transcripts import Transcript
from pretune_trainer.model.build import Build
from pretune_trainer.model.sounds import NEW
from pretune_trainer.tasks.base import Batch, Context
from pretune_trainer.tasks.logits import logits_of
from pretune_trainer.tasks.speech import SpeechTask, clips_of, frames_in, transcripts


class SpeechCtc(SpeechTask):
    """A letter, or a blank, for each frame of a wav2vec2 or its kin; the padding token is the blank.

    No loss is infinite: clips that have too few frames for their letters are refused.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not isinstance(self.tokenizer, Wav2Vec2CTCTokenizer):
            raise UserError(
                "spec.tokenizer", "CTC needs tokens for letters; train one with algorithm: character, or use a parent's"
            )
        if self.spec.language is not None:
            raise UserError(f"{self.where}.language", "CTC does not use a language; remove it")
        self.fingerprint += f"/{self.sounds.convolutions}/{self.sounds.fewest_frames}"
        self.blank = context.pad
        self.unknown = self.tokenizer.unk_token_id

    def model(self, build: Build) -> PreTrainedModel:
        """A model with a head on every frame; a parent without one, or with other letters, gets a new one."""
        new = NEW if isinstance(build.origin, Architecture) else {}
        return build.make(AutoModelForCTC, vocab_size=len(self.tokenizer), **new)

    def answer(self, row: Row, said: str) -> list[int]:
        """The letters."""
        ids: list[int] = self.tokenizer(said, add_special_tokens=False)["input_ids"]
        if set(ids) <= {self.unknown, self.tokenizer.word_delimiter_token_id}:
            raise BadRowError(
                str(row.place),
                f"column '{self.spec.transcript_column}' holds {quoted(said)}, none of which the tokenizer knows; "
                "does it have capitals only?",
            )
        return ids

    def check(self, row: Row, audio: Samples, answer: NDArray[np.int32]) -> None:
        """Each letter takes a frame, and so does the blank between two that are the same."""
        frames, letters = self.sounds.frames(len(audio)), answer.tolist()
        blanks = sum(one == other for one, other in pairwise(letters))
        wanted = max(len(letters) + blanks, self.sounds.fewest_frames)
        if frames < wanted:
            raise BadRowError(
                str(row.place),
                f"the clip has {frames} frames, too few for {len(letters)} letters: {wanted} are needed, including "
                "a blank between repeated letters; is the transcript that of another clip?",
            )

    def batch(self, packs: Sequence[Pack]) -> Batch:
        """Waves [packs, samples]; targets "letters" int64 [packs, longest], "frames" and "length" int64 [packs]."""
        examples = self._clips(packs)
        lengths = [len(example["answer"]) for example in examples]
        letters = [torch.from_numpy(example["answer"].astype(np.int64)) for example in examples]
        targets = {
            "letters": pad_sequence(letters, batch_first=True, padding_value=self.blank),
            "frames": torch.tensor([self.sounds.frames(len(example["audio"])) for example in examples]),
            "length": torch.tensor(lengths),
        }
        inputs = self.heard(examples, padding=True, return_attention_mask=True)
        return Batch(inputs, targets, {"ctc": sum(lengths)}, frames_in(examples, self.sounds.rate), packs)

    def _clips(self, packs: Sequence[Pack]) -> list[Example]:
        """The clip of each row; the shortest that the model can read where there is none."""
        return clips_of(packs, np.zeros(self.sounds.samples(self.sounds.fewest_frames), np.int16))

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Summed over clips; its mean is taken over letters."""
        return {"ctc": self._losses(self._log_probabilities(model, batch), batch).sum()}

    def evaluate(self, model: nn.Module, batch: Batch) -> list[Transcript]:
        """What the likeliest letters of all frames say."""
        log_p = self._log_probabilities(model, batch)
        losses = self._losses(log_p, batch).tolist()
        letters, frames = log_p.argmax(-1).tolist(), batch.targets["frames"].tolist()
        spelled = [ids[:count] for ids, count in zip(letters, frames, strict=True)]
        written = self.tokenizer.batch_decode(spelled) if self.writes else None
        return transcripts(clips_of(batch.packs, np.zeros(0, np.int16)), losses, written)

    def _log_probabilities(self, model: nn.Module, batch: Batch) -> Tensor:
        """Of each letter, and the blank, in each frame: float32 [n, frames, letters]."""
        if not self.sounds.by_itself:
            return logits_of(model, batch.inputs).log_softmax(-1)
        # As they are known here: to be told by the mask would be to wait for the device, clip by clip.
        lengths = [len(clip["audio"]) for clip in self._clips(batch.packs)]
        clips = (wave[None, :length] for wave, length in zip(batch.inputs["input_values"], lengths, strict=True))
        rows = [logits_of(model, {"input_values": clip})[0] for clip in clips]
        return pad_sequence(rows, batch_first=True).log_softmax(-1)

    def _losses(self, log_probabilities: Tensor, batch: Batch) -> Tensor:
        """Of each clip, float32 [n]; 0 where nothing is said."""
        letters, frames, lengths = (batch.targets[name] for name in ("letters", "frames", "length"))
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's does not compute the same twice
            losses = F.ctc_loss(
                log_probabilities.transpose(0, 1), letters, frames, lengths, self.blank, reduction="none"
            )
        return losses * (lengths > 0)
