"""What the tests of tasks do with a run config: gather its inputs, run it, and look at what it leaves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretune_api.run_config import Folder, RunConfig
from pretune_trainer.data.example import Cursor, Pack
from pretune_trainer.data.stream import Stream
from pretune_trainer.errors import StopRequestedError, UserError
from pretune_trainer.inputs import Inputs, gather_inputs
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Evaluated, Silent, Step
from pretune_trainer.result import RankResult
from support.jobs import Recorder


def gathered(config: RunConfig) -> Inputs:
    return gather_inputs(config, Ranks(), Silent())


def packs_of(inputs: Inputs, count: int = 8) -> list[Pack]:
    """The first step's rows of packed training examples, where a step has so many."""
    return next(Stream(inputs.cache, inputs.task.layout, 1, count).steps(Cursor())).packs


def run(ranks: Ranks, config: RunConfig) -> tuple[RankResult, list[Step]]:
    """The job's result, and every step of it."""
    torch.set_num_threads(1)
    recorder = Recorder()
    return run_rank(config, ranks, recorder), recorder.of(Step)


def assert_refused(config: RunConfig, sentence: str) -> None:
    """The job ends with an error of one line, in which the pattern `sentence` is found."""
    with pytest.raises(UserError, match=sentence) as refused:
        run_rank(config, Ranks(), Silent())
    assert "\n" not in str(refused.value)


def run_until(ranks: Ranks, config: RunConfig, step: int) -> None:
    """Train until the run is asked to stop, once it has reported `step`."""
    with pytest.raises(StopRequestedError):
        run_rank(config, ranks, Recorder(stop_at=step))


def assert_same_bits(one: RankResult, other: RankResult) -> None:
    """Both runs end with the same figures and the same weights."""
    assert one.metrics == other.metrics
    weights = weights_of(other)
    for name, weight in weights_of(one).items():
        assert torch.equal(weight, weights[name]), name


def named(config: RunConfig, name: str) -> RunConfig:
    """The same job under another name: it shares the tokenizer, which trained anew would have other ids."""
    return config.model_copy(update={"job": config.job.model_copy(update={"name": name})})


def path_of(result: RankResult) -> Path:
    """The artifact's folder."""
    return Path(result.artifact_uri.removeprefix("file://"))


def weights_of(result: RankResult) -> dict[str, torch.Tensor]:
    """The artifact's weights."""
    weights: dict[str, torch.Tensor] = load_file(path_of(result) / "model.safetensors")
    return weights


def as_parent(result: RankResult) -> Folder:
    """The artifact, for another job to start from."""
    return Folder(uri=result.artifact_uri, digest=result.artifact_digest)


def before_and_after(config: RunConfig) -> tuple[dict[str, float], RankResult]:
    """What evaluation.baseline measures before training, and the result, whose metrics are those after it."""
    torch.set_num_threads(1)
    recorder = Recorder()
    result = run_rank(config, Ranks(), recorder)
    return recorder.of(Evaluated)[0].metrics, result
