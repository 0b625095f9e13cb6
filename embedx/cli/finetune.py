"""embedx finetune: train a checkpoint and a head on labelled audio."""

import time
from typing import Any

import click

from embedx.cli.embedding_options import HOP, LAYOUT, MAX_SECONDS, TAIL, TRIM_SILENCE, WINDOW
from embedx.cli.options import (
    ALLOW_PICKLE,
    JSON,
    LEAKY_HELP,
    PER_CLASS,
    PERMUTATIONS,
    PROGRESS,
    SectionedCommand,
    section,
)
from embedx.cli.output import print_json, say
from embedx.cli.progress import Display, Signals
from embedx.errors import EXIT_SOME_FAILED, UsageError


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx finetune speech/ --model openai/whisper-tiny.en --label word --group speaker -o models/words
      embedx finetune esc50/ --model MIT/ast-finetuned-audioset-10-10-0.4593 --freeze 8 -o models/esc
      embedx finetune clips.csv --model facebook/hubert-base-ls960 --label cough --label wheeze --lora 8 -o models/lungs
      embedx finetune --args models/words/arguments.json --learning-rate 1e-4 -o models/words-2
    """,
)
@click.argument("source", nargs=-1)
@section(
    "Model",
    click.option("--model", help="The checkpoint to train: a hub id or a folder (Wav2Vec2, HuBERT, WavLM, data2vec, "
                 "Wav2Vec2-BERT, AST, Whisper)."),
    click.option("-o", "--out", required=True, metavar="FOLDER", help="Where the model is saved, such as models/NAME."),
    click.option("--args", metavar="FILE", help="Take source and options from an arguments.json; options given here "
                 "count more."),
    ALLOW_PICKLE,
)  # fmt: skip
@section(
    "Labels",
    click.option("--label", "labels", multiple=True, metavar="COLUMN", help="Label column, or a regular expression "
                 "with one (group) searched in the path. Repeat for several outputs; yes/no columns are one "
                 "multi-label output. [default: the label that the source gives]"),
    click.option("--separator", metavar="TEXT", help='Separator of several labels in one cell, such as ";".'),
    LAYOUT,
)  # fmt: skip
@section(
    "Split",
    click.option("--group", metavar="COLUMN", help="Group column, or a regular expression: groups are never split."),
    click.option("--folds", metavar="COLUMN", help="Column with the test fold of each row. [default: fold, if filled]"),
    click.option("--split", metavar="COLUMN", help="Column with train, validation, test. [default: split, if filled]"),
    click.option("--fold", metavar="NAME", help="The fold to test on; all: each in turn, with figures "
                 "over all, and a final model of all rows. [default: the first]"),
    click.option("--leaky", is_flag=True, help=LEAKY_HELP),
    click.option("--seed", type=int, default=0, show_default=True, help="Random seed of split, head and order."),
)  # fmt: skip
@section("Windows", WINDOW, HOP, TAIL, TRIM_SILENCE, MAX_SECONDS)
@section(
    "Head",
    click.option("--layer", default="last", show_default=True, help="last, weighted (a learned sum) or a number."),
    click.option("--pooling", type=click.Choice(["native", "mean", "sum", "max"]), default="native",
                 show_default=True, help="native: as transformers' class for classification."),
    click.option("--shared", type=int, default=0, metavar="WIDTH", help="A dense layer that all outputs share."),
    click.option("--hidden", type=int, default=0, metavar="WIDTH", help="A dense layer of each output."),
    click.option("--activation", type=click.Choice(["none", "relu", "gelu", "tanh"]), default="none",
                 show_default=True, help="After each dense layer."),
    click.option("--dropout", type=float, default=0.1, show_default=True, help="In the head."),
    click.option("--layer-norm/--no-layer-norm", default=None, help="Normalise the pooled vector. [default: only AST]"),
)  # fmt: skip
@section(
    "What is trained",
    click.option("--start", type=click.Choice(["random", "probe"]), default="random", show_default=True, help="Weights "
                 "of the last linear layers: probe takes a logistic regression on the frozen encoder."),
    click.option("--average", type=float, default=1.0, show_default=True, metavar="SHARE", help="Share of the trained "
                 "weights in the final ones; the rest are the weights of the start."),
    click.option("--freeze", default="none", show_default=True, help="none, features, encoder, or a number of blocks."),
    click.option("--unfreeze-every", type=int, default=0, metavar="EPOCHS", help="Begin with the head alone, and train "
                 "one more block after every so many epochs."),
    click.option("--lora", type=int, default=0, metavar="RANK", help="Train LoRA's matrices instead of the weights."),
    click.option("--augment", metavar="NAMES", help="Alter training rows: names, or a TOML file with settings."),
    click.option("--class-weight", type=click.Choice(["balanced"]), help="Give rare classes more weight in the loss."),
    click.option("--balanced", is_flag=True, help="Draw training rows so that all classes are equally frequent."),
)  # fmt: skip
@section(
    "Optimizer",
    click.option("--epochs", type=int, default=10, show_default=True, help="Passes over the training rows."),
    click.option("--batch-size", type=int, default=16, show_default=True, help="Rows of a step."),
    click.option("--batch-seconds", type=float, metavar="S", help="Audio in memory at a time; longer steps accumulate "
                 "gradients. [default: 15 on a CPU, 120 on a GPU]"),
    click.option("--learning-rate", type=float, help="Of the encoder. [default: 5e-5, with --lora 5e-4]"),
    click.option("--head-rate", type=float, help="Learning rate of the head. [default: 1e-3, with --start probe that "
                 "of the encoder]"),
    click.option("--layer-decay", type=float, default=1.0, show_default=True, help="Rate of a block by the next one."),
    click.option("--weight-decay", type=float, default=0.01, show_default=True, help="Of AdamW."),
    click.option("--schedule", type=click.Choice(["one-cycle", "cosine", "linear", "constant"]), default="one-cycle",
                 show_default=True, help="How the rates change after the warm-up."),
    click.option("--warm-up", type=float, default=0.1, show_default=True, help="Share of the steps with rising rates."),
    click.option("--metric", help="Metric of the best checkpoint, such as macro_f1 or loss. [default: "
                 "balanced_accuracy, multi-label: macro_auc]"),
    click.option("--search", metavar="trials=N", help="First choose rates, freezing, dropout, pooling and layer in N "
                 "trainings, on the validation rows; options given here stay."),
    click.option("--hold-out/--no-hold-out", default=True, show_default=True, help="Hold out validation rows if the "
                 "split has none. Without: all training rows and the last checkpoint."),
    click.option("--patience", type=int, default=0, metavar="EPOCHS", help="Stop after so many epochs without a better "
                 "metric. [default: never]"),
)  # fmt: skip
@section(
    "Speed",
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), default="auto",
                 show_default=True, help="auto: bfloat16 on a GPU that has it."),
    click.option("--checkpointing", is_flag=True, help="Gradient checkpointing: less memory, more time."),
)  # fmt: skip
@section(
    "Output",
    click.option("--resume/--no-resume", default=True, show_default=True, help="Go on with an interrupted training."),
    click.option("--overwrite", is_flag=True, help="Replace a trained model in the folder."),
    PERMUTATIONS,
    PROGRESS,
    PER_CLASS,
    JSON,
)
def finetune(
    source: tuple[str, ...],
    out: str,
    args: str | None,
    resume: bool,
    overwrite: bool,
    search: str | None,
    permutations: int,
    progress: str,
    per_class: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train a model and a classifier on a SOURCE, test it on rows that it has not seen, and save it.

    Sources, labels, groups and splits are those of `embedx extract` and `embedx probe`. The best checkpoint is chosen
    on validation rows, which are held out of the training rows if the split has none. A training that was stopped or
    killed goes on when the same command runs again, and ends with the same weights.
    """
    from embedx.finetune.options import FinetuneOptions, read_arguments
    from embedx.finetune.run import finetune
    from embedx.finetune.search import read_trials

    values = {**options, **({} if args is None else read_arguments(args) | given(options))}
    stored = values.pop("source", [])
    if not values["model"]:
        raise UsageError("Give the checkpoint to train with --model: a hub id or a folder.")
    if not (source or stored):
        raise UsageError("Give a source: a folder, audio files or a manifest.")
    with Signals("step") as signals, FinetuneDisplay(progress) as display:
        result = finetune(
            list(source or stored),
            out,
            FinetuneOptions(**values),
            resume=resume,
            overwrite=overwrite,
            trials=read_trials(search) if search else 0,
            given=[name for name in given(options) if name in options],
            permutations=permutations,
            report=display,
            interrupted=signals.received,
        )
    code = EXIT_SOME_FAILED if result.failures else 0
    if as_json:
        print_json({"exit_code": code, "folder": str(result.folder), **result.to_dict()})
    else:
        say(result.text(per_class))
    return code


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the user gave on the command line."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in options.items() if context.get_parameter_source(name) != default}


