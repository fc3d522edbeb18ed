"""One rank, two or four: the same training."""

import resource
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pretune_api.run_config import RunConfig
from pretune_trainer import loop
from pretune_trainer.errors import DamagedError, StopRequestedError, StorageError
from pretune_trainer.model.build import Build
from pretune_trainer.model.origin import Source
from pretune_trainer.parallel import PATIENCE, Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Start, Step
from support.group import in_ranks
from support.jobs import Recorder, classification, pretrain
from support.language import TINY, small_tokenizer
from support.objectives import ARCHITECTURES
from support.runs import run

TIED = {"type": "llama", "config": {**TINY["llama"], "tie_word_embeddings": True}}


def _run_until(ranks: Ranks, config: RunConfig, stop_at: int | None) -> tuple[int, list[Step]]:
    """Run, and be asked to stop after a step, which rank 0 alone hears; where the run started from, and its steps."""
    recorder = Recorder(stop_at if ranks.is_first else None)
    try:
        run_rank(config, ranks, recorder)
    except StopRequestedError:
        assert stop_at is not None
    return recorder.of(Start)[0].from_step, recorder.of(Step)


def _assert_same(steps: list[Step], others: list[Step]) -> None:
    assert [step.step for step in steps] == [other.step for other in others]
    for one, other in zip(steps, others, strict=True):
        assert one.tokens_total == other.tokens_total
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-5)


@pytest.mark.parametrize("job", [pretrain, classification])
@pytest.mark.parametrize("size", [2, 4])
def test_several_ranks_learn_what_one_learns(tmp_path: Path, job: Callable[..., RunConfig], size: int) -> None:
    alone, steps = run(Ranks(), job(tmp_path / "one"))
    (together, others), *_ = in_ranks(size, run, job(tmp_path / "many"))
    _assert_same(steps, others)
    assert together.metrics == pytest.approx(alone.metrics, rel=1e-5, abs=1e-6)


def _failing(ranks: Ranks) -> str:
    def do() -> None:
        raise (DamagedError if ranks.is_first else StorageError)(f"on rank {ranks.rank}")

    with pytest.raises(StorageError) as caught:
        ranks.together(do)
    return f"{type(caught.value).__name__}: {caught.value}"


def _bytes_for(ranks: Ranks, size: int) -> int:
    """By how much a rank grows that is told as many bytes by rank 0."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(ranks.once(lambda: bytes(size))) == size
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10


def test_what_one_rank_tells_the_others_is_held_once_and_not_for_each_rank() -> None:
    size = 64 << 20  # as it comes, as it is read, and as it is kept: 3.3 times; gathered, it would be 7 times
    assert max(in_ranks(4, _bytes_for, size)[1:]) < 5 * size


def _bytes_to_collect(ranks: Ranks, size: int) -> int:
    """By how much a rank grows that has as many bytes to tell rank 0."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(ranks.collect(bytes(size))) == (ranks.size if ranks.is_first else 0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10


def test_what_all_ranks_have_measured_is_held_by_one_of_them() -> None:
    size = 64 << 20  # as it is, and as it goes; gathered, it would be held once for each rank, and again as it is read
    assert max(in_ranks(4, _bytes_to_collect, size)[1:]) < 5 * size


def _longest_wait(ranks: Ranks) -> timedelta:
    group = ranks.fork(PATIENCE).group
    assert group is not None
    wait: timedelta = group._get_backend(torch.device("cpu")).options._timeout
    return wait


def test_ranks_wait_as_long_as_one_of_them_may_work_alone() -> None:
    assert in_ranks(2, _longest_wait) == [timedelta(days=1)] * 2


def test_ranks_that_fail_in_different_ways_go_on_alike() -> None:
    assert in_ranks(2, _failing) == ["DamagedError: on rank 0"] * 2


def test_tied_weights_stay_tied_on_several_ranks(tmp_path: Path) -> None:
    _, steps = run(Ranks(), pretrain(tmp_path / "one", model__architecture=TIED))
    (_, others), *_ = in_ranks(2, run, pretrain(tmp_path / "two", model__architecture=TIED))
    _assert_same(steps, others)


def test_layers_that_a_parent_leaves_out_at_random_are_computed_by_every_rank(tmp_path: Path) -> None:
    still = {"dropout": 0.0, "encoder_layerdrop": 0.9, "decoder_layerdrop": 0.9}
    config = AutoConfig.for_model("bart", **(ARCHITECTURES["bart"]["config"] | still), vocab_size=512)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    model = Build(Source(str(tmp_path)), small_tokenizer(), 32).make(AutoModelForSeq2SeqLM)
    ids = torch.arange(5, 20)[None]
    learning, judged = (model.train(mode)(input_ids=ids, decoder_input_ids=ids).logits for mode in (True, False))
    assert torch.equal(learning, judged)
    assert model.config.encoder_layerdrop == model.config.decoder_layerdrop == 0.0


def test_a_step_that_does_not_divide_by_the_ranks_is_the_same_step(tmp_path: Path) -> None:
    odd = {"training__tokens_per_step": 64 * 7}
    _, steps = run(Ranks(), pretrain(tmp_path / "one", **odd))
    (_, others), *_ = in_ranks(4, run, pretrain(tmp_path / "four", **odd))
    _assert_same(steps, others)


def _seeds(ranks: Ranks, config: RunConfig) -> list[int]:
    """What dropout's randomness began with in each step."""
    seeds: list[int] = []
    seed_step = loop.seed_step

    def noted(seed: int) -> None:
        seeds.append(seed)
        seed_step(seed)

    with patch.object(loop, "seed_step", noted):
        run_rank(config, ranks, Recorder())
    return seeds


def test_dropout_is_drawn_anew_in_each_step_on_each_rank(tmp_path: Path) -> None:
    first, second = in_ranks(2, _seeds, pretrain(tmp_path, training__max_steps=3))
    assert len({*first, *second}) == len(first) + len(second) == 6


def test_from_one_rank_to_two_and_back_training_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    _, undisturbed = run(Ranks(), pretrain(tmp_path / "undisturbed"))
    config = pretrain(tmp_path / "disturbed")
    first, steps = _run_until(Ranks(), config, 3)
    (second, more), *_ = in_ranks(2, _run_until, config, 6)
    third, last = _run_until(Ranks(), config, None)
    assert (first, second, third) == (0, len(steps), len(steps) + len(more))
    _assert_same([*steps, *more, *last], undisturbed)
