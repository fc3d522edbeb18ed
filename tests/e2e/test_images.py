"""The images, each as pods run it: any user's number, a read-only root, /tmp to write to."""

import time
from collections.abc import Iterator

import pytest

from e2e.cluster.cluster import Cluster
from e2e.images import ensure
from e2e.world import POLL_SECONDS, Namespace, namespace, pod

OPERATOR_MEGABYTES = 200
"""What the operator's image may add to its base."""
POD_SECONDS = 300.0
"""A machine of two cores that builds at the same time is slow to import torch."""


@pytest.fixture(scope="module")
def images(cluster: Cluster) -> dict[str, str]:
    return ensure(["operator", "pretrain", "finetune"], cluster)


@pytest.fixture(scope="module")
def room(cluster: Cluster) -> Iterator[Namespace]:
    with namespace(cluster, "images") as made:
        yield made


def test_the_operator_is_small_and_has_no_training_libraries(room: Namespace, images: dict[str, str]) -> None:
    heavy = "torch", "ray", "transformers", "pyarrow", "pretune_trainer"
    assert found(room, "operator", images["operator"], "kopf", "kubernetes", *heavy) == {"kopf", "kubernetes"}
    size = int(
        said(room, "size", images["operator"], "du --summarize --apparent-size --block-size=MB /opt/pretune").split(
            "MB"
        )[0]
    )
    print(f"The operator's image adds {size} MB to its base")
    assert size < OPERATOR_MEGABYTES


def test_only_the_finetune_image_has_peft(room: Namespace, images: dict[str, str]) -> None:
    assert found(room, "pretrain", images["pretrain"], "ray", "transformers", "peft") == {"ray", "transformers"}
    assert found(room, "finetune", images["finetune"], "peft") == {"peft"}


def test_the_trainer_starts_where_it_can_write_to_tmp_alone(room: Namespace, images: dict[str, str]) -> None:
    start = "ray --version; python -c 'import torch; print(torch.ones(3).sum())'; python -m pretune_trainer.main --help"
    words = said(room, "trainer", images["finetune"], f"{start}; bash -lc 'ray --help'; echo $LD_LIBRARY_PATH")
    assert "ray, version" in words
    assert "tensor(3.)" in words
    assert "RUN_CONFIG" in words
    assert words.endswith("/usr/local/nvidia/lib64\n"), "GKE mounts the driver's libraries there"


def test_the_operator_is_what_its_image_starts(room: Namespace, images: dict[str, str]) -> None:
    words = said(
        room, "modules", images["operator"], "python -c 'import pretune_operator.__main__; print(pretune_operator)'"
    )
    assert "/opt/pretune/code/pretune_operator" in words


def found(room: Namespace, name: str, image: str, *modules: str) -> set[str]:
    """Those of `modules` that Python finds in an image."""
    look = f"import importlib.util as u; print(*[name for name in {modules} if u.find_spec(name)])"
    return set(said(room, name, image, f'python -c "{look}"').split())


def said(room: Namespace, name: str, image: str, script: str) -> str:
    """What a shell script prints in a pod that ends well."""
    container = {
        "image": image,
        "command": ["sh", "-ec", script],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    once = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    room.apply(pod(name, container, **once, volumes=[{"name": "tmp", "emptyDir": {}}]))
    phase = _last_phase(room, name)
    words = room.kubectl("logs", name)
    assert phase == "Succeeded", f"{name} has {phase}:\n{words}"
    return words


def _last_phase(room: Namespace, name: str) -> str:
    end = time.monotonic() + POD_SECONDS
    while (phase := room.get("pod", name)["status"]["phase"]) not in {"Succeeded", "Failed"}:
        assert time.monotonic() < end, f"pod {name} is {phase}"
        time.sleep(POLL_SECONDS)
    return str(phase)
