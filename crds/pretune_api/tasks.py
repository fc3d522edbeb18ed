"""What a FinetuneJob learns: one model a task, one line in `Task`."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec
from pretune_api.contrastive import Contrastive
from pretune_api.embedding import Embedding
from pretune_api.images import Pictures
from pretune_api.in_context import InContext
from pretune_api.objectives import CausalLM, ImageClassification, Objective
from pretune_api.preference import Preference
from pretune_api.speech import SpeechRecognition
from pretune_api.units import PROMPT, ColumnName, LabelName, Labels, UniqueList


class Chat(Spec):
    """Answer in a conversation: only the assistant's turns and their end tokens count towards the loss.

    The source's column holds a list of messages, each {role, content}, or of turns as in ShareGPT, each {from, value}.
    With answerColumn, it holds a question as text: each row is then a conversation of this question and its answer.
    """

    answer_column: ColumnName | None = None
    """Column with the answer as text, such as completion, output or response; by default, the source's column holds
    whole conversations."""
    context_column: ColumnName | None = None
    """Column with a text that belongs to the question, such as input or context: it follows the question after a blank
    line, except where it is null or blank."""
    system_column: ColumnName | None = None
    """Column with the system prompt as text: it begins the conversation, except where it is null or blank."""
    template: Annotated[str | None, Field(min_length=1, max_length=65_536)] = None
    """Jinja chat template with {% generation %} marks; defaults to the tokenizer's own or, if it has none, to roles in
    plain text."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="contextColumn",
            message="it belongs to a question in the source's column; set answerColumn, too",
            cel="!has(self.contextColumn) || has(self.answerColumn)",
            holds=lambda self: self.context_column is None or self.answer_column is not None,
        ),
    )

    @property
    def named_columns(self) -> tuple[str | None, str | None, str | None]:
        """Columns with the answer, the context and the system prompt; None for each that is not named."""
        return self.answer_column, self.context_column, self.system_column


class SequenceClassification(Spec):
    """Assign one or several labels to each text, or to each pair of texts: sentiment, legal clauses, fraud, whether one
    sentence follows from another."""

    labels: Labels
    """The labels, in the order of the model's outputs."""
    label_column: ColumnName = "label"
    """Column with the label, or with a list of labels if multiLabel is set."""
    pair_column: ColumnName | None = None
    """Column with a second text, such as a hypothesis or a found document, which is read with the first one; the longer
    of the two is truncated first. Rows without one are left out."""
    multi_label: bool = False
    """Whether a text can have several labels, or none."""
    class_weights: Annotated[dict[str, Annotated[float, Field(ge=0.0, le=1e6)]], Field(max_length=10_000)] = {}
    """Weights of the loss by label, 1 by default; rare labels can be given more weight. The loss is averaged over
    texts, not over weights. With multiLabel, a weight applies to the label's presence, not to its absence."""
    in_context: InContext | None = None
    """How evaluation.baseline prompts a causal language model; by default, the baseline is that of a new head."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="inContext",
            message="it supports only one label per text; remove multiLabel",
            cel="!has(self.inContext) || !self.multiLabel",
            holds=lambda self: self.in_context is None or not self.multi_label,
        ),
        Rule(
            field="inContext",
            message="it supports only one text per row; remove pairColumn",
            cel="!has(self.inContext) || !has(self.pairColumn)",
            holds=lambda self: self.in_context is None or self.pair_column is None,
        ),
    )


class TokenClassification(Spec):
    """Find entities in texts: names, symptoms, parts of an address.

    The source's column holds a list of words, and the label column a tag for each, in IOB2 (O, B-Symptom, I-Symptom);
    or the column holds text, and the label column a list of {start, end, label}, counted in characters, end excluded.
    """

    labels: Annotated[UniqueList[LabelName], Field(min_length=1, max_length=1_000)]
    """The types of entities, such as Symptom; the model's outputs are O, then B- and I- of each type."""
    label_column: ColumnName = "labels"
    """Column with the tags, or with the spans."""


class SequenceRegression(Spec):
    """Predict a number for each text, or for each pair of texts: a rating, a price, how hard it is to read, how similar
    two sentences are."""

    target_column: ColumnName = "target"
    """Column with the number."""
    pair_column: ColumnName | None = None
    """Column with a second text, such as a paraphrase or a found document, which is read with the first one; the longer
    of the two is truncated first. Rows without one are left out."""


class QuestionAnswering(Spec):
    """Answer questions with a span of a text. Rows are in SQuAD's format; the source's column holds the text.

    The answers are an object: text is a list of answers, answer_start a list of the characters at which they begin. A
    text that is longer than a row is read in several; evaluation.maxBatches leaves out all of them, or none.
    """

    question_column: ColumnName = "question"
    """Column with the question."""
    answers_column: ColumnName = "answers"
    """Column with the answers."""
    unanswerable: bool = False
    """Whether texts may contain no answer (SQuAD 2.0); their list of answers is then empty, as the model's answer may
    be."""
    max_answer_tokens: Annotated[int, Field(ge=1, le=4_096)] = 30
    """Maximum length of the model's answers, in tokens."""


