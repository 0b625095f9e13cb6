"""Options of the commands that embed audio or import vectors: model, windows, labels, speed."""

import click

from embedx.datasets.sources import LAYOUTS
from embedx.extractors.loading import BACKENDS
from embedx.recipe import CHANNELS, TAILS
from embedx.store.schema import DTYPES

MODEL = click.option(
    "--model",
    default="logmel",
    show_default=True,
    help="A name of `embedx models`, a hub id, a folder, or onnx:FILE?rate=HZ&output=NAME.",
)
LAYERS = click.option("--layers", default="last", show_default=True, help="last, all, or numbers such as 0,6,-1.")
POOLING = click.option("--pooling", default="mean", show_default=True, help="mean, sum, max, or several: mean,max.")
WINDOW = click.option(
    "--window", type=float, metavar="S", help="Length of a window in seconds. [default: whole recording, up to 60 s]"
)
HOP = click.option(
    "--hop", type=float, metavar="S", help="Seconds between the starts of windows. [default: the length of a window]"
)
TAIL = click.option(
    "--tail",
    type=click.Choice(TAILS),
    default="keep",
    show_default=True,
    help="What to do with audio after the last full window: keep (one window that ends with the audio), "
    "pad (with zeros) or drop.",
)
CHANNEL_MODE = click.option(
    "--channels",
    type=click.Choice(CHANNELS),
    default="mean",
    show_default=True,
    help="How to handle multi-channel audio: average the channels, use the first, or embed each.",
)
TRIM_SILENCE = click.option("--trim-silence", is_flag=True, help="Remove silence at both ends.")
MAX_SECONDS = click.option(
    "--max-seconds", type=float, metavar="S", help="Use only the first S seconds of each recording."
)
LAYOUT = click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="auto",
    show_default=True,
    help="How to read a folder: as a known data set, folders (one per class), or files (no labels).",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, or several GPUs: cuda:0,cuda:1."
)
PRECISION = click.option("--precision", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
BACKEND = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="Model implementation: fast (built in, fewer models) or reference.",
)
BATCH_SECONDS = click.option(
    "--batch-seconds",
    type=float,
    metavar="S",
    help="Seconds of audio in a batch, padding included (Whisper: 30 s for each clip). Changes the speed, not the "
    "vectors. [default: 15 on a CPU, 600 on a GPU]",
)
WORKERS = click.option(
    "--workers", default="auto", show_default=True, help="Number of decoder processes: auto, or 0, 1, 2, ..."
)
LABEL_COLUMN = click.option(
    "--label", metavar="COLUMN", help="Label column, or a regular expression with one (group) searched in the path."
)
GROUP_COLUMN = click.option(
    "--group", metavar="COLUMN", help="Group column, or a regular expression. A split never divides a group."
)
STORE_DTYPE = click.option(
    "--store-dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Number type of stored vectors; float16 takes half the space.",
)
