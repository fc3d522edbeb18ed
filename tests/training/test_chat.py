"""Chat: the loss is taken on what the assistant says, and on nothing else."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pretune_api.tasks import Chat as ChatSpec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.model.losses import IGNORED
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Step
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.chat import Chat
from support.jobs import Recorder, finetune, write_rows
from support.language import paragraphs, small_tokenizer

Message = dict[str, Any]

CONVERSATION = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What is a list?"},
    {"role": "assistant", "content": "A sequence of objects."},
    {"role": "user", "content": "And a tuple?"},
    {"role": "assistant", "content": "One that never changes."},
]
OWN = (
    "{% for message in messages %}[{{ message.role }}]"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}{% endfor %}"
)


def chat(template: str | None = None, length: int = 128) -> Chat:
    tokenizer = copy.deepcopy(small_tokenizer())
    return Chat(Context(ChatSpec(template=template), tokenizer, length, True, False, 0))


def row(messages: object) -> Row:
    return Row({"messages": messages}, Place("file:///chats.jsonl", 7), "messages")


def learnt(task: Chat, messages: Sequence[Message]) -> list[str]:
    """What the model is taught to say, as text: one string for each stretch of targets."""
    ((example,),) = task.examples([row(list(messages))])
    targets = task.batch([Pack((example,))]).targets["lm"][0].tolist()
    stretches: list[list[int]] = [[]]
    for target in targets:
        if target != IGNORED:
            stretches[-1].append(target)
        elif stretches[-1]:
            stretches.append([])
    return [task.tokenizer.decode(ids) for ids in stretches if ids]


@pytest.mark.parametrize("template", [None, OWN], ids=["plain", "own"])
def test_only_what_the_assistant_says_is_learnt_with_its_end(template: str | None) -> None:
    assert learnt(chat(template), CONVERSATION) == ["A sequence of objects.</s>", "One that never changes.</s>"]


def test_the_tokenizer_s_own_template_is_used_where_the_job_brings_none() -> None:
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.chat_template = OWN
    task = Chat(Context(ChatSpec(), tokenizer, 128, True, False, 0))
    (example,) = next(iter(task.examples([row(CONVERSATION[1:3])])))
    assert tokenizer.decode(example["ids"]) == "[user]What is a list?[assistant]A sequence of objects.</s>"


def test_an_end_marked_by_a_special_token_of_the_template_is_an_end_too() -> None:
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    template = OWN.replace("{{ eos_token }}", "<end_of_turn>\n")
    task = Chat(Context(ChatSpec(template=template), tokenizer, 128, True, False, 0))
    assert learnt(task, CONVERSATION[1:3]) == ["A sequence of objects.<end_of_turn>\n"]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}", "does not mark what the"),
        (
            OWN.replace("{{ eos_token }}{% endgeneration %}", "{% endgeneration %}{{ eos_token }}"),
            "end token '</s>' out",
        ),
        (OWN.replace("{{ eos_token }}{% endgeneration %}", "{% endgeneration %}</s>"), "end token '</s>' out"),
        (OWN.replace("{% endfor %}", ""), "cannot be used: .*endfor"),
        (OWN.replace("message.role ==", "message.role.name.first =="), "cannot be used: .*has no attribute 'name'"),
        (OWN.replace("{{ eos_token }}", "{{ 1 + message.content }}"), "cannot be used: unsupported operand"),
    ],
    ids=["no marks", "end outside", "end outside in letters", "syntax", "undefined", "type"],
)
def test_a_template_that_teaches_nothing_or_no_end_is_refused(template: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"spec.task.chat.template: the chat template .*{sentence}"):
        chat(template)


def test_what_a_table_has_as_null_is_not_there_for_the_template() -> None:
    calls = "{% for message in messages %}{% if 'tool_calls' in message %}{{ message.tool_calls[0].name }}{% endif %}"
    of_table = [message | {"tool_calls": None, "name": None} for message in CONVERSATION]
    template = calls + "{% endfor %}" + OWN
    assert learnt(chat(template), of_table) == learnt(chat(template), CONVERSATION)


SPEAKERS = {"system": ["system"], "user": ["human", "user"], "assistant": ["gpt", "assistant", "model"]}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_turns_of_sharegpt_are_the_same_as_messages(number: int) -> None:
    speakers = {role: names[number % len(names)] for role, names in SPEAKERS.items()}
    turns = [
        {"from": speakers[message["role"]], "value": message["content"], "weight": None} for message in CONVERSATION
    ]
    ((expected, same),) = zip(*chat().examples([row(list(CONVERSATION)), row(turns)]), strict=True)
    assert expected["ids"].tolist() == same["ids"].tolist()
    assert expected["mask"].tolist() == same["mask"].tolist()


def test_a_conversation_without_a_target_in_the_row_s_length_is_left_out() -> None:
    task = chat(length=16)
    long_question = [{"role": "user", "content": "why? " * 20}, CONVERSATION[2]]
    assert list(task.examples([row(long_question), row(CONVERSATION[:2])])) == [[], []]


def test_a_conversation_is_cut_at_the_row_s_length() -> None:
    answer = {"role": "assistant", "content": "because " * 50}
    ((example,),) = chat(length=32).examples([row([CONVERSATION[1], answer])])
    assert len(example["ids"]) == len(example["mask"]) == 32


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ("What is a list?", r"row 7: column 'messages' holds text, not a list of messages \{role, content\}; if the"),
        ([], r"row 7: column 'messages' does not hold a list of messages \{role, content\}"),
        (["hello"], r"row 7 messages\[0\]: a message must be an object with role and content"),
        (
            [{"role": "user"}],
            r"row 7 messages\[0\]: a message must be an object with role and content, or with from and",
        ),
        (
            [{"from": "human", "value": "hi"}, {"from": "observation", "value": "{}"}],
            r"row 7 messages\[1\]: from 'observation' is unknown; known: system, human, user, gpt, assistant, model$",
        ),
        ([{"from": ["gpt"], "value": "hi"}], r"row 7 messages\[0\]: from \['gpt'\] is unknown; known: system, human"),
        ([{"from": "gpt", "value": None}], r"row 7 messages\[0\]: value holds null, expected text"),
        (
            [CONVERSATION[1], {"role": "bot", "content": "hi"}],
            r"row 7 messages\[1\]: role 'bot' is unknown; known roles: system, user, assistant, tool",
        ),
        ([{"role": "user", "content": 5}], r"row 7 messages\[0\]: content holds int, expected text$"),
        (
            [{"role": "assistant", "content": None}],
            r'row 7 messages\[0\]: content holds null, expected text; for a message that only calls tools, write ""',
        ),
    ],
)
def test_a_bad_conversation_is_named_with_its_file_and_row(messages: object, sentence: str) -> None:
    with pytest.raises(BadRowError, match=f"file:///chats.jsonl {sentence}"):
        list(chat().examples([row(messages)]))


def test_a_conversation_that_the_template_refuses_is_named_too() -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + OWN
    with pytest.raises(BadRowError, match=r"file:///chats.jsonl row 7: the chat template rejects it: no system turn"):
        list(chat(template).examples([row(CONVERSATION)]))


def test_a_chat_is_learnt_and_its_artifact_brings_the_template(tmp_path: Path) -> None:
    turns = [
        {"messages": [{"role": "user", "content": text[:40]}, {"role": "assistant", "content": "Yes."}]}
        for text in paragraphs()[:120]
    ]
    uri = write_rows(tmp_path / "chats.jsonl", iter(turns))
    training: dict[str, Any] = {"training__max_steps": 20, "data__train": [{"uri": uri, "column": "messages"}]}
    tokenizer = {"from": {"uri": _tokenizer_folder(tmp_path)}}
    recorder = Recorder()
    config = finetune(tmp_path, {"chat": {"template": OWN}}, uri, tokenizer=tokenizer, **training)
    result = run_rank(config, Ranks(), recorder)
    assert recorder.of(Step)[-1].loss < recorder.of(Step)[0].loss / 2
    artifact = AutoTokenizer.from_pretrained(result.artifact_uri.removeprefix("file://"))
    assert artifact.apply_chat_template(CONVERSATION[1:3], tokenize=False) == (
        "[user]What is a list?[assistant]A sequence of objects.</s>"
    )


def _tokenizer_folder(folder: Path) -> str:
    small_tokenizer().save_pretrained(folder / "tokenizer")
    return (folder / "tokenizer").as_uri()
