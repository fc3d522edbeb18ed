"""Instruction data as people have it: question, context, answer and system prompt, each in a column of its own."""

import copy
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pretune_api.run_config import RunConfig
from pretune_api.tasks import Chat as ChatSpec
from pretune_api.tasks import Task as FinetuneTask
from pretune_api.tasks import text_columns
from pretune_trainer.data.corpus import Corpus
from pretune_trainer.data.example import Example, Place, Row
from pretune_trainer.data.holdout import Holdout, SplitKey, split_key
from pretune_trainer.errors import BadRowError, UserError
from pretune_trainer.parallel import Ranks
from pretune_trainer.preflight.run import preflight
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Shown
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.chat import PLAIN_TEMPLATE, Chat
from support.jobs import Recorder, finetune, write_rows
from support.language import paragraphs, small_tokenizer
from support.runs import gathered

Values = dict[str, Any]

QUESTION, ANSWER, SYSTEM = "What is a list?", "A sequence of objects.", "Answer briefly."
ASKED: Values = {"instruction": QUESTION, "output": ANSWER}
COLUMNS = {"answer_column": "output"}
ALPACA = {**COLUMNS, "context_column": "input"}
SYSTEM_TOO = {**ALPACA, "system_column": "system"}


def chat(**fields: Any) -> Chat:
    return Chat(Context(ChatSpec(**fields), copy.deepcopy(small_tokenizer()), 128, True, False, 0))


def row(column: str = "instruction", **values: Any) -> Row:
    return Row(values, Place("file:///rows.jsonl", 7), column)


def only(task: Chat, row: Row) -> Example:
    ((example,),) = task.examples([row])
    return example


def said(*texts: str, roles: tuple[str, ...] = ("user", "assistant")) -> list[Values]:
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


WITH_SYSTEM = ("system", "user", "assistant")


@pytest.mark.parametrize(
    ("fields", "values", "messages"),
    [
        (COLUMNS, ASKED, said(QUESTION, ANSWER)),
        (COLUMNS, ASKED | {"input": "not named"}, said(QUESTION, ANSWER)),
        (ALPACA, ASKED | {"input": None}, said(QUESTION, ANSWER)),
        (ALPACA, ASKED | {"input": ""}, said(QUESTION, ANSWER)),
        (ALPACA, ASKED | {"input": " \n\t"}, said(QUESTION, ANSWER)),
        (ALPACA, ASKED | {"input": "[1, 2]\n\n[3]"}, said(f"{QUESTION}\n\n[1, 2]\n\n[3]", ANSWER)),
        (SYSTEM_TOO, ASKED | {"input": "", "system": None}, said(QUESTION, ANSWER)),
        (SYSTEM_TOO, ASKED | {"input": "", "system": SYSTEM}, said(SYSTEM, QUESTION, ANSWER, roles=WITH_SYSTEM)),
        (COLUMNS, {"instruction": " é\n", "output": "1. 日本\n"}, said(" é\n", "1. 日本\n")),
    ],
)
def test_texts_in_columns_are_learnt_as_the_messages_they_stand_for(
    fields: Values, values: Values, messages: list[Values]
) -> None:
    found = only(chat(**fields), row(**values))
    expected = only(chat(), row("messages", messages=messages))
    assert found["ids"].tolist() == expected["ids"].tolist()
    assert found["mask"].tolist() == expected["mask"].tolist()
    learnt = small_tokenizer().decode(found["ids"][found["mask"].astype(bool)])
    assert learnt == values["output"] + "</s>"


def test_a_system_prompt_in_a_column_begins_a_list_of_messages() -> None:
    task = chat(system_column="system")
    found = only(task, row("messages", messages=said(QUESTION, ANSWER), system=SYSTEM))
    expected = only(chat(), row("messages", messages=said(SYSTEM, QUESTION, ANSWER, roles=WITH_SYSTEM)))
    assert found["ids"].tolist() == expected["ids"].tolist()


