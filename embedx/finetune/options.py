"""Options of fine-tuning, each with its check; `arguments.json` holds them, and `--args FILE` reads them again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from embedx.audio.augmentation import Augmentation
from embedx.errors import UsageError
from embedx.extractors.pooled_heads import ACTIVATIONS, POOLINGS
from embedx.filesystem.paths import display_path
from embedx.recipe import TAILS

SCHEDULES = ("one-cycle", "cosine", "linear", "constant")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
METRICS = ("loss", "accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "exact_match", "micro_f1")
FREEZES = ("none", "features", "encoder")  # or a number of blocks
STARTS = ("random", "probe")
FULL_RATE, LORA_RATE = 5e-5, 5e-4  # usual for full fine-tuning of these models, and ten times that for LoRA
HEAD_RATE = 1e-3  # of a head with random weights, which has more to learn than the encoder


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is fine-tuned.

    Attributes:
        model: the checkpoint: a hub id or a folder.
        labels: the label columns; several yes/no columns are one multi-label output, as in `embedx probe`, and each
            other column is an output of its own.
        separator: the text between several labels in one cell: multi-label.
        layout, group: how the source is read; see `embedx.datasets.sources.read_corpus`.
        folds, split, leaky, seed: how rows are split; see `embedx.evaluation.splits.SplitOptions`.
        fold: the name of the test part that is used, if there are several; None for the first one; "all" for a training
            for each, figures over all, and a final model of all rows.
        window, hop, tail, max_seconds, trim_silence: how recordings are cut; see `embedx.recipe.Recipe`.
        layer: the layer that the head takes: "last", "weighted" (a learned sum of all layers) or a number.
        pooling, shared, hidden, activation, dropout, layer_norm: the head; see `HeadSettings`. `layer_norm` None is on
            for AST with native pooling, whose class in transformers has it, and off for others.
        start: "random" weights of the last linear layers, or those of a "probe": a logistic regression on the frozen
            encoder and the training rows.
        average: the share of the trained weights in the final ones; the rest are the weights of the start. Validation
            figures are those of the averaged weights.
        freeze: "none", "features" (what precedes the transformer's blocks), "encoder", or a number N: the features and
            the first N blocks.
        unfreeze_every: gradual unfreezing: only the head is trained at first, and one more block, from the last to the
            first, after every so many epochs; 0 trains all from the start.
        lora: the rank of LoRA's matrices; 0 trains the weights themselves.
        learning_rate, head_rate: the highest learning rates of the encoder and of the head. None for the encoder is
            5e-5, or 5e-4 with LoRA; for the head 1e-3, or the rate of the encoder with start=probe.
        layer_decay: the rate of each block is that of the next one times this number.
        weight_decay: AdamW's weight decay.
        schedule, warm_up: how the rates change, and the share of the steps in which they rise.
        epochs, batch_size: passes over the training rows, and rows per step of the optimizer.
        batch_seconds: audio in memory at a time, padding included. A step whose rows are longer accumulates gradients
            over several batches; None for 15 s on a CPU and 120 s on a GPU.
        precision: "auto", "float32", "bfloat16" or "float16"; auto is bfloat16 on a GPU that has it, else float32.
        checkpointing: gradient checkpointing: less memory, a third more time.
        class_weight: "balanced" gives rare classes more weight in the loss.
        balanced: draw training rows so that all classes are equally frequent.
        hold_out: hold a validation part out of the training rows if the split has none. Without it all training rows
            are trained on, and the last checkpoint is used.
        metric: what the best checkpoint is chosen by, on the validation part; None for balanced accuracy, or macro_auc
            if an output is multi-label.
        patience: stop after so many epochs without a better validation metric; 0 never stops.
        augment: the augmentations of training rows; see `embedx.audio.augmentation`.
        device: "auto", "cpu" or a GPU.
        allow_pickle: read weights from a pickle.

    Raises:
        UsageError: an invalid value.
    """

    model: str
    labels: tuple[str, ...] = ()
    separator: str | None = None
    layout: str = "auto"
    group: str | None = None
    folds: str | None = None
    split: str | None = None
    leaky: bool = False
    seed: int = 0
    fold: str | None = None
    window: float | None = None
    hop: float | None = None
    tail: str = "keep"
    max_seconds: float | None = None
    trim_silence: bool = False
    layer: str = "last"
    pooling: str = "native"
    shared: int = 0
    hidden: int = 0
    activation: str = "none"
    dropout: float = 0.1
    layer_norm: bool | None = None
    start: str = "random"
    average: float = 1.0
    freeze: str = "none"
    unfreeze_every: int = 0
    lora: int = 0
    learning_rate: float | None = None
    head_rate: float | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    schedule: str = "one-cycle"
    warm_up: float = 0.1
    epochs: int = 10
    batch_size: int = 16
    batch_seconds: float | None = None
    precision: str = "auto"
    checkpointing: bool = False
    class_weight: str | None = None
    balanced: bool = False
    hold_out: bool = True
    metric: str | None = None
    patience: int = 0
    augment: str | None = None
    device: str = "auto"
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                listed = ", ".join(str(choice) for choice in choices if choice is not None)
                raise UsageError(f"{name} must be one of {listed}, not {value!r}.")
        for name, (low, high, kind) in RANGES.items():
            value = getattr(self, name)
            is_number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
            if value is not None and not (is_number and low <= value <= high):
                what = "a whole number" if kind is int else "a number"
                raise UsageError(f"{name} must be {what} from {low:g} to {high:g}, not {value!r}.")
        if self.freeze not in FREEZES and not str(self.freeze).isdecimal():
            raise UsageError(f"freeze must be {', '.join(FREEZES)} or a number of blocks, not {self.freeze!r}.")
        if self.layer not in ("last", "weighted") and not str(self.layer).isdecimal():
            raise UsageError(f"layer must be last, weighted or the number of a layer, not {self.layer!r}.")
        if (self.lora or self.unfreeze_every) and self.freeze == "encoder":
            raise UsageError("With freeze=encoder no block is trained, so lora and unfreeze_every have no effect.")
        if self.augment:
            Augmentation.from_option(self.augment)  # refuse an unknown name before the work
        if self.lora and self.unfreeze_every:
            raise UsageError(
                "Give either lora or unfreeze_every: LoRA trains its matrices in all blocks from the start."
            )

    @property
    def encoder_rate(self) -> float:
        """The highest learning rate of the encoder."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LORA_RATE if self.lora else FULL_RATE

    @property
    def linear_rate(self) -> float:
        """The highest learning rate of the head."""
        if self.head_rate is not None:
            return self.head_rate
        return self.encoder_rate if self.start == "probe" else HEAD_RATE

    def to_json(self) -> str:
        """Return the options as JSON; see `read_arguments`."""
        return json.dumps(asdict(self), indent=1)

    def replace(self, **changes: Any) -> Self:
        """Return the options with some of them changed, and checked again."""
        return replace(self, **changes)


CHOICES: dict[str, tuple[str | None, ...]] = {
    "tail": TAILS,
    "pooling": POOLINGS,
    "activation": tuple(ACTIVATIONS),
    "start": STARTS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "class_weight": (None, "balanced"),
    "metric": (None, *METRICS),
}
RANGES: dict[str, tuple[float, float, type]] = {  # the lowest and the highest value, and whether it is a whole number
    "seed": (0, 2**31 - 1, int),
    "window": (0.01, 3600, float),
    "hop": (0.01, 3600, float),
    "max_seconds": (0.01, 1e9, float),
    "shared": (0, 65_536, int),
    "hidden": (0, 65_536, int),
    "dropout": (0, 0.99, float),
    "average": (0, 1, float),
    "unfreeze_every": (0, 10_000, int),
    "lora": (0, 1024, int),
    "learning_rate": (0, 10, float),
    "head_rate": (0, 10, float),
    "layer_decay": (0.01, 1, float),
    "weight_decay": (0, 10, float),
    "warm_up": (0, 1, float),
    "epochs": (1, 100_000, int),
    "batch_size": (1, 65_536, int),
    "batch_seconds": (0.1, 100_000, float),
    "patience": (0, 100_000, int),
}


def read_arguments(file: str) -> dict[str, Any]:
    """Return the options in a file that `embedx finetune` wrote (arguments.json), by name.

    Raises:
        UsageError: the file cannot be read, is not a JSON object, or names an unknown option.
    """
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The arguments in {display_path(file)} cannot be read: {error}.") from error
    known = {field.name for field in fields(FinetuneOptions)} | {"source"}
    if not isinstance(values, Mapping) or not set(values) <= known:
        unknown = sorted(set(values) - known) if isinstance(values, Mapping) else []
        detail = f"it names the unknown option {unknown[0]!r}" if unknown else "it is not a JSON object"
        raise UsageError(f"{display_path(file)} does not hold arguments of embedx finetune: {detail}.")
    return dict(values)
