"""What a FinetuneJob learns: one model a task, one line in `Task`."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.contrastive import Contrastive
from pretune_api.images import Pictures
from pretune_api.in_context import InContext
from pretune_api.objectives import CausalLM, ImageClassification, Objective
from pretune_api.preference import Preference
from pretune_api.speech import SpeechRecognition
from pretune_api.units import PROMPT, ColumnName, UniqueList


class Chat(Spec):
    """Answer in a conversation: the loss is taken on the assistant's turns and their end tokens only.

    The source's column holds a list of messages, each {role, content}.
    """

    template: Annotated[str | None, Field(min_length=1, max_length=65_536)] = None
    """Jinja chat template with {% generation %} marks; without it the tokenizer's own, or else roles in plain text."""


class SequenceClassification(Spec):
    """One label, or several, per text: sentiment, legal clauses, fraud."""

    labels: Annotated[
        UniqueList[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=2, max_length=10_000)
    ]
    """The labels, in the order of the model's outputs."""
    label_column: ColumnName = "label"
    """Column with the label, or with a list of labels when multiLabel is set."""
    multi_label: bool = False
    """Whether a text can carry several labels, or none."""
    class_weights: Annotated[dict[str, Annotated[float, Field(ge=0.0, le=1e6)]], Field(max_length=10_000)] = {}
    """Weights of the losses of texts with these labels, 1 where absent: rare labels weigh more. The mean is taken over
    texts, not over weights. With multiLabel they weigh the label's presence, not its absence."""
    in_context: InContext | None = None
    """How evaluation.baseline asks a causal language model; without it, the baseline is that of a new head."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="inContext",
            message="it finds one label a text; leave out multiLabel",
            cel="!has(self.inContext) || !self.multiLabel",
            holds=lambda self: self.in_context is None or not self.multi_label,
        ),
    )


class TokenClassification(Spec):
    """Entities in text: names, symptoms, parts of an address.

    The source's column holds a list of words, and the label column a tag for each, in IOB2 (O, B-Symptom, I-Symptom);
    or the column holds text, and the label column a list of {start, end, label} in characters, end excluded.
    """

    labels: Annotated[
        UniqueList[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=1_000)
    ]
    """The kinds of entities, such as Symptom; the model's outputs are O, then B- and I- of each."""
    label_column: ColumnName = "labels"
    """Column with the tags, or with the spans."""


class SequenceRegression(Spec):
    """A number per text: a rating, a price, how alike two sentences are."""

    target_column: ColumnName = "target"
    """Column with the number."""


class QuestionAnswering(Spec):
    """Answer questions with a part of a text. Rows are in SQuAD's format; the source's column holds the text.

    The answers are an object: text, a list of answers, and answer_start, a list of the characters that they begin at.
    """

    question_column: ColumnName = "question"
    """Column with the question."""
    answers_column: ColumnName = "answers"
    """Column with the answers."""
    unanswerable: bool = False
    """Whether a text can hold no answer (SQuAD 2.0): its list of answers is empty then, and so may be the model's."""
    max_answer_tokens: Annotated[int, Field(ge=1, le=4_096)] = 30
    """Longest answer that the model may give, in tokens."""


Prompt = Annotated[str, Field(min_length=6, max_length=4_096, pattern=PROMPT)]
"""Text around the text that is read, which stands for {text}."""
TargetTokens = Annotated[int, Field(ge=1, le=65_536)]
"""Longest text that is wanted or written, its end token included."""
Beams = Annotated[int, Field(ge=1, le=16)]
"""Beams of the search in evaluations; 1 takes the likeliest token each time."""


class Summarization(Spec):
    """Say in short what a text says. The source's column holds the text; a long one is cut at its end."""

    target_column: ColumnName = "summary"
    """Column with the summary."""
    prompt: Prompt | None = None
    """What is read, such as "summarize: {text}" (T5); without it the text alone, for decoders with a line's end."""
    max_target_tokens: TargetTokens = 128
    """Longest summary in tokens; of a decoder's row, this much is kept free of the text."""
    beams: Beams = 1
    """Beams of the search in evaluations."""


class Translation(Spec):
    """Say in another language what a text says. The source's column holds the text."""

    target_column: ColumnName = "translation"
    """Column with the translation."""
    language_column: ColumnName | None = None
    """Column with the tag of the language to translate into, such as de: it stands for {language} in the prompt, or as
    <de> before it (Johnson et al., 2017)."""
    prompt: Prompt | None = None
    """What is read, such as "translate to {language}: {text}"; without it the text alone, for decoders with a line's
    end."""
    max_target_tokens: TargetTokens = 128
    """Longest translation in tokens; of a decoder's row, this much is kept free of the text."""
    beams: Beams = 1
    """Beams of the search in evaluations."""


class Task(OneOf):
    """What is learnt."""

    chat: Chat | None = None
    """Answer in a conversation."""
    causal_lm: Annotated[CausalLM | None, Field(alias="causalLM")] = None
    """Predict the next token of plain text."""
    preference: Preference | None = None
    """Give preferred answers more probability than others."""
    sequence_classification: SequenceClassification | None = None
    """Label whole texts."""
    token_classification: TokenClassification | None = None
    """Find entities in texts."""
    sequence_regression: SequenceRegression | None = None
    """Give each text a number."""
    question_answering: QuestionAnswering | None = None
    """Answer questions with a part of a text."""
    summarization: Summarization | None = None
    """Write summaries."""
    translation: Translation | None = None
    """Write translations."""
    image_classification: ImageClassification | None = None
    """Label images."""
    speech_recognition: SpeechRecognition | None = None
    """Write down what is said."""
    contrastive: Contrastive | None = None
    """Match images with captions."""


IMAGES_ALONE: Final = ("imageClassification", "maskedImage")
"""Objectives and tasks that read images and no text, by their YAML names."""


def reads_text(learn: Objective | Task) -> bool:
    """Whether an objective or task reads text, and so needs a tokenizer."""
    alone = [name for name in learn.alternatives() if learn.alias(name) in IMAGES_ALONE]
    return all(getattr(learn, name) is None for name in alone)


OWN_COLUMN: Final = ""
"""Stands for the source's own column."""


def image_column(learn: OneOf) -> str | None:
    """Column with images; OWN_COLUMN where the source's own holds them, None where no image is read."""
    match learn.value:
        case Contrastive(image_column=image):
            return image
        case Pictures():
            return OWN_COLUMN
    return None


def in_context_of(learn: OneOf) -> InContext | None:
    """How a language model is asked before it is trained; None where it is not."""
    task = learn.sequence_classification if isinstance(learn, Task) else None
    return task.in_context if task is not None else None


def text_columns(learn: OneOf) -> list[str]:
    """Columns with text beside the source's own, which a tokenizer is trained on too."""
    match learn.value:
        case QuestionAnswering(question_column=question):
            return [question]
        case Summarization(target_column=target) | Translation(target_column=target):
            return [target]
        case SpeechRecognition(transcript_column=transcript):
            return [transcript]
        case Preference(chosen_column=chosen, rejected_column=rejected):
            return [chosen, rejected]
    return []