@pytest.mark.parametrize(
    ("fields", "values", "sentence"),
    [
        (COLUMNS, {"output": ""}, "column 'output' holds '', expected an answer as text; remove rows without one"),
        (COLUMNS, {"output": " \n"}, r"column 'output' holds ' \\n', expected an answer as text; remove"),
        (COLUMNS, {"output": None}, "column 'output' holds null, expected an answer as text; remove"),
        (COLUMNS, {"output": 42}, "column 'output' holds int, expected an answer as text; remove"),
        (COLUMNS, {"instruction": ""}, "column 'instruction' holds '', expected a question as text; remove"),
        (COLUMNS, {"instruction": {}}, "column 'instruction' holds dict, expected a question as text; remove"),
        (
            COLUMNS,
            {"instruction": said(QUESTION, ANSWER)},
            r"column .* holds a list, .* let the list end with the answer, and remove spec\.task\.chat\.answerColumn$",
        ),
        (
            {},
            {},
            r"column .* holds text, not .*; if the text is a question, set spec\.task\.chat\.answerColumn to the ",
        ),
        (ALPACA, {"input": ["a"]}, "column 'input' holds list, expected text or null$"),
        (
            {"system_column": "system"},
            {"instruction": said(SYSTEM, QUESTION, ANSWER, roles=WITH_SYSTEM), "system": SYSTEM},
            "both column 'system' and the first message hold a system prompt; leave one of them out$",
        ),
    ],
)
def test_a_row_that_is_no_question_and_answer_is_named_with_what_would_be_right(
    fields: Values, values: Values, sentence: str
) -> None:
    with pytest.raises(BadRowError, match=f"^file:///rows.jsonl row 7: {sentence}"):
        list(chat(**fields).examples([row(**ASKED | values)]))


def test_jobs_without_columns_keep_their_token_cache_and_others_have_their_own() -> None:
    template = hashlib.sha256(PLAIN_TEMPLATE.encode()).hexdigest()
    assert (chat().fingerprint, chat().columns) == (f"chat/2/{template}", ())
    tasks = [chat(), chat(**ALPACA), chat(answer_column="input", context_column="output"), chat(system_column="input")]
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert chat(**SYSTEM_TOO).columns == ("output", "input", "system")
    assert text_columns(FinetuneTask(chat=ChatSpec(**SYSTEM_TOO))) == ["output", "input", "system"]


def test_rows_that_ask_the_same_of_different_texts_are_held_out_one_by_one() -> None:
    rows = [row(instruction=QUESTION, input=f"text {number}") for number in range(1000)]
    assert 400 < Counter(map(Holdout(0.5, SplitKey(context="input")), rows))[True] < 600
    assert len(set(map(Holdout(0.5), rows))) == 1


def test_what_has_no_context_is_held_out_by_its_question_as_without_the_column() -> None:
    for number in range(50):
        alone = Holdout(0.5)(row(instruction=f"question {number}"))
        assert all(
            Holdout(0.5, SplitKey(context="input"))(row(instruction=f"question {number}", **none)) == alone
            for none in ({"input": None}, {"input": ""}, {"input": " \n"}, {})
        )


def alpaca(folder: Path, answer_column: str = "output", **changes: Any) -> tuple[RunConfig, list[Mapping[str, object]]]:
    """A job whose rows all ask the same of different texts, each row twice; and the rows."""
    texts = [" ".join(text.split())[:40] for text in paragraphs()[:100]]
    rows: list[Mapping[str, object]] = [
        {"instruction": "Shorten it.", "input": text, "output": text[:12] or "-"} for text in dict.fromkeys(texts)
    ]
    uri = write_rows(folder / "rows.jsonl", [*rows, *rows])
    fields: Values = {"data__train": [{"uri": uri, "column": "instruction"}], "training__max_steps": 2, **changes}
    task = {"chat": {"answerColumn": answer_column, "contextColumn": "input"}}
    return finetune(folder, task, uri, **fields), rows


