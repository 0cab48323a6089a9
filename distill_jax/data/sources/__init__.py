"""Where examples come from. A source streams them split by split and has a fingerprint of each split.

The paper's release (`ReferenceSource`), files of rows (`JsonlSource`, `CsvSource`, `ParquetSource`), hubs
(`TfdsSource`, `HuggingFaceSource`, `SeqioSource`), generators (`GeneratedSource`,
`ProductSource`); and sources made of these.
"""

from distill_jax.data.sources.base import Source, located, read_jsonl
from distill_jax.data.sources.columns import FIELDS, Columns
from distill_jax.data.sources.generated import GeneratedSource
from distill_jax.data.sources.hubs import HuggingFaceSource, SeqioSource, TfdsSource
from distill_jax.data.sources.joined import JoinedSource
from distill_jax.data.sources.products import ProductSource
from distill_jax.data.sources.reference import ReferenceSource
from distill_jax.data.sources.splits import ConcatenatedSource, HeldOutSource, held_out
from distill_jax.data.sources.tables import CsvSource, JsonlSource, ParquetSource, table_of

__all__ = [
    "FIELDS",
    "Columns",
    "ConcatenatedSource",
    "CsvSource",
    "GeneratedSource",
    "HeldOutSource",
    "HuggingFaceSource",
    "JoinedSource",
    "JsonlSource",
    "ParquetSource",
    "ProductSource",
    "ReferenceSource",
    "SeqioSource",
    "Source",
    "TfdsSource",
    "held_out",
    "located",
    "read_jsonl",
    "table_of",
]
