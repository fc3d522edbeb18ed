"""Checkpoints of several ranks, over real gloo and FSDP2: written by any number, read by any other."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from pretune_api.checkpoint import CheckpointState, Cursor
from pretune_api.storage import Location
from pretune_trainer.errors import PretuneError
from pretune_trainer.storage.commit import commits
from pretune_trainer.storage.store import Store
from support.group import in_ranks
from support.listening import Listener
from support.s3 import S3Server

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import AdamW

    from pretune_trainer.parallel import Ranks
    from pretune_trainer.storage.checkpoint import Checkpoints


def train(ranks: "Ranks", layout: str) -> tuple["nn.Module", "AdamW"]:
    """A model and its AdamW after a step, with values that do not depend on the number of ranks.

    Its first dimensions are 5, 3, 1 and 7: none is divided evenly by 2 or 4, and some ranks hold nothing.
    """
    import torch
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1), nn.Embedding(7, 3), nn.LayerNorm(3))
    if ranks.size > 1:
        shape, names = (
            ((2, ranks.size // 2), ("replica", "shard")) if layout == "hybrid" else ((ranks.size,), ("shard",))
        )
        fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.5 + number)
    optimizer.step()
    return model, optimizer


def tensors(model: "nn.Module", optimizer: "AdamW") -> Mapping[str, "Tensor"]:
    """Everything that training resumes from, by flat names."""
    found: dict[str, Tensor] = {f"model.{name}": parameter for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        found |= {f"optimizer.{key}.{name}": value for key, value in optimizer.state[parameter].items()}
    return found


def checkpoints(ranks: "Ranks", location: Location) -> "Checkpoints":
    from pretune_trainer.storage.checkpoint import Checkpoints
    from pretune_trainer.storage.runs import claim_run

    store = Store.open(location)
    run = ranks.once(lambda: claim_run(store, lambda _: None))
    return Checkpoints(store, run, ranks, 9, Listener())


def state(ranks: "Ranks", step: int) -> CheckpointState:
    return CheckpointState(
        step=step,
        cursor=Cursor(),
        tokens_total=0,
        micro_batch_rows=1,
        data_digest="data",
        model_digest="model",
        ranks=ranks.size,
    )


def write(ranks: "Ranks", location: Location, layout: str, step: int) -> None:
    model, optimizer = train(ranks, layout)
    written = checkpoints(ranks, location)
    written.save(tensors(model, optimizer), state(ranks, step))
    written.wait_staged()
    for tensor in tensors(model, optimizer).values():
        tensor.detach().zero_()
    written.wait()


def read(ranks: "Ranks", location: Location, layout: str) -> tuple[int, int, dict[str, list[float]]]:
    """(step, ranks that wrote it, whole tensors), after filling a model whose values are all zero."""
    model, optimizer = train(ranks, layout)
    for tensor in tensors(model, optimizer).values():
        tensor.detach().zero_()
    found = checkpoints(ranks, location).latest(tensors(model, optimizer))
    assert found is not None
    return found.state.step, found.state.ranks, whole(tensors(model, optimizer))


def read_and_write(
    ranks: "Ranks", location: Location, layout: str, step: int
) -> tuple[int, int, dict[str, list[float]]]:
    """What `read` finds, before the next checkpoint is written."""
    found = read(ranks, location, layout)
    write(ranks, location, layout, step)
    return found


def whole(every: Mapping[str, "Tensor"]) -> dict[str, list[float]]:
    return {
        name: (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).flatten().tolist()
        for name, tensor in every.items()
    }


def expected(ranks: "Ranks") -> dict[str, list[float]]:
    return whole(tensors(*train(ranks, "sharded")))


@pytest.mark.parametrize(
    "way",
    [
        [(1, "sharded"), (2, "sharded"), (1, "sharded")],
        [(4, "sharded"), (2, "sharded"), (4, "hybrid"), (1, "sharded")],
    ],
    ids=["1-2-1", "4-2-2x2-1"],
)
def test_a_checkpoint_is_read_by_any_number_of_ranks(local: Store, way: list[tuple[int, str]]) -> None:
    (values,) = in_ranks(1, expected)
    location = Location(uri=local.uri)
    first, written_as = way[0]
    in_ranks(first, write, location, written_as, 0)
    for step, ((writers, _), (readers, layout)) in enumerate(pairwise(way)):
        for found in in_ranks(readers, read_and_write, location, layout, step + 1):
            assert found == (step, writers, values)


def bytes_read(ranks: "Ranks", location: Location) -> int:
    """What a rank reads of a checkpoint's tensors, as it goes on from there."""
    sizes: list[int] = []
    get_ranges = Store.get_ranges

    def counted(store: Store, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        if "shard-" in path:
            sizes.extend(length for _, length in spans)
        return get_ranges(store, path, spans)

    with patch.object(Store, "get_ranges", counted):
        read(ranks, location, "sharded")
    return sum(sizes)


def test_as_many_ranks_as_wrote_a_checkpoint_read_it_once(local: Store) -> None:
    location = Location(uri=local.uri)
    in_ranks(2, write, location, "sharded", 1)
    written = [object_.size for object_ in local.list("checkpoints") if "shard-" in object_.path]
    first, second = in_ranks(2, bytes_read, location)
    assert first == written[0]
    assert second < sum(written), "its own, and of the first one's what is not sharded"


def test_each_row_is_written_once(local: Store) -> None:
    location = Location(uri=local.uri)
    sizes = []
    for step, (ranks, layout) in enumerate([(1, "sharded"), (4, "sharded"), (4, "hybrid")], start=1):
        in_ranks(ranks, write, location, layout, step)
        shards = [object_ for object_ in local.list("checkpoints") if f"{step:08d}/shard" in object_.path]
        sizes.append((len(shards), sum(_data_bytes(local, object_.path) for object_ in shards)))
    assert [count for count, _ in sizes] == [1, 4, 2]
    assert len({size for _, size in sizes}) == 1


def _data_bytes(store: Store, path: str) -> int:
    content = store.get(path)
    return len(content) - 8 - int.from_bytes(content[:8], "little")


def read_after(ranks: "Ranks", location: Location, damage: Callable[[Store], None]) -> tuple[int | None, list[str]]:
    """The step that ranks agree on, and what people are told, after damage done to the newest checkpoint."""
    written = checkpoints(ranks, location)
    for step in (10, 20):
        written.save(tensors(*train(ranks, "sharded")), state(ranks, step))
    written.wait()
    ranks.once(lambda: damage(Store.open(location)))
    written = checkpoints(ranks, location)
    found = written.latest(tensors(*train(ranks, "sharded")))
    assert isinstance(written._reporter, Listener)
    return found.state.step if found else None, written._reporter.sentences


def found_with_each_shard_damaged(ranks: "Ranks", location: Location) -> list[int | None]:
    """The step that is found while one shard is damaged, then the next."""
    store, values = Store.open(location), tensors(*train(ranks, "sharded"))
    found = []
    for path in ranks.once(lambda: [each.path for each in store.list("checkpoints") if "shard-" in each.path]):
        whole = ranks.once(partial(store.get, path))
        ranks.once(partial(store.put, path, whole[:-1] + bytes([whole[-1] ^ 1])))
        newest = checkpoints(ranks, location).latest(values)
        found.append(newest.state.step if newest else None)
        ranks.once(partial(store.put, path, whole))
    return found


def test_whichever_shard_is_damaged_fewer_ranks_than_wrote_them_see_it(local: Store) -> None:
    location = Location(uri=local.uri)
    in_ranks(4, write, location, "sharded", 1)
    assert in_ranks(2, found_with_each_shard_damaged, location) == [[None] * 4] * 2


def flip_last_shard(store: Store) -> None:
    path = "checkpoints/0001/step-00000020/shard-00001.safetensors"
    content = store.get(path)
    store.put(path, content[:-1] + bytes([content[-1] ^ 1]))


def test_all_ranks_fall_back_when_one_finds_damage(local: Store) -> None:
    for step, sentences in in_ranks(2, read_after, Location(uri=local.uri), flip_last_shard):
        assert step == 10
        assert len(sentences) == 1
        assert "shard-00001.safetensors has changed" in sentences[0]


def fail_on_rank_one(ranks: "Ranks", location: Location) -> str:
    """What each rank raises when one of them cannot write its shard."""
    written = checkpoints(ranks, location)
    put = written._put_shard if ranks.rank == 0 else lambda *_: Store.open(location).child("file").put("below", b"")
    with patch.object(written, "_put_shard", put):
        written.save(tensors(*train(ranks, "sharded")), state(ranks, 10))
        try:
            written.wait()
        except PretuneError as error:
            return str(error)
    return ""


def test_a_rank_that_cannot_write_fails_the_checkpoint_on_all(local: Store) -> None:
    local.put("file", b"")
    for sentence in in_ranks(2, fail_on_rank_one, Location(uri=local.uri)):
        assert "there is a file where a folder is needed" in sentence
    assert commits(local, "checkpoints") == []


def longest_wait_for_shards(ranks: "Ranks", location: Location) -> timedelta:
    """How long ranks that have written theirs wait for the others."""
    import torch

    channel = checkpoints(ranks, location)._channel.group
    assert channel is not None
    timeout: timedelta = channel._get_backend(torch.device("cpu")).options._timeout
    return timeout


def test_a_shard_may_take_as_long_as_its_store_needs(local: Store) -> None:
    assert in_ranks(2, longest_wait_for_shards, Location(uri=local.uri)) == [timedelta(days=1)] * 2


def test_two_ranks_checkpoint_to_a_real_s3_endpoint(s3: S3Server) -> None:
    location = s3.new_folder()
    in_ranks(2, write, location, "sharded", 1)
    (values,) = in_ranks(1, expected)
    assert in_ranks(1, read, location, "sharded") == [(1, 2, values)]