def test_rows_with_a_common_question_are_no_duplicates_and_some_of_them_are_held_out(tmp_path: Path) -> None:
    config, rows = alpaca(tmp_path, data__cleaning={"duplicates": "exact"})
    inputs = gathered(config)
    cache = inputs.cache
    assert (cache.documents, cache.dropped) == (len(rows), 0)
    held_out = sum(len(source) for source in cache.validation)
    assert 5 < held_out < len(rows) / 2
    assert inputs.clean is not None
    assert inputs.clean.report.held_out == held_out


def test_a_tokenizer_is_trained_on_questions_contexts_and_answers_that_are_not_held_out(tmp_path: Path) -> None:
    config, rows = alpaca(tmp_path)
    corpus = Corpus(config.data, text_columns(config.learn), split_key=split_key(config.learn))
    sample = list(corpus.sample(1000))
    assert len(sample) == sum(len(source) for source in gathered(config).cache.train) < 2 * len(rows)
    assert set(sample) < {f"Shorten it.\n{each['output']}\n{each['input']}" for each in rows}


def test_a_tokenizer_is_made_anew_where_a_column_decides_what_is_held_out_that_did_not_before(tmp_path: Path) -> None:
    config, _ = alpaca(tmp_path)
    columns = text_columns(config.learn)
    assert Corpus(config.data, columns, split_key=SplitKey(context="input")).key != Corpus(config.data, columns).key


def test_a_source_can_bring_one_system_prompt_for_all_its_rows(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "rows.jsonl", [ASKED] * 20)
    source = {"uri": uri, "column": "instruction", "values": {"system": SYSTEM}}
    task = {"chat": {"answerColumn": "output", "systemColumn": "system"}}
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    config = finetune(tmp_path, task, uri, tokenizer=tokenizer, data__train=[source], data__validation=None)
    (first, *_) = gathered(config).cache.train
    ids = first.example(0)["ids"]
    assert small_tokenizer().decode(ids).startswith(f"<s><|system|>\n{SYSTEM}</s>\n<|user|>\n{QUESTION}")


def test_preflight_decides_by_the_context_too_which_rows_are_held_out(tmp_path: Path) -> None:
    config, rows = alpaca(tmp_path, data__mixture={"temperature": 2, "column": "language"})
    assert Holdout(0.2)(row(instruction=rows[0]["instruction"])), "by it alone no row would be mixed"
    (finding,) = [finding for finding in preflight(config) if finding.ok is False]
    assert "there is no column 'language'" in finding.sentence


def test_instructions_are_trained_on_and_the_first_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    config, rows = alpaca(tmp_path)
    events = Recorder()
    run_rank(config, Ranks(), events)
    (shown,) = events.of(Shown)
    assert r"<|user|>\nShorten it.\n\n" in shown.text
    assert any(f"<|assistant|>\\n⟦{each['output']}</s>⟧" in shown.text for each in rows)
    assert events.of(Evaluated)


def test_masking_makes_no_column_that_is_not_there(tmp_path: Path) -> None:
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    config, _ = alpaca(tmp_path, "response", tokenizer=tokenizer, data__cleaning={"mask": ["emailAddress"]})
    with pytest.raises(UserError, match=r"answerColumn: .* row 1: there is no column 'response'; known: input, instr"):
        gathered(config)


@pytest.mark.parametrize("trained", [True, False])
def test_preflight_tells_the_field_of_a_column_that_is_not_there(tmp_path: Path, trained: bool) -> None:
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = {"train": {"vocabSize": 512}} if trained else {"from": {"uri": (tmp_path / "tokenizer").as_uri()}}
    config, _ = alpaca(tmp_path, "response", tokenizer=tokenizer)
    (finding,) = [finding for finding in preflight(config) if finding.ok is False]
    assert (finding.check, finding.place) == ("rows", "spec.task.chat.answerColumn")
    assert finding.sentence.endswith(
        "rows.jsonl row 1: there is no column 'response'; known: input, instruction, output"
    )
