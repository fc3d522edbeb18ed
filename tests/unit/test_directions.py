"""Of which figures less is better: by that the best checkpoint is kept, and training stops early."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from pretune_trainer import metrics
from pretune_trainer.metrics.base import Metric

LESS_IS_BETTER = {"loss", "perplexity", "perplexityPerByte", "calibrationError", "mae", "rmse", "wer", "cer"}


def figures() -> Iterator[tuple[str, bool]]:
    """Names of the figures of all metrics, and whether larger is better."""
    for found in iter_modules(metrics.__path__, "pretune_trainer.metrics."):
        for kind in vars(import_module(found.name)).values():
            if isinstance(kind, type) and issubclass(kind, Metric):
                for names in ("known", "of_texts", "of_pairs", "of_tokens"):
                    yield from getattr(kind, names, {}).items()


def test_of_errors_less_is_better_and_of_all_else_more() -> None:
    known = set(figures())
    assert {name for name, more in known if not more} == LESS_IS_BETTER
    assert {name for name, more in known if more}.isdisjoint(LESS_IS_BETTER)
    assert len(known) > 40
