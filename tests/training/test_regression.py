"""Regression: the loss that transformers takes, a number that can be learnt, and what is none named where it stands."""

import copy
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from pretune_api.model import Architecture
from pretune_api.tasks import SequenceRegression as Spec
from pretune_trainer.data.example import Pack, Place, Row
from pretune_trainer.errors import BadRowError
from pretune_trainer.model.build import Build
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.tasks import Context
from pretune_trainer.tasks.sequence_regression import SequenceRegression
from support.jobs import Recorder, finetune, write_rows
from support.language import TINY, paragraphs, small_tokenizer
from support.sources import read


def task() -> SequenceRegression:
    return SequenceRegression(Context(Spec(), copy.deepcopy(small_tokenizer()), 32, False, False, 0))


def row(text: str, target: object) -> Row:
    return Row({"text": text, "target": target}, Place("file:///prices.jsonl", 3), "text")


def reviews(number: int) -> Iterator[dict[str, object]]:
    """Texts of good and bad words, and the share of good ones."""
    random = np.random.default_rng(2)
    for _ in range(number):
        words = random.choice(["good", "bad"], 6).tolist()
        yield {"text": " ".join(words), "target": words.count("good") / 6}


def test_the_loss_is_that_of_transformers() -> None:
    regression = task()
    model = regression.model(Build(Architecture(type="llama", config=TINY["llama"]), regression.tokenizer, 32)).eval()
    rows = [row(text, target) for text, target in zip(paragraphs(), [1.5, -2, 0], strict=False)]
    batch = regression.batch([*(Pack((example,)) for (example,) in regression.examples(rows)), Pack()])
    ours = regression.loss(model, batch)["target"].detach() / batch.counts["target"]
    kept = {name: value[:3] for name, value in batch.inputs.items()}
    torch.testing.assert_close(ours, model(**kept, labels=torch.tensor([1.5, -2.0, 0.0])).loss)
    judged = regression.evaluate(model, batch)
    assert [outcome.expected for outcome in judged] == [1.5, -2.0, 0.0]
    assert float(ours) == pytest.approx(np.mean([(each.expected - each.predicted) ** 2 for each in judged]), rel=1e-5)


@pytest.mark.parametrize("target", ["3.5", None, True, [1.0], float("nan"), 10**400, 1e39])
def test_what_is_no_number_is_named_with_its_file_and_row(target: object) -> None:
    with pytest.raises(BadRowError, match=r"^file:///prices.jsonl row 3: column 'target' holds .*, expected a number"):
        list(task().examples([row("a", target)]))


def test_a_decimal_of_a_table_is_a_number() -> None:
    ((example,),) = task().examples([row("a", Decimal("12.50"))])
    assert example["target"].tolist() == [12.5]


def test_where_columns_hold_text_alone_the_number_is_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,target\na,3.5\nb,"-2e3"\nc,"1,5"\n')
    *found, comma = read(tmp_path / "a.csv")
    assert [example["target"].tolist() for (example,) in task().examples(found)] == [[3.5], [-2000.0]]
    with pytest.raises(BadRowError, match=r"a.csv row 3: column 'target' holds '1,5', expected a number"):
        list(task().examples([comma]))


def test_rows_end_where_the_positions_of_a_model_end() -> None:
    regression = SequenceRegression(Context(Spec(), copy.deepcopy(small_tokenizer()), 21, False, False, 0))
    model = regression.model(Build(Architecture(type="gpt2", config=TINY["gpt2"]), regression.tokenizer, 21)).eval()
    ((example,),) = regression.examples([row("word " * 40, 1.0)])
    batch = regression.batch([Pack((example,))])
    assert batch.inputs["input_ids"].shape[1] == model.config.max_position_embeddings == 21
    assert len(regression.evaluate(model, batch)) == 1


def test_a_number_is_learnt(tmp_path: Path) -> None:
    job = finetune(
        tmp_path,
        {"sequenceRegression": {}},
        write_rows(tmp_path / "reviews.jsonl", reviews(200)),
        tokenizer={"train": {"vocabSize": 266}},
        training__max_steps=60,
    )
    result = run_rank(job, Ranks(), Recorder())
    assert result.metrics["pearson"] > 0.9
    assert result.metrics["mae"] < 0.1
