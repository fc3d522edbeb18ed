"""What a PretrainJob learns: one model an objective, one line in `Objective`."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import OneOf, Spec
from pretune_api.contrastive import Contrastive
from pretune_api.images import Pictures
from pretune_api.masked_image import MaskedImage
from pretune_api.speech import SpeechRecognition
from pretune_api.units import ColumnName, UniqueList

MaskingRate = Annotated[float, Field(gt=0.0, lt=1.0)]
"""Share of a text's tokens that the model must find."""
SpanLength = Annotated[float, Field(ge=1.0, le=100.0)]
"""Tokens in a span, on average."""


class CausalLM(Spec):
    """Predict each token from those before it (GPT, Llama).

    Documents are packed into rows and attend within themselves.
    """


class MaskedLM(Spec):
    """Find tokens from those on both sides of them (BERT, RoBERTa): an encoder.

    Of the tokens to find, 80% are hidden behind the mask token, 10% are replaced by a random token, 10% stay. They are
    chosen anew in every epoch.
    """

    masking_rate: MaskingRate = 0.15
    """Share of the tokens to find; at least one in each row."""
    whole_word: bool = False
    """Whether the tokens of a word are chosen together."""
    next_sentence: bool = False
    """Whether the model also learns to tell if a second segment follows the first one (BERT).

    Each row is a pair whose second segment comes from another document half of the time. Segments consist of sentences,
    which end at line ends, and at . ! or ? before a space.
    """


class SpanCorruption(Spec):
    """Each span leaves a sentinel of its own behind; the decoder writes the spans, each after its sentinel (T5)."""

    masking_rate: MaskingRate = 0.15
    """Share of the tokens that lie in spans."""
    mean_span_length: SpanLength = 3.0
    """Mean length of a span in tokens."""


class Infilling(Spec):
    """Each span leaves one mask token behind, and some masks hide nothing; the decoder writes the whole text (BART)."""

    masking_rate: MaskingRate = 0.3
    """Share of the tokens that lie in spans."""
    mean_span_length: SpanLength = 3.0
    """Mean length of a span in tokens: lengths are Poisson distributed, so that a mask can stand for no token too."""


class Denoising(OneOf):
    """Write what was taken out of a text (T5, BART): an encoder-decoder. The spans are drawn anew in every epoch."""

    span_corruption: SpanCorruption | None = None
    """As T5: sentinels in the text, the spans as the answer."""
    infilling: Infilling | None = None
    """As BART: masks in the text, the whole text as the answer."""


class ImageClassification(Pictures):
    """One label per image (ViT, ResNet).

    The source's column holds PNG or JPEG bytes, or an object {bytes} as Hugging Face datasets write it; or the source
    consists of image files, whose folders are the labels. Images are resized to the model's size.
    """

    labels: Annotated[
        UniqueList[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=2, max_length=10_000)
    ]
    """The labels, in the order of the model's outputs."""
    label_column: ColumnName = "label"
    """Column with the label; in a folder of images it is the name of an image's folder."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target that is spread over all labels."""
    mixup: Annotated[float | None, Field(gt=0.0, le=10.0)] = None
    """Alpha of mixup: images are blended with others, and so are their labels (Zhang et al., 2018)."""
    cutmix: Annotated[float | None, Field(gt=0.0, le=10.0)] = None
    """Alpha of CutMix: a part of another image is pasted in (Yun et al., 2019). With mixup, each half of the time."""
    freeze_batch_norm: bool = False
    """Whether batch normalisations keep the parent's statistics and weights, as suits few images (ResNet)."""


class Objective(OneOf):
    """What is learnt."""

    causal_lm: Annotated[CausalLM | None, Field(alias="causalLM")] = None
    """Predict the next token."""
    masked_lm: Annotated[MaskedLM | None, Field(alias="maskedLM")] = None
    """Find tokens from both sides."""
    denoising: Denoising | None = None
    """Write what was taken out of a text."""
    image_classification: ImageClassification | None = None
    """Label images."""
    speech_recognition: SpeechRecognition | None = None
    """Write down what is said."""
    masked_image: MaskedImage | None = None
    """Paint what is hidden of images."""
    contrastive: Contrastive | None = None
    """Match images with captions."""