class FinetuneDisplay(Display):
    """Shows the progress of a training: decoding, then the losses."""

    def __exit__(self, *_: object) -> None:
        self.close_bar()

    def __call__(self, values: dict[str, Any]) -> None:
        """Show what happens; called for every row that is decoded, and for every log of the training."""
        if self.mode == "json":
            if "decoded" not in values or self.due():
                self.shown = time.monotonic()
                self.emit("progress", values)
        elif self.mode != "none":
            self._show(values)

    def _show(self, values: dict[str, Any]) -> None:
        if "decoded" in values:
            if self.mode == "bar":
                self.draw(values["rows"], values["decoded"], "clip", "decode", "")
            return
        self.close_bar()
        if "fold" in values:
            name = f"fold {values['number']} of {values['folds']}: {values['fold']}"
            say(name if values["number"] else "final model of all rows", err=True)
        elif "resumed" in values:
            say(f"Goes on after step {values['resumed']}.", err=True)
        elif "trial" in values:
            figure = "none" if values["figure"] is None else f"{values['figure']:.4f}"
            say(f"trial {values['trial']} of {values['trials']}: {values['state']}, metric {figure}", err=True)
        elif "validation_loss" in values:
            figures = f"validation loss {values['validation_loss']:.4f}, metric {values['validation_metric']:.4f}"
            say(f"epoch {values['epoch']:g}, step {values['step']} of {values['steps']}: {figures}", err=True)
        elif "loss" in values and self.due():
            self.shown = time.monotonic()
            say(
                f"epoch {values['epoch']:.2f}, step {values['step']} of {values['steps']}: loss {values['loss']:.4f}",
                err=True,
            )
