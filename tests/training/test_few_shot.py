"""A few examples of each class are drawn by the job's seed."""

from collections import Counter
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune_api.run_config import RunConfig
from pretune_trainer.data.few_shot import few_shot
from pretune_trainer.data.token_cache import TokenCache
from pretune_trainer.data.views import Chosen
from pretune_trainer.errors import UserError
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Silent
from support.jobs import classification, pretrain


def inputs(folder: Path, **changes: Any) -> Inputs:
    return gather_inputs(classification(folder, **changes), Ranks(), Silent())


def drawn(cache: TokenCache) -> list[tuple[int, bytes]]:
    """Labels and texts."""
    examples = [source.example(index) for source in cache.train for index in range(len(source))]
    return [(int(example["labels"][0]), example["ids"].tobytes()) for example in examples]


@pytest.fixture(scope="module")
def all_of_it(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return inputs(tmp_path_factory.mktemp("few"))


def test_each_class_gets_as_many_examples(all_of_it: Inputs) -> None:
    chosen = few_shot(all_of_it.cache, all_of_it.task, 5, seed=1)
    assert Counter(label for label, _ in drawn(chosen)) == {0: 5, 1: 5}
    assert set(drawn(chosen)) <= set(drawn(all_of_it.cache))
    assert chosen.validation is all_of_it.cache.validation
    (source,) = chosen.train
    assert source.tokens == int(np.sum(source.lengths)) == sum(len(ids) // 4 for _, ids in drawn(chosen))


def test_the_draw_follows_the_seed(all_of_it: Inputs) -> None:
    one, again, other = (drawn(few_shot(all_of_it.cache, all_of_it.task, 5, seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_a_source_of_which_nothing_is_drawn_is_left_out_with_its_weight(all_of_it: Inputs) -> None:
    cache = copy(all_of_it.cache)
    (source,) = cache.train
    cache.train, cache.weights = [Chosen(source, np.zeros(0, np.int64)), source], [0.25, 0.75]
    assert few_shot(cache, all_of_it.task, 5, seed=1).weights == [0.75]


def test_a_class_that_has_too_few_is_named(all_of_it: Inputs) -> None:
    with pytest.raises(
        UserError, match=r"spec.data.examplesPerClass: 'short' has \d+ training examples, but 500 are requested"
    ):
        few_shot(all_of_it.cache, all_of_it.task, 500, seed=1)


def test_a_task_without_classes_is_refused(tmp_path: Path) -> None:
    config: RunConfig = pretrain(tmp_path, data__examples_per_class=4)
    with pytest.raises(UserError, match=r"spec.data.examplesPerClass: this task has no classes to sample examples of"):
        gather_inputs(config, Ranks(), Silent())


def test_a_job_learns_from_the_few_alone(tmp_path: Path) -> None:
    config = classification(
        tmp_path,
        data__examples_per_class=4,
        training={
            "examplesPerStep": 4,
            "epochs": 3,
            "learningRate": 0.01,
            "precision": "fp32",
            "seed": 1,
        },
    )
    result = run_rank(config, Ranks(), Silent())
    assert result.step == 6
    assert result.metrics["accuracy"] > 0.5
