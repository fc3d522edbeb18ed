"""The task embedding."""

from typing import Annotated, Literal

from pydantic import Field

from pretune_api.base import Spec
from pretune_api.units import ColumnName

Prefix = Annotated[str, Field(max_length=4_096)]
"""What stands before each text of a kind."""


class HardNegatives(Spec):
    """Documents that resemble the right one, but do not belong to the query, such as what another search has found
    (DPR, Karpukhin et al., 2020)."""

    column: ColumnName = "negatives"
    """Column with a text, or with a list of texts, which may be empty."""
    per_query: Annotated[int, Field(ge=1, le=64)] = 1
    """Maximum number of them to use of each list, drawn anew each epoch."""


class Embedding(Spec):
    """Turn texts into vectors that are similar where the texts belong together: for search, similarity or clustering
    (multiple negatives ranking; SimCSE, Gao et al., 2021; E5, Wang et al., 2022).

    The source's column holds the query, and positiveColumn a document that belongs to it. Each query is compared with
    all documents of its step, across all ranks; equal documents, and those of an equal query, are not held against it.
    Ranks therefore compute all their rows at once, and a smaller microBatchRows is refused. Texts longer than a row are
    truncated at the end.
    """

    positive_column: ColumnName | None = None
    """Column with a document that belongs to the query; by default, each text is its own document, which only the
    model's dropout tells apart (SimCSE)."""
    hard_negatives: HardNegatives | None = None
    """Further documents to compare each query with; by default, only documents of other queries."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    """Which of the last hidden states make up the vector: the mean of all, the first (as in BERT), or the last (usual
    for decoders)."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 0.05
    """What cosine similarities are divided by; the lower it is, the more the most similar documents matter."""
    query_prefix: Prefix = ""
    """Text before each query, such as "query: " (E5)."""
    document_prefix: Prefix = ""
    """Text before each document, such as "passage: " (E5)."""
