"""What only transformers knows of a job is refused before anything is trained, in one sentence with its field."""

from typing import Any

import pytest

from pretune_api.model import Architecture
from pretune_api.problems import parse
from pretune_trainer.errors import UserError
from support.specs import listed


@pytest.mark.parametrize(("document", "says"), listed("refused_at_preflight"))
def test_an_architecture_that_transformers_does_not_take_is_refused_with_its_sentence(
    document: dict[str, Any], says: str
) -> None:
    from pretune_trainer.model.build import make_config

    spec = parse(document).spec
    assert spec.model.architecture is not None
    with pytest.raises(UserError) as caught:
        make_config(spec.model.architecture, 512, spec.data.sequence_length, {})
    assert str(caught.value) == says


def test_a_whole_number_will_do_where_another_is_wanted_because_json_writes_both_alike() -> None:
    from pretune_trainer.model.build import make_config

    config = make_config(Architecture(type="llama", config={"rms_norm_eps": 1, "num_hidden_layers": 2}), 512, 64, {})
    assert config.rms_norm_eps == 1.0
    assert config.num_hidden_layers == 2
