"""What can be learnt: one file an objective or task, one line in `TASKS`."""

from collections.abc import Callable
from typing import Any, Final

from pretune_trainer.tasks.base import Context, Task
from pretune_trainer.tasks.causal_lm import CausalLM
from pretune_trainer.tasks.chat import Chat
from pretune_trainer.tasks.contrastive import Contrastive
from pretune_trainer.tasks.denoising import Denoising
from pretune_trainer.tasks.embedding import Embedding
from pretune_trainer.tasks.image_classification import ImageClassification
from pretune_trainer.tasks.masked_image import MaskedImage
from pretune_trainer.tasks.masked_lm import MaskedLM
from pretune_trainer.tasks.preference import Preference
from pretune_trainer.tasks.question_answering import QuestionAnswering
from pretune_trainer.tasks.sequence_classification import SequenceClassification
from pretune_trainer.tasks.sequence_regression import SequenceRegression
from pretune_trainer.tasks.speech_recognition import speech_recognition
from pretune_trainer.tasks.text_to_text import TextToText
from pretune_trainer.tasks.token_classification import TokenClassification

TASKS: Final[dict[str, Callable[[Context], Task[Any]]]] = {
    "causalLM": CausalLM,
    "chat": Chat,
    "contrastive": Contrastive,
    "denoising": Denoising,
    "embedding": Embedding,
    "imageClassification": ImageClassification,
    "maskedImage": MaskedImage,
    "maskedLM": MaskedLM,
    "preference": Preference,
    "questionAnswering": QuestionAnswering,
    "sequenceClassification": SequenceClassification,
    "sequenceRegression": SequenceRegression,
    "speechRecognition": speech_recognition,
    "summarization": TextToText,
    "tokenClassification": TokenClassification,
    "translation": TextToText,
}
"""Objectives and tasks by their YAML names."""

__all__ = ["TASKS", "Context", "Task"]
