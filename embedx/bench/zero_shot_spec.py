"""Zero-shot setups as text, such as "zero-shot(dog=dog barking|growl)". The same text is in the column `head`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedx.bench.results import ZERO_SHOT
from embedx.errors import UsageError
from embedx.training.zero_shot import read_prompts, read_templates


@dataclass(frozen=True)
class ZeroShotSpec:
    """How labels become prompts.

    Attributes:
        prompts: label -> its prompts; a label without any is its own prompt, with spaces for underscores.
        templates: sentences with {} in the place of a prompt; none: that of `embedx predict`.
    """

    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [*(f"{name}={'|'.join(prompts)}" for name, prompts in self.prompts.items()), *self.templates]
        return ZERO_SHOT + (f"({', '.join(parts)})" if parts else "")

    def classes(self, labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return the prompts of the labels of a task."""
        return {label: self.prompts.get(label, (label.replace("_", " "),)) for label in labels}


def read_zero_shot(value: Any, prompt: Any) -> ZeroShotSpec | None:
    """Return the setup of the options `zero_shot` and `prompt`.

    Args:
        value: True or "" for the labels as they are, a text such as "dog=dog barking|growl, rain" or a mapping from
            labels to prompts for those that are not their own prompt; None or False: no zero-shot.
        prompt: a template or several; None: that of `embedx predict`.

    Raises:
        UsageError: a value is not allowed, or there is a prompt without zero-shot.
    """
    if value is None or value is False:
        if prompt:
            raise UsageError("prompt belongs to zero_shot (--zero-shot).")
        return None
    prompts = read_prompts(value) if value not in (True, "") else {}
    return ZeroShotSpec(prompts, read_templates(prompt) if prompt else ())
