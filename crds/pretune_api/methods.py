"""How a FinetuneJob changes weights: one model a method, one line in `Method`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pretune_api.base import OneOf, Rule, Spec


class Full(Spec):
    """Trains all weights."""

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Learning rate of each block relative to that of the block above it; the embeddings come last (layer-wise learning
    rate decay, as in ELECTRA and BEiT)."""


class Lora(Spec):
    """Trains low-rank updates of frozen weights (Hu et al., 2021), with peft."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the updates."""
    alpha: Annotated[float, Field(gt=0.0, le=4096.0)] = 32.0
    """Scale of the updates, which are multiplied by alpha / rank, or by alpha / sqrt(rank) with rankStabilized."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the input of the updates."""
    targets: Literal["attention", "linear"] = "attention"
    """Layers to update: the projections of the attention, or every linear layer except the head."""
    rank_stabilized: bool = False
    """Use rsLoRA (Kalajdzievski, 2023), with which updates of high rank learn as fast as those of low rank."""
    weight_decomposed: bool = False
    """Use DoRA (Liu et al., 2024), which trains the magnitude of each column separately from its direction."""
    merge: bool = True
    """Merge the updates into the weights, so that the artifact is the whole model, with the updates in adapter/;
    otherwise the artifact is the updates alone, in peft's format."""


class Ia3(Spec):
    """Trains vectors that rescale keys, values and inner activations (Liu et al., 2022), with peft."""

    merge: bool = True
    """Merge the vectors into the weights, so that the artifact is the whole model, with the vectors in adapter/;
    otherwise the artifact is the vectors alone, in peft's format."""


class Adapter(Spec):
    """Trains small bottleneck networks after frozen layers (Houlsby et al., 2019).

    They cannot be merged: the artifact is the adapters alone, in peft's format, and loads only where Pretune is
    installed.
    """

    channels: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Number of channels of the bottleneck."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby: after both the attention and the feed-forward part of each block, with GELU (Houlsby et al., 2019);
    pfeiffer: after the feed-forward part only, with ReLU (Pfeiffer et al., 2021)."""


VirtualTokens = Annotated[int, Field(ge=1, le=4_096)]
"""Number of trained vectors that precede every text, as tokens would; not counted in sequenceLength."""


class Prefix(Spec):
    """Trains the keys and values of virtual tokens in every block (Li & Liang, 2021), with peft.

    For decoders only. They cannot be merged: the artifact is the virtual tokens alone, in peft's format.
    """

    tokens: VirtualTokens = 20
    """Number of virtual tokens before every text; not counted in sequenceLength."""
    projected: bool = False
    """Compute keys and values with a two-layer network during training, as in the paper; only its output is kept."""


class PromptTuning(Spec):
    """Trains the embeddings of virtual tokens (Lester et al., 2021), with peft, starting from those of real tokens.

    For decoders that generate text only. They cannot be merged: the artifact is the virtual tokens alone, in peft's
    format.
    """

    tokens: VirtualTokens = 20
    """Number of virtual tokens before every text; not counted in sequenceLength."""


class Freeze(Spec):
    """Trains some weights and freezes all others. A new head is always trained."""

    last_blocks: Annotated[int | None, Field(ge=1, le=1_000)] = None
    """Train the last n transformer blocks."""
    patterns: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=64)] | None
    ) = None
    """Train the parameters whose names match one of these globs, such as *.layernorm.*."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            message="set lastBlocks or patterns, not both; with neither, only the head is trained",
            cel="!has(self.lastBlocks) || !has(self.patterns)",
            holds=lambda self: self.last_blocks is None or self.patterns is None,
        ),
    )


class Method(OneOf):
    """Which weights are trained, and how."""

    full: Full | None = None
    """Train all weights."""
    lora: Lora | None = None
    """Train low-rank updates."""
    ia3: Ia3 | None = None
    """Train vectors that rescale activations."""
    adapter: Adapter | None = None
    """Train small networks after frozen layers."""
    prefix: Prefix | None = None
    """Train the keys and values of virtual tokens."""
    prompt_tuning: PromptTuning | None = None
    """Train the embeddings of virtual tokens."""
    freeze: Freeze | None = None
    """Train some of the weights."""

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens that stand before every text."""
        return self.value.tokens if isinstance(self.value, Prefix | PromptTuning) else 0
