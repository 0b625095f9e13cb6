"""The command line: options in, results out, no logic. One file per group of commands.

Results go to stdout, everything else to stderr. A command is imported when it is called, and modules of embedx inside
it, so that `embedx --help` is quick.
"""

import atexit
import gc
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from embedx._version import __version__
from embedx.errors import EmbedxError

EXIT_INTERNAL = 1
EXIT_DISK = 6
EXIT_INTERRUPTED = 130

COMMANDS = {  # name -> where it is, and what `embedx --help` says of it
    "extract": ("extract", "Embed audio into a collection; run it again to go on."),
    "search": ("search", "Find what is most like a recording, a row or a text."),
    "probe": ("probe", "Score how well the vectors tell labels apart."),
    "train": ("train", "Fit, score and save a classifier."),
    "predict": ("predict", "Say what rows or recordings are."),
    "suggest": ("suggest", "Choose the rows to label next."),
    "heads": ("train", "List, show, export and delete the classifiers of a collection."),
    "bench": ("bench", "Find out which model, layer, pooling and head to take."),
    "duplicates": ("duplicates", "Find what a collection holds more than once."),
    "index": ("index", "Build an index of a kind, recall and memory of your choice."),
    "status": ("status", "Say what a collection holds, and what failed."),
    "rm": ("maintenance", "Delete rows of a collection for good."),
    "label": ("maintenance", "Set labels and metadata of rows."),
    "compact": ("maintenance", "Give the space of deleted rows back to the disk."),
    "verify": ("maintenance", "Compare every byte with what was written, and repair."),
    "merge": ("maintenance", "Put several collections of one recipe into one."),
    "export": ("formats", "Write vectors and metadata for other tools."),
    "import": ("formats", "Make a collection of vectors from elsewhere."),
    "models": ("status", "List the models, and whether their weights are here."),
    "completion": ("status", "Print the completion script of a shell."),
}


def load_command(name: str) -> click.Command:
    """Import a command of `COMMANDS`."""
    module = import_module(f"embedx.cli.{COMMANDS[name][0]}")
    command: click.Command = getattr(module, "import_" if name == "import" else name)
    return command


class Lazy(click.Group):
    """A group that knows of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of the name."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done; 1 internal error; 2 usage; 3 done, some inputs failed; 4 locked; 5 damaged or "
    "incompatible store; 6 disk; 7 model missing or mismatched; 8 nothing to do; 130 / 143 interrupted after a commit.",
)
@click.version_option(__version__, prog_name="embedx")
def cli() -> None:
    """Turn audio into searchable, reusable embeddings.

    \b
    embedx extract recordings/ -o indexes/field     embed every file of a folder
    embedx search indexes/field query.wav           find what sounds like query.wav
    embedx probe indexes/field --label species      see how well the vectors tell labels apart
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what goes wrong becomes a sentence on stderr, and JSON with --json."""
    given = sys.argv[1:] if arguments is None else arguments

    def echo_failure(message: str, code: int) -> int:
        if "--json" in given:
            click.echo(json.dumps({"exit_code": code, "error": message}, indent=1))
        return code

    def complain(message: str, code: int) -> int:
        click.echo(f"Error: {message}", err=True)
        return echo_failure(message, code)

    try:
        result = cli.main(arguments, prog_name="embedx", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return echo_failure(error.format_message(), error.exit_code)
    except click.Abort:
        return EXIT_INTERRUPTED
    except EmbedxError as error:
        return complain(str(error), error.exit_code)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return complain(f"The system refused: {error}", EXIT_DISK)
    except Exception as error:  # the last resort: no user sees a traceback that was not asked for
        if os.environ.get("EMBEDX_DEBUG"):
            raise
        return complain(
            f"Internal error ({type(error).__name__}: {error}). This is a fault of embedx: please report it with the "
            "output of the same command under EMBEDX_DEBUG=1. What was committed is safe.",
            EXIT_INTERNAL,
        )


def main() -> None:
    """Be the program `embedx`."""
    atexit.register(gc.freeze)  # Python looks for garbage once more as it ends, 0.6 s among the objects of torch
    sys.exit(run())
