"""A device that runs out of memory in the midst of training, or breaks, ends the run, not the job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import DistBackendError

from pretune_api.names import Cause
from pretune_api.run_config import RunConfig
from pretune_trainer.errors import DeviceLostError, OutOfMemoryError
from pretune_trainer.loop import Loop
from pretune_trainer.microbatch import too_many
from pretune_trainer.parallel import Ranks
from pretune_trainer.rank import run_rank
from pretune_trainer.report import Start
from support.jobs import Recorder, pretrain
from support.pairs import matched, rows, write_pairs

NCCL = (
    "NCCL error in: NCCLUtils.cpp:77, unhandled cuda error, NCCL 2.28.9\n"
    "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
)


def _begin(config: RunConfig) -> Start:
    """Start a run that is going to run out of memory; how it started."""
    recorder = Recorder()
    with pytest.raises(OutOfMemoryError, match="the next run resumes from the last checkpoint"):
        run_rank(config, Ranks(), recorder)
    (start,) = recorder.of(Start)
    assert isinstance(start, Start)
    return start


def test_after_running_out_of_memory_a_job_goes_on_with_half_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, fitting = Loop._gradients, 2

    def small_device(loop: Loop, *arguments: Any) -> torch.Tensor:
        if loop.state.step >= 5 and loop.state.micro_batch_rows > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return gradients(loop, *arguments)

    monkeypatch.setattr(Loop, "_gradients", small_device)
    config = pretrain(tmp_path)
    starts = [_begin(config), _begin(config)]
    last = Recorder()
    assert run_rank(config, Ranks(), last).step == 8
    rows = [start.micro_batch_rows for start in [*starts, *last.of(Start)]]
    assert rows == [8, 4, 2]
    assert starts[1].from_step == 4


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(Loop, "_gradients", fail)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DistBackendError(f"{NCCL}Cuda failure 2 'out of memory'"), "Cuda failure 2 'out of memory'"),
        (DistBackendError(f"{NCCL}Failed to CUDA calloc 6291456 bytes"), "Failed to CUDA calloc 6291456 bytes"),
        (RuntimeError("CUDA error: out of memory\nSearch for it."), "CUDA error: out of memory"),
    ],
)
def test_what_else_asks_a_device_for_memory_in_vain_has_run_out_of_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    _failing(monkeypatch, error)
    with pytest.raises(OutOfMemoryError, match=rf"ran out of memory \(rows at once: 8\): {said}; the next run resumes"):
        run_rank(pretrain(tmp_path), Ranks(), Recorder())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be reported later."),
        DistBackendError(f"{NCCL}Cuda failure 220 'uncorrectable NVLink error detected during the execution'"),
    ],
)
def test_a_device_that_is_broken_is_lost_like_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _failing(monkeypatch, error)
    with pytest.raises(DeviceLostError, match=r"^a GPU of .+ is broken: uncorrectable (ECC|NVLink) error$") as caught:
        run_rank(pretrain(tmp_path), Ranks(), Recorder())
    assert caught.value.cause is Cause.NODE_LOST


def test_ranks_that_are_lost_have_not_run_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, DistBackendError(f"{NCCL}socketProgress: Connection closed by remote peer node-7"))
    with pytest.raises(DistBackendError):
        run_rank(pretrain(tmp_path), Ranks(), Recorder())


def _fails_twice(config: RunConfig, said: str) -> list[int]:
    """Rows at once of a run that runs out of memory, and says so, and of the next."""
    recorder = Recorder()
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match=said):
            run_rank(config, Ranks(), recorder)
    return [start.micro_batch_rows for start in recorder.of(Start)]


def test_where_one_row_is_too_much_the_sentence_names_a_way_out_and_one_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    assert _fails_twice(pretrain(tmp_path, training__micro_batch_rows=1), "activationCheckpointing") == [1, 1]


def test_rows_that_are_compared_with_each_other_stay_together_though_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    config = matched(tmp_path, write_pairs(tmp_path / "pairs.parquet", rows(2, 1)[:100]))
    assert _fails_twice(config, "lower examplesPerStep") == [32, 32]


def test_rows_that_are_computed_at_once_are_not_promised_to_become_fewer() -> None:
    said = too_many(8, "CUDA out of memory.", coupled=True)
    assert said.endswith("set spec.training.activationCheckpointing, use more ranks, or lower examplesPerStep")
