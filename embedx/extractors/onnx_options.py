"""The options of `onnx:FILE?rate=32000&window=5&...`, and what an ONNX file says of them itself."""

import csv
from dataclasses import dataclass
from pathlib import Path

from embedx.arguments.keywords import suggest
from embedx.errors import ModelError
from embedx.extractors.front_ends import RATES
from embedx.extractors.onnx_file import TYPES, OnnxFile, Value
from embedx.extractors.weights import brief

NAMES = ("rate", "window", "input", "output", "axes", "scale", "scores", "labels", "activation")
AXES = ("btd", "bdt")
ACTIVATIONS = ("none", "sigmoid", "softmax")
LAYOUTS = {1: "s", 2: "bs"}  # by rank; [B, 1, S] is "b1s", [B, S, 1] is "bs1"
MIN_WINDOW_S, MAX_WINDOW_S = 0.01, 3600.0  # those of `--window`
INT16 = 32_768.0  # the scale of an input with 16-bit integers
NAME_COLUMNS = ("display_name", "name", "label", "common_name", "scientific_name", "class")  # of a table of classes


@dataclass(frozen=True)
class Options:
    """The options that a user gives; None for those that the file answers.

    Attributes:
        rate: sample rate in Hz.
        window: the length of the input in seconds, for a model that takes one length only.
        input, outputs: names in the file; each output is a layer.
        axes: the order of the axes of outputs with three: "btd" (batch, time, dimension) or "bdt".
        scale: what samples from -1 to 1 are multiplied by.
        scores: the output with a score for each class.
        labels: the file with the names of the classes.
        activation: how scores become probabilities: "none", "sigmoid" or "softmax".
    """

    rate: int | None = None
    window: float | None = None
    input: str | None = None
    outputs: tuple[str, ...] = ()
    axes: str | None = None
    scale: float | None = None
    scores: str | None = None
    labels: str | None = None
    activation: str = "none"

    @classmethod
    def parse(cls, text: str) -> "Options":
        """Read `NAME=VALUE&NAME=VALUE`.

        Raises:
            ModelError: an option is unknown, repeated or invalid.

        >>> Options.parse("rate=32000&output=a,b").outputs
        ('a', 'b')
        """
        given: dict[str, str] = {}
        for part in filter(None, text.split("&")):
            name, _, value = part.partition("=")
            if name not in NAMES:
                likely = suggest(name, NAMES)
                hint = f" Did you mean {likely!r}?" if likely else ""
                raise ModelError(f"onnx: has no option {name!r}.{hint} Options: {', '.join(NAMES)}.")
            if not value or name in given:
                raise ModelError(f"The option {name} of onnx: needs one value: {name}=VALUE, not {part!r}.")
            given[name] = value
        outputs = tuple(given.get("output", "").split(",")) if "output" in given else ()
        if len(set(outputs)) < len(outputs) or "" in outputs:
            raise ModelError(f"output={given['output']} must name different outputs, with commas between them.")
        return cls(
            rate=None if "rate" not in given else round(number("rate", given["rate"], RATES[0], RATES[-1])),
            window=None if "window" not in given else number("window", given["window"], MIN_WINDOW_S, MAX_WINDOW_S),
            input=given.get("input"),
            outputs=outputs,
            axes=None if "axes" not in given else choice("axes", given["axes"], AXES),
            scale=None if "scale" not in given else number("scale", given["scale"], 1e-9, 1e9),
            scores=given.get("scores"),
            labels=given.get("labels"),
            activation=choice("activation", given.get("activation", "none"), ACTIVATIONS),
        )


@dataclass(frozen=True)
class Input:
    """How waves are given to a model.

    Attributes:
        value: the input.
        layout: its axes: "s", "bs", "b1s" or "bs1".
        batch: the length of its batch axis, None for any.
        rate: sample rate in Hz.
        samples: the only length that the model takes, None for any.
        scale: what samples from -1 to 1 are multiplied by.
    """

    value: Value
    layout: str
    batch: int | None
    rate: int
    samples: int | None
    scale: float


