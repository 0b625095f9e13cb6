"""Fine-tuned setups as text, such as "lora(epochs=5)". The same text is in the column `head` of the results."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embedx.bench.head_spec import SEPARATOR
from embedx.errors import UsageError
from embedx.text import parse_number, parse_pair

if TYPE_CHECKING:
    from embedx.finetune.options import FinetuneOptions

KINDS: dict[str, dict[str, Any]] = {
    "full": {},  # all weights
    "lora": {"lora": 8},  # the rank; the value of the examples of Hu et al. (2021)
    "frozen": {"freeze": "encoder"},  # the head alone, trained as the others are
}
SCRATCH = "scratch:"  # before the name of a model with random weights
SETTINGS = (
    "layer pooling shared hidden activation dropout layer_norm freeze unfreeze_every lora learning_rate head_rate "
    "layer_decay weight_decay schedule warm_up epochs batch_size class_weight balanced metric patience augment start "
    "average hold_out checkpointing batch_seconds max_seconds precision"
).split()  # the options of `embedx finetune` that are not of the data, the split or the device
SPEC = re.compile(r"\s*(?P<kind>[a-z]+)\s*(?:\((?P<settings>[^()]*)\))?\s*")


@dataclass(frozen=True)
class FinetuneSpec:
    """How a model is fine-tuned.

    Attributes:
        kind: one of `KINDS`.
        settings: the settings that differ from those of the kind.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return self.kind + (f"({settings})" if settings else "")

    def options(self, model: str, **others: Any) -> "FinetuneOptions":
        """Return the options of fine-tuning.

        Args:
            model: the checkpoint.
            **others: options that are not of the setup, such as the device.

        Raises:
            UsageError: an invalid value.
        """
        from embedx.finetune.options import FinetuneOptions

        return FinetuneOptions(model, **{**KINDS[self.kind], **self.settings, **others})


def read_finetunes(value: Any) -> tuple[FinetuneSpec, ...]:
    """Return the setups in a list of texts, or in one text with commas.

    >>> [str(one) for one in read_finetunes("full, lora( lora=4,epochs=5 )")]
    ['full', 'lora(lora=4, epochs=5)']

    Raises:
        UsageError: a kind or setting does not exist, or a value is not allowed.
    """
    texts: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"finetune takes a text or a list of texts, not {value!r}. Kinds: {', '.join(KINDS)}.")
    specs = [read_finetune(part) for text in texts for part in SEPARATOR.split(text)]
    return tuple({str(spec): spec for spec in specs}.values())


def read_finetune(text: str) -> FinetuneSpec:
    """Return the setup that a text describes; see `read_finetunes`."""
    match = SPEC.fullmatch(text)
    if match is None or match["kind"] not in KINDS:
        raise UsageError(
            f"Unknown way of fine-tuning {text!r}. Give one of {', '.join(KINDS)}, with settings as in "
            "full(epochs=5, learning_rate=1e-4)."
        )
    settings: dict[str, Any] = {}
    for pair in filter(None, (part.strip() for part in (match["settings"] or "").split(","))):
        name, value = parse_pair(pair, f"A setting in {text!r}")
        if name not in SETTINGS:
            raise UsageError(f"Fine-tuning has no setting {name!r}. Settings: {', '.join(SETTINGS)}.")
        settings[name] = read_setting(name, value.strip())
    spec = FinetuneSpec(match["kind"], settings)
    spec.options("")  # checks the values
    return spec


def read_setting(name: str, text: str) -> Any:
    """Return a value in the type of its option.

    >>> read_setting("layer", "4"), read_setting("epochs", "4"), read_setting("balanced", "true")
    ('4', 4, True)
    """
    from embedx.finetune.options import FinetuneOptions

    kind = str(FinetuneOptions.__annotations__[name])
    if "bool" in kind:
        flags = {"true": True, "false": False}
        if text.lower() not in flags:
            raise UsageError(f"{name} takes true or false, not {text!r}.")
        return flags[text.lower()]
    return text if "str" in kind else parse_number(text)
