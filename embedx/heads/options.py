"""HeadOptions: which head to fit, with its settings, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from embedx.arguments.types import Device
from embedx.heads.kinds import check_kind, check_settings
from embedx.heads.preprocessing import read_chain
from embedx.heads.training_data import ClassWeight


class HeadSettings(TypedDict, total=False):
    """The settings of all kinds of heads as keywords; see `embedx.heads.KINDS`."""

    C: float | None
    inner_folds: int
    max_iter: int
    criterion: str | None
    hidden: int
    dropout: float
    mixture_rate: float
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int
    refit: bool
    device: Device
    k: int
    weights: str
    temperature: float | None


class HeadKwargs(HeadSettings, total=False):
    """The fields of `HeadOptions` as keywords, and the settings of all kinds; `seed` is that of `SplitKwargs`."""

    kind: str
    head_model: str
    class_weight: ClassWeight


@dataclass(frozen=True)
class HeadOptions:
    """Which head to fit.

    Attributes:
        kind: "logistic", "mlp", "knn", "prototype" or "weighted-layers".
        head_model: steps before the head, such as "PCA(128)"; see `embedx.heads.STEPS`.
        class_weight: None, "balanced", or weights by class name.
        seed: the seed for all random choices.
        settings: settings of the kind that differ from the defaults; see `embedx.heads.KINDS`.

    Raises:
        UsageError: the kind, a step or a setting does not exist, or a setting has a value that is not allowed.
    """

    kind: str = "logistic"
    head_model: str = ""
    class_weight: ClassWeight = None
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kind(self.kind)
        check_settings(self.kind, self.settings)
        read_chain(self.head_model)

    @classmethod
    def from_keywords(
        cls,
        kind: str = "logistic",
        head_model: str = "",
        class_weight: ClassWeight = None,
        seed: int = 0,
        **settings: Any,
    ) -> Self:
        """Return the options that keywords name; all keywords that are not fields are settings of the kind."""
        return cls(kind, head_model, class_weight, seed, settings)