def read_input(file: OnnxFile, options: Options) -> Input:
    """Return how waves are given to a model, by the options and what the file says.

    Raises:
        ModelError: an option is missing or contradicts the file, or the input is not a waveform.
    """
    value = pick_input(file, options.input)
    rank = len(value.shape)
    layout = LAYOUTS.get(rank, "")
    if rank == 3:
        is_channel = value.shape[1] == 1 or not any(isinstance(axis, int) for axis in value.shape[1:])
        layout = "b1s" if is_channel else "bs1" if value.shape[2] == 1 else ""
    if not layout:
        raise ModelError(
            f"The input {value} of {file.path} is not a waveform ([S], [B, S], [B, 1, S] or [B, S, 1]); it may be a "
            "spectrogram. embedx gives waveforms: export the model together with its front end."
        )
    if value.type not in TYPES:
        raise ModelError(f"The input {value} of {file.path} must have the type {', '.join(TYPES)}.")
    length = value.shape[layout.index("s")]
    batch = value.shape[0] if layout != "s" else 1
    samples = length if isinstance(length, int) else None
    rate = options.rate or guess_rate(file, options.window, samples)
    if rate is None:
        is_open = options.scores is None and not options.outputs and len(possible_outputs(file, options)) != 1
        also = ", and the output with the vectors: output=NAME" if is_open else ""
        raise ModelError(f"Add the sample rate of the model in Hz: rate=32000{also}. The file is {file}.")
    asked = None if options.window is None else round(options.window * rate)
    if asked is not None and samples is not None and asked != samples:
        raise ModelError(
            f"window={options.window:g} at rate={rate} gives {asked} samples, but the input {value} of {file.path} "
            f"takes {samples}. Leave out window, or give window={samples / rate:g}."
        )
    samples = samples or asked
    if samples is not None and not MIN_WINDOW_S <= samples / rate <= MAX_WINDOW_S:
        raise ModelError(
            f"The input {value} of {file.path} takes {samples / rate:g} s at {rate} Hz; allowed are {MIN_WINDOW_S} to "
            f"{MAX_WINDOW_S} s. It may not be a waveform, or rate may be wrong."
        )
    scale = options.scale or (INT16 if value.type == "tensor(int16)" else 1.0)
    return Input(value, layout, batch if isinstance(batch, int) else None, rate, samples, scale)


def pick_input(file: OnnxFile, name: str | None) -> Value:
    """Return the input for the waveform; the model must have no other."""
    if name is not None and name not in file.inputs:
        raise ModelError(f"There is no input {name!r} in {file}.")
    if len(file.inputs) != 1:
        raise ModelError(f"The model must have one input, the waveform, but there are {len(file.inputs)} in {file}.")
    return next(iter(file.inputs.values()))


def guess_rate(file: OnnxFile, window: float | None, samples: int | None) -> int | None:
    """Return the sample rate that the file's metadata or the length of its window gives, None if neither does."""
    text = file.metadata.get("sample_rate", "")
    rate = int(text) if text.isdecimal() else round(samples / window) if samples and window else 0
    return rate if rate in RATES else None


def pick_outputs(file: OnnxFile, options: Options) -> tuple[str, ...]:
    """Return the outputs that are layers: those of the option, or the only one that can be meant.

    Raises:
        ModelError: an output does not exist or holds no numbers, or several can be meant.
    """
    for name in options.outputs:
        check_output(file, name)
    if options.outputs:
        return options.outputs
    names = possible_outputs(file, options)
    if len(names) != 1:
        raise ModelError(f"Add the name of the output with the vectors: output=NAME. The file is {file}.")
    return names


def possible_outputs(file: OnnxFile, options: Options) -> tuple[str, ...]:
    """Return the outputs that can be vectors if the user names none."""
    return tuple(value.name for value in file.outputs.values() if value.is_float and value.name != options.scores)


def check_output(file: OnnxFile, name: str) -> None:
    """Refuse an output that does not exist, or that holds no floating-point numbers."""
    if name not in file.outputs:
        raise ModelError(f"There is no output {name!r} in {file}.")
    if not file.outputs[name].is_float:
        raise ModelError(f"The output {file.outputs[name]} of {file.path} does not hold floating-point numbers.")


def read_labels(file: Path, count: int) -> tuple[str, ...]:
    """Return the names of the classes: one a line, or a .csv file with one row for each class.

    A table needs a header if it has several columns; the names are in the first of `NAME_COLUMNS` that it has. A table
    with one column may have a header.

    Raises:
        ModelError: the file cannot be read, has another number of names, or names that are empty or repeated.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = read_table(text, count) if file.suffix == ".csv" else text.splitlines()
    except (OSError, ValueError, csv.Error) as error:
        raise ModelError(f"The labels {file} cannot be read: {brief(error)}") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if len(names) != count:
        raise ModelError(f"{file} holds {len(names)} names, but the model gives {count} scores. Give one name a line.")
    if "" in names or len(set(names)) < count:
        name = "" if "" in names else next(name for name in names if names.count(name) > 1)
        raise ModelError(f"{file} holds the name {name!r} twice or an empty name. Give each class a name of its own.")
    return tuple(names)


def read_table(text: str, count: int) -> list[str]:
    """Return the names of the classes in a CSV table."""
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if all(len(row) == 1 for row in rows):
        return [row[0] for row in rows[len(rows) == count + 1 :]]
    header = [name.strip().lower().replace(" ", "_") for name in rows[0]]
    columns = [header.index(name) for name in NAME_COLUMNS if name in header]
    if not columns:
        raise ValueError(f"its header needs one of the columns {', '.join(NAME_COLUMNS)}")
    return [row[columns[0]] if columns[0] < len(row) else "" for row in rows[1:]]


def number(name: str, text: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`; raise ModelError for another value."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ModelError(f"{name} must be a number from {low:g} to {high:g}, not {text!r}.")
    return value


def choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed texts; raise ModelError for another."""
    if text not in allowed:
        raise ModelError(f"{name} must be one of {', '.join(allowed)}, not {text!r}.")
    return text
