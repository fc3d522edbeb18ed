"""Real ranks for tests: processes that talk over gloo, forked from a server that has imported what takes long."""

import gc
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "sklearn.datasets", "peft", "torch.distributed.fsdp", "torch._dynamo", "pretune_trainer.rank"]
)


def in_ranks(size: int, do: Callable[..., T], *arguments: object) -> list[T]:
    """What `do(ranks, *arguments)` returns on each of `size` ranks; `do` stands at the top of a module."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting").as_uri()
        pipes = [_start(rank, size, meeting, do, arguments) for rank in range(size)]
        outcomes = [_outcome(pipe) for pipe, _ in pipes]
        for pipe, _ in pipes:
            pipe.close()
        for _, process in pipes:
            process.join()
    failed = [text for text, _ in outcomes if text]
    assert not failed, "\n".join(failed)
    return [value for _, value in outcomes]


def _start(
    rank: int, size: int, meeting: str, do: Callable[..., object], arguments: tuple[object, ...]
) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(
        target=_rank, args=(theirs, rank, size, meeting, dict(os.environ), do, arguments), daemon=True
    )
    process.start()
    theirs.close()
    return ours, process


def _outcome(pipe: Connection) -> tuple[str, Any]:
    try:
        text, value = pipe.recv()
    except EOFError:
        return "a rank has died", None
    return text, value


def _rank(
    pipe: Connection,
    rank: int,
    size: int,
    meeting: str,
    environment: dict[str, str],
    do: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    import torch
    import torch.distributed as dist

    from pretune_trainer.parallel import Ranks

    gc.freeze()  # a collection would make this process copy every page of what it was forked with
    torch.set_num_threads(1)
    os.environ.update(environment)  # the server was started with that of an earlier test
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=timedelta(seconds=120))
    try:
        pipe.send(("", do(Ranks(rank, size), *arguments)))
        pipe.poll(None)  # until all have ended: another rank may still be on its way to meet this one in a new group
    except BaseException:
        pipe.send((f"rank {rank} of {size}:\n{traceback.format_exc()}", None))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
