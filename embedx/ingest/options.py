"""ExtractOptions: the options of an extraction as one value, and as the keywords of `embedx.extract`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from embedx.datasets.name_columns import NameRules
from embedx.embedding.options import EmbeddingKwargs, EmbeddingOptions, check_choice
from embedx.store.schema import DTYPES


@dataclass(frozen=True)
class ExtractOptions(EmbeddingOptions):
    """All options of `embedx.extract`, where they are described.

    Raises:
        UsageError: an argument is invalid.
    """

    label: str | None = None
    group: str | None = None
    layout: str = "auto"
    segments: str | os.PathLike[str] | None = None
    meta: str | Sequence[str] = ()
    time_from: str | None = None
    workers: int | str = "auto"
    store_dtype: str = "float32"
    shard: str | None = None
    checksum: bool = False
    retry_failed: bool = False
    prune: bool = False
    confine: bool = False
    dry_run: bool = False
    wait: bool = False
    names: NameRules = field(default=NameRules(), init=False)  # made of meta and time_from

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("store_dtype", self.store_dtype, DTYPES)
        rules = (self.meta,) if isinstance(self.meta, str) else tuple(self.meta)
        object.__setattr__(self, "meta", rules)
        object.__setattr__(self, "names", NameRules(rules, self.time_from))
        if self.segments is not None:  # a later run may start in another folder
            object.__setattr__(self, "segments", os.path.abspath(self.segments))


class ExtractKwargs(EmbeddingKwargs, total=False):
    """The fields of `ExtractOptions` as keywords."""

    label: str | None
    group: str | None
    layout: str
    segments: str | os.PathLike[str] | None
    meta: str | Sequence[str]
    time_from: str | None
    workers: int | str
    store_dtype: str
    shard: str | None
    checksum: bool
    retry_failed: bool
    prune: bool
    confine: bool
    dry_run: bool
    wait: bool
