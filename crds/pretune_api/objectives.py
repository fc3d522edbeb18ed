"""What a PretrainJob learns: one model an objective, one line in `Objective`."""

from typing import Annotated

from pydantic import Field

from pretune_api.base import OneOf, Spec
from pretune_api.contrastive import Contrastive
from pretune_api.images import Pictures
from pretune_api.masked_image import MaskedImage
from pretune_api.speech import SpeechRecognition
from pretune_api.units import ColumnName, Labels

MaskingRate = Annotated[float, Field(gt=0.0, lt=1.0)]
"""Share of a text's tokens that the model must predict."""
SpanLength = Annotated[float, Field(ge=1.0, le=100.0)]
"""Tokens in a span, on average."""


class CausalLM(Spec):
    """Predict each token from those before it (GPT, Llama).

    Documents are packed into rows; attention stays within each document.
    """


class MaskedLM(Spec):
    """Predict tokens from those on both sides of them (BERT, RoBERTa): trains an encoder.

    Of the tokens to predict, 80% are replaced with the mask token, 10% with a random token, and 10% are kept. They are
    sampled anew every epoch.
    """

    masking_rate: MaskingRate = 0.15
    """Share of tokens to predict; at least one in each row."""
    whole_word: bool = False
    """Select all tokens of a word together."""
    next_sentence: bool = False
    """Also train next sentence prediction: whether a second segment follows the first one (BERT).

    Each row is a pair of segments; half of the time, the second one comes from another document. Segments consist of
    sentences, which end at the end of a line, or at . ! or ? before a space.
    """


class SpanCorruption(Spec):
    """Each span is replaced with its own sentinel; the decoder writes the spans, each after its sentinel (T5)."""

    masking_rate: MaskingRate = 0.15
    """Share of tokens in spans."""
    mean_span_length: SpanLength = 3.0
    """Mean length of a span, in tokens."""


class Infilling(Spec):
    """Each span is replaced with one mask token; the decoder writes the whole text (BART)."""

    masking_rate: MaskingRate = 0.3
    """Share of tokens in spans."""
    mean_span_length: SpanLength = 3.0
    """Mean length of a span, in tokens; lengths are Poisson distributed, so that some masks stand for no token."""


class Denoising(OneOf):
    """Reconstruct text from which spans were removed (T5, BART): trains an encoder-decoder.

    The spans are sampled anew every epoch.
    """

    span_corruption: SpanCorruption | None = None
    """As in T5: sentinels replace the spans, which are the target."""
    infilling: Infilling | None = None
    """As in BART: masks replace the spans, and the whole text is the target."""


class ImageClassification(Pictures):
    """Assign one label to each image (ViT, ResNet).

    The source's column holds PNG or JPEG bytes, or an object {bytes} as Hugging Face datasets write it; or the source
    consists of image files in folders named after the labels. Images are resized to the model's input size.
    """

    labels: Labels
    """The labels, in the order of the model's outputs."""
    label_column: ColumnName = "label"
    """Column with the label; for image files, the label is the name of their folder."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target probability that is spread over all labels."""
    mixup: Annotated[float | None, Field(gt=0.0, le=10.0)] = None
    """Alpha of mixup, which blends pairs of images and their labels (Zhang et al., 2018)."""
    cutmix: Annotated[float | None, Field(gt=0.0, le=10.0)] = None
    """Alpha of CutMix, which pastes a part of one image into another (Yun et al., 2019). If mixup is set as well, each
    is used half of the time."""
    freeze_batch_norm: bool = False
    """Freeze the statistics and weights of the parent's batch normalization, which suits small data sets (ResNet)."""


class Objective(OneOf):
    """The training objective."""

    causal_lm: Annotated[CausalLM | None, Field(alias="causalLM")] = None
    """Predict the next token."""
    masked_lm: Annotated[MaskedLM | None, Field(alias="maskedLM")] = None
    """Predict masked tokens."""
    denoising: Denoising | None = None
    """Reconstruct text from which spans were removed."""
    image_classification: ImageClassification | None = None
    """Classify images."""
    speech_recognition: SpeechRecognition | None = None
    """Transcribe speech."""
    masked_image: MaskedImage | None = None
    """Reconstruct masked parts of images."""
    contrastive: Contrastive | None = None
    """Match images with captions."""
