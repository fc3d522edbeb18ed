"""Answer in a conversation: supervised fine-tuning on the assistant's turns."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from jinja2 import TemplateError

from pretune_api.tasks import Chat as ChatSpec
from pretune_trainer.data.example import Example, Row
from pretune_trainer.data.truncation import fitted
from pretune_trainer.errors import BadRowError, UserError, lines_of
from pretune_trainer.tasks.base import Context
from pretune_trainer.tasks.causal_lm import NextToken
from pretune_trainer.tasks.conversation import conversation_of

PLAIN_TEMPLATE: Final = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""Roles as plain text, as in Zephyr: needs no token that a parent does not have."""

TEMPLATE_ERRORS: Final = (TemplateError, TypeError, ValueError)
"""What a template raises: on its own, through Python's operators, or in transformers."""


class Chat(NextToken):
    """Conversations; the loss is taken on what the assistant says, its end token included."""

    nothing_learnt = "within spec.data.sequenceLength the assistant says nothing in them"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        spec = context.spec
        assert isinstance(spec, ChatSpec)
        self.spec = spec
        self.columns = tuple(column for column in spec.named_columns if column is not None)
        self.tokenizer.chat_template = spec.template or self.tokenizer.chat_template or PLAIN_TEMPLATE
        template = hashlib.sha256(self.tokenizer.chat_template.encode()).hexdigest()
        self.fingerprint = f"chat/2/{template}" + (f"/{spec.named_columns}" if self.columns else "")
        self._check_template()

    def examples(self, rows: Sequence[Row]) -> Iterator[list[Example]]:
        """One example a conversation, cut at the row's length: ids int32 [n], mask uint8 [n]."""
        for row in rows:
            messages = conversation_of(row, self.spec)
            try:
                ids, mask = self._render(messages)
            except TEMPLATE_ERRORS as error:
                raise BadRowError(str(row.place), f"the chat template rejects it: {lines_of(error)[0]}") from error
            length = self.layout.length
            example = {"ids": ids[:length], "mask": mask[:length]}
            yield [fitted(example, len(ids), length)] if example["mask"][1:].any() else []

    def _render(self, messages: list[dict[str, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        encoded = self.tokenizer.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"verbose": False},
        )
        ids = np.asarray(encoded["input_ids"], dtype=np.int32)
        return ids, np.asarray(encoded["assistant_masks"], dtype=np.uint8)

    def _check_template(self) -> None:
        where = "spec.task.chat.template"
        try:
            ids, mask = self._render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        except TEMPLATE_ERRORS as error:
            raise UserError(where, f"the chat template cannot be used: {lines_of(error)[0]}") from error
        if not mask.any():
            raise UserError(
                where,
                "the chat template does not mark what the assistant says; "
                "put {% generation %} … {% endgeneration %} around the assistant's content and its end token",
            )
        if self._ends().isdisjoint(ids[mask.astype(bool)].tolist()):
            raise UserError(
                where,
                f"the chat template leaves the assistant's end token {self.tokenizer.eos_token!r} out of "
                "{% generation %} … {% endgeneration %}, so the model would never learn to end its turn",
            )

    def _ends(self) -> set[int]:
        """Tokens that can end a turn: the tokenizer's own, or one of the template's, such as <|im_end|>."""
        special = {number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return special | set(self.tokenizer.all_special_ids)
