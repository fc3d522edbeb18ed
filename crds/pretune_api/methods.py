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


class Adapter(Spec):
    """Small networks behind frozen layers are trained: down to a few channels, and up again (Houlsby et al., 2019).

    They cannot be merged: the artifact is the networks alone, in peft's format, and loads where Pretune is installed.
    """

    channels: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Channels of the bottleneck."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """Behind the attention and the feed-forward part of each block, with GELU (Houlsby et al., 2019), or behind the
    feed-forward part alone, with ReLU (Pfeiffer et al., 2021)."""


VirtualTokens = Annotated[int, Field(ge=1, le=4_096)]
"""Number of trained vectors that stand before every text, as tokens would; sequenceLength does not count them."""


class Prefix(Spec):
    """Keys and values of virtual tokens are trained, in every block (Li & Liang, 2021), through peft.

    For decoders. They cannot be merged: the artifact is the virtual tokens alone, in peft's format.
    """

    tokens: VirtualTokens = 20
    """Virtual tokens before every text; sequenceLength does not count them."""
    projected: bool = False
    """Whether keys and values come from a network of two layers while they are trained, as in the paper; only what
    comes out of it is kept."""


class PromptTuning(Spec):
    """Embeddings of virtual tokens are trained (Lester et al., 2021), through peft; they begin as those of tokens.

    For decoders that write. They cannot be merged: the artifact is the virtual tokens alone, in peft's format.
    """

    tokens: VirtualTokens = 20
    """Virtual tokens before every text; sequenceLength does not count them."""


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
    adapter: Adapter | None = None
    """Train small networks behind frozen layers."""
    prefix: Prefix | None = None
    """Train keys and values of virtual tokens."""
    prompt_tuning: PromptTuning | None = None
    """Train embeddings of virtual tokens."""
    freeze: Freeze | None = None
    """Train some of the weights."""

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens that stand before every text."""
        return self.value.tokens if isinstance(self.value, Prefix | PromptTuning) else 0
