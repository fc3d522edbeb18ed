"""How audio becomes what a model reads: waves for wav2vec2 and its kin, a log-mel spectrogram for Whisper."""

from dataclasses import dataclass
from typing import Any, Final

from transformers import (
    AutoFeatureExtractor,
    PretrainedConfig,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from pretune_api.model import Architecture
from pretune_api.speech import SpeechRecognition
from pretune_trainer.errors import UserError
from pretune_trainer.model.configuration import make_config
from pretune_trainer.model.origin import Source, parent_config

CTC_FAMILIES: Final = frozenset({"hubert", "wav2vec2", "wavlm"})
"""Model types that read waves and are trained with CTC; a test holds each to it."""
_WHISPER: Final = "whisper"
_USUAL_RATE: Final = 16_000
_POSITIONS_A_SECOND: Final = 50
"""Of Whisper's encoder: a frame each 10 ms, and two frames a position."""
NEW: Final[dict[str, Any]] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
"""How new models that read waves are made where the job does not say: as wav2vec2-large-lv60 and XLS-R. A layer
normalisation sees one moment, and so does not depend on how long a clip's neighbours in a batch are."""


@dataclass(frozen=True)
class Sounds:
    """What a model hears."""

    extractor: SequenceFeatureExtractor
    """Samples to the model's inputs; a part of the artifact."""
    config: PretrainedConfig
    """The model's."""

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.extractor.sampling_rate)

    @property
    def seconds(self) -> float:
        """The window of a Whisper; endless for others."""
        return float(getattr(self.extractor, "chunk_length", "inf"))

    @property
    def by_itself(self) -> bool:
        """Whether each clip must be computed by itself: a group normalisation sees the whole width of a batch."""
        return getattr(self.config, "feat_extract_norm", "layer") == "group"

    @property
    def fewest_frames(self) -> int:
        """Frames without which the model cannot hide some of them (SpecAugment), or sees nothing at all."""
        hides = self.config.apply_spec_augment and self.config.mask_time_prob > 0
        return int(self.config.mask_time_length) if hides else 1

    def frames(self, samples: int) -> int:
        """Steps in time that a wave of so many samples has behind the convolutions (and the adapter's)."""
        for kernel, stride in self.convolutions:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
        return samples

    def samples(self, frames: int) -> int:
        """Fewest samples that have so many frames."""
        for kernel, stride in reversed(self.convolutions):
            frames = (frames - 1) * stride + kernel
        return frames

    @property
    def convolutions(self) -> list[tuple[int, int]]:
        """Kernel and stride of each, the adapter's among them."""
        own = list(zip(self.config.conv_kernel, self.config.conv_stride, strict=True))
        if not getattr(self.config, "add_adapter", False):
            return own
        return own + [(1, self.config.adapter_stride)] * self.config.num_adapter_layers


def sounds_for(origin: Architecture | Source, spec: SpeechRecognition, where: str) -> Sounds:
    """What the model hears; `where` is the field of `spec`.

    Raises:
        UserError: it hears nothing, or at another rate than the job asks for.
    """
    config, model = _config(origin)
    if config.model_type not in {_WHISPER, *CTC_FAMILIES}:
        known = ", ".join(sorted(CTC_FAMILIES))
        raise UserError(model, f"{config.model_type} models do not take audio; use one of {known}, whisper")
    found = None if isinstance(origin, Architecture) else _parents(origin)
    extractor = found or _new(config, model, spec.sampling_rate or _USUAL_RATE)
    if spec.sampling_rate not in (None, extractor.sampling_rate):
        raise UserError(f"{where}.samplingRate", f"the model reads {extractor.sampling_rate} per second; remove it")
    sounds = Sounds(extractor, config)
    if config.model_type in CTC_FAMILIES:
        extractor.return_attention_mask = not sounds.by_itself
    return sounds


def _config(origin: Architecture | Source) -> tuple[PretrainedConfig, str]:
    """The model's configuration, and the field that it comes from."""
    if isinstance(origin, Architecture):
        fields = NEW if origin.type in CTC_FAMILIES else {}
        return make_config(origin, None, 0, fields), "spec.model.architecture"
    return parent_config(origin), "spec.model.from"


def _parents(source: Source) -> SequenceFeatureExtractor | None:
    """The parent's, where it has one."""
    try:
        found = AutoFeatureExtractor.from_pretrained(source.name, **source.arguments)
    except (OSError, ValueError):
        return None
    assert isinstance(found, SequenceFeatureExtractor)
    return found


def _new(config: PretrainedConfig, where: str, rate: int) -> SequenceFeatureExtractor:
    if config.model_type != _WHISPER:
        return Wav2Vec2FeatureExtractor(sampling_rate=rate)
    seconds, rest = divmod(config.max_source_positions, _POSITIONS_A_SECOND)
    if rest:
        raise UserError(
            where if where.endswith("from") else f"{where}.config.max_source_positions",
            f"must be a multiple of Whisper's {_POSITIONS_A_SECOND} positions per second,"
            f" not {config.max_source_positions}",
        )
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds)
