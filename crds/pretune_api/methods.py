"""How a FinetuneJob changes weights: one model a method, one line in `Method`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec


class Full(Spec):
    """Every weight is trained."""

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Learning rate of each block, as a share of that of the block above it; the embeddings come last (layer-wise
    learning rates, as in ELECTRA and BEiT)."""


class Lora(Spec):
    """Low-rank updates beside frozen weights (Hu et al., 2021), through peft."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the updates."""
    alpha: Annotated[float, Field(gt=0.0, le=4096.0)] = 32.0
    """Scale of the updates; they are multiplied by alpha / rank, or by alpha / sqrt(rank) with rankStabilized."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the updates' input."""
    targets: Literal["attention", "linear"] = "attention"
    """Which layers are updated: the attention's projections, or every linear layer but the head."""
    rank_stabilized: bool = False
    """rsLoRA (Kalajdzievski, 2023): updates of high rank learn as fast as those of low rank."""
    weight_decomposed: bool = False
    """DoRA (Liu et al., 2024): each column's magnitude is trained apart from its direction."""
    merge: bool = True
    """Whether the artifact is the whole model with the updates merged in (they are kept beside it in adapter/);
    otherwise it is the updates alone, in peft's format."""


class Ia3(Spec):
    """Keys, values and inner activations are rescaled by trained vectors (Liu et al., 2022), through peft."""

    merge: bool = True
    """Whether the artifact is the whole model with the vectors merged in (they are kept beside it in adapter/);
    otherwise it is the vectors alone, in peft's format."""


class Freeze(Spec):
    """Some weights are trained, all others stay as they are. A new head is always trained."""

    last_blocks: Annotated[int | None, Field(ge=1, le=1_000)] = None
    """Train the last n transformer blocks."""
    patterns: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=64)] | None
    ) = None
    """Train the parameters whose names match one of these globs, such as *.layernorm.*."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="set lastBlocks or patterns, not both; with neither, the head alone is trained",
            cel="!has(self.lastBlocks) || !has(self.patterns)",
            holds=lambda self: self.last_blocks is None or self.patterns is None,
        ),
    )


class Method(OneOf):
    """How the weights change."""

    full: Full | None = None
    """Train every weight."""
    lora: Lora | None = None
    """Train low-rank updates."""
    ia3: Ia3 | None = None
    """Train vectors that rescale activations."""
    freeze: Freeze | None = None
    """Train some of the weights."""