Prompt = Annotated[str, Field(min_length=6, max_length=4_096, pattern=PROMPT)]
"""Template of the input; {text} is replaced with the text."""
TargetTokens = Annotated[int, Field(ge=1, le=65_536)]
"""Maximum length of a target or generated text, including its end token."""
Beams = Annotated[int, Field(ge=1, le=16)]
"""Number of beams of the search in evaluations; 1 takes the most likely token each time."""


class Summarization(Spec):
    """Summarize texts. The source's column holds the text; long texts are truncated at the end."""

    target_column: ColumnName = "summary"
    """Column with the summary."""
    prompt: Prompt | None = None
    """Template of the input, such as "summarize: {text}" (T5); defaults to the text, followed by a newline for
    decoders."""
    max_target_tokens: TargetTokens = 128
    """Maximum length of a summary, in tokens; decoders reserve this much of each row for it."""
    beams: Beams = 1
    """Number of beams of the beam search in evaluations."""


class Translation(Spec):
    """Translate texts. The source's column holds the text."""

    target_column: ColumnName = "translation"
    """Column with the translation."""
    language_column: ColumnName | None = None
    """Column with the tag of the target language, such as de: it replaces {language} in the prompt, or precedes the
    prompt as <de> (Johnson et al., 2017)."""
    prompt: Prompt | None = None
    """Template of the input, such as "translate to {language}: {text}"; defaults to the text, followed by a newline for
    decoders."""
    max_target_tokens: TargetTokens = 128
    """Maximum length of a translation, in tokens; decoders reserve this much of each row for it."""
    beams: Beams = 1
    """Number of beams of the beam search in evaluations."""


class Task(OneOf):
    """The task to train for."""

    chat: Chat | None = None
    """Answer in a conversation."""
    causal_lm: Annotated[CausalLM | None, Field(alias="causalLM")] = None
    """Predict the next token of plain text."""
    preference: Preference | None = None
    """Make preferred answers more likely than rejected ones."""
    sequence_classification: SequenceClassification | None = None
    """Classify texts."""
    token_classification: TokenClassification | None = None
    """Find entities in texts."""
    sequence_regression: SequenceRegression | None = None
    """Predict a number for each text."""
    question_answering: QuestionAnswering | None = None
    """Answer questions with a span of a text."""
    embedding: Embedding | None = None
    """Turn texts into vectors that are similar where the texts belong together."""
    summarization: Summarization | None = None
    """Summarize texts."""
    translation: Translation | None = None
    """Translate texts."""
    image_classification: ImageClassification | None = None
    """Classify images."""
    speech_recognition: SpeechRecognition | None = None
    """Transcribe speech."""
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


def context_column(learn: OneOf) -> str | None:
    """Column with the text that the one in the source's own is about, and without which it is not the same document;
    None where it stands for itself."""
    return learn.value.context_column if isinstance(learn.value, Chat) else None


def in_context_of(learn: OneOf) -> InContext | None:
    """How a language model is asked before it is trained; None where it is not."""
    task = learn.sequence_classification if isinstance(learn, Task) else None
    return task.in_context if task is not None else None


def column_field(learn: OneOf, column: str) -> str | None:
    """Path, below the spec's part, of the field that names a column, such as chat.answerColumn; None if none does."""
    found = _column_fields(learn.value, learn.kind)
    return next((path for path, named in found if named == column), None)


def _column_fields(spec: object, path: str) -> Iterator[tuple[str, object]]:
    if not isinstance(spec, Spec):
        return
    for name, value in spec:
        field = f"{path}.{spec.alias(name)}"
        if name == "column" or name.endswith("_column"):
            yield field, value
        yield from _column_fields(value, field)


def text_columns(learn: OneOf) -> list[str]:
    """Columns with text beside the source's own, which a tokenizer is trained on too."""
    match learn.value:
        case Chat(named_columns=named):
            return [column for column in named if column is not None]
        case SequenceClassification(pair_column=str(pair)) | SequenceRegression(pair_column=str(pair)):
            return [pair]
        case QuestionAnswering(question_column=question):
            return [question]
        case Summarization(target_column=target) | Translation(target_column=target):
            return [target]
        case SpeechRecognition(transcript_column=transcript):
            return [transcript]
        case Preference(chosen_column=chosen, rejected_column=rejected):
            return [chosen, rejected]
        case Embedding(positive_column=positive, hard_negatives=hard):
            return [column for column in (positive, hard.column if hard else None) if column is not None]
    return []
