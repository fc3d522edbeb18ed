"""Errors are sentences, and travel between processes unchanged."""

import pickle

import pytest

from pretune_trainer.errors import BadRowError, DamagedError, MissingColumnError, PretuneError, UserError


@pytest.mark.parametrize(
    "error",
    [
        UserError("spec.data.train[0].uri", "there is nothing there"),
        BadRowError("corpus.jsonl row 3", "column 'text' holds null, expected text"),
        MissingColumnError("corpus.jsonl row 3", "text", "body, label"),
        DamagedError("a shard is missing"),
    ],
)
def test_an_error_says_the_same_in_another_process(error: PretuneError) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
