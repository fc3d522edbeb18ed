"""Which names of an image the node of a test cluster forgets together."""

from e2e.cluster.image import names_of

LISTING = """REF TYPE DIGEST SIZE
pretune.test/operator:old manifest sha256:1 2
pretune.test/operator:new manifest sha256:2 2
pretune.test/operator:same manifest sha256:2 2
pretune.test/operator:loaded-by-kind manifest sha256:3 2
import-2026-11-22@sha256:3 manifest sha256:3 2
sha256:aaa manifest sha256:1 2
sha256:bbb manifest sha256:2 2
sha256:ccc manifest sha256:3 2
"""


def test_the_runtime_s_own_name_goes_with_the_last_tag() -> None:
    assert names_of("pretune.test/operator:old", LISTING) == ["pretune.test/operator:old", "sha256:aaa"]


def test_the_names_that_kind_gives_go_with_the_last_tag() -> None:
    image = "pretune.test/operator:loaded-by-kind"
    assert names_of(image, LISTING) == [image, "import-2026-11-22@sha256:3", "sha256:ccc"]


def test_what_another_tag_names_stays() -> None:
    assert names_of("pretune.test/operator:same", LISTING) == ["pretune.test/operator:same"]
