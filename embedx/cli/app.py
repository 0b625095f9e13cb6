"""The command line: options in, results out, no logic. One file per group of commands.

Results go to standard output, everything else to standard error. A command is imported when it is called, and the
modules of embedx inside it, so that `embedx --help` is fast.
"""

import atexit
import gc
import io
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module

import click

from embedx._version import __version__
from embedx.cli.output import say
from embedx.cli.streams import protect_standard_streams
from embedx.errors import EmbedxError, hide_secrets
from embedx.filesystem.paths import display_path, explain_os_error
from embedx.text import dump_json

EXIT_INTERNAL = 1
EXIT_DISK = 6
EXIT_INTERRUPTED = 130

COMMANDS = {  # name -> module, and the description in `embedx --help`
    "extract": ("extract", "Embed audio into a collection."),
    "search": ("search", "Find the rows most similar to a recording, a row or a text."),
    "probe": ("probe", "Measure how well the vectors separate labels."),
    "train": ("train", "Train, evaluate and save a classifier (head)."),
    "finetune": ("finetune", "Fine-tune a model on labelled audio, evaluate and save it."),
    "predict": ("predict", "Predict labels for rows or recordings."),
    "suggest": ("suggest", "Choose the rows to label next."),
    "heads": ("heads", "List, show, export and delete the heads of a collection."),
    "bench": ("bench", "Compare models, layers, poolings and heads; measure speed."),
    "duplicates": ("duplicates", "Find duplicate recordings and rows."),
    "index": ("index", "Build an approximate index with a chosen recall and size."),
    "status": ("status", "Show what a collection holds and what failed."),
    "rm": ("maintenance", "Delete rows of a collection permanently."),
    "label": ("label", "Set labels and metadata of rows; list and undo changes."),
    "compact": ("maintenance", "Free the disk space of deleted rows."),
    "backup": ("maintenance", "Copy a collection, also while it is written."),
    "push": ("push", "Copy a collection to a bucket, or what has changed of it."),
    "verify": ("maintenance", "Check a collection for damage, and repair it."),
    "merge": ("maintenance", "Merge collections that have the same recipe."),
    "share": ("share", "Write a model or collection with a card, for the model hub."),
    "export": ("formats", "Write vectors and metadata for other tools."),
    "import": ("formats", "Create a collection from vectors made elsewhere."),
    "app": ("app_command", "Show a collection as a Gradio interface: sound in, labels and hits out."),
    "open": ("open", "Show collections in the browser: search, listen, label."),
    "serve": ("serve", "Serve collections over HTTP: search, embed, predict, label."),
    "mcp": ("mcp", "Serve collections to agents that speak MCP."),
    "models": ("status", "List the models and where their weights are."),
    "completion": ("status", "Print the completion script of a shell."),
}
RESULTS = frozenset(  # commands whose work is what they print; the others have stored their work before they print
    ("search", "probe", "predict", "suggest", "heads", "duplicates", "status", "models", "completion")
)


def load_command(name: str) -> click.Command:
    """Import a command of `COMMANDS`."""
    module = import_module(f"embedx.cli.{COMMANDS[name][0]}")
    command: click.Command = getattr(module, "import_" if name == "import" else name)
    return command


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; return None if the name is unknown."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, description) for name, (_, description) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
    Exit codes:
      0         done
      1         internal error
      2         wrong option, argument or input
      3         done, but some inputs failed
      4         another process is writing the collection
      5         the collection is damaged, or made by a newer version
      6         the disk is full, or a file cannot be read or written
      7         the model is missing, or it is not the model of the collection
      8         nothing to do
      130, 143  interrupted; everything finished so far is saved
    """,
)
@click.version_option(__version__, prog_name="embedx")
def cli() -> None:
    """Turn audio into embeddings that you can search, classify and reuse.

    \b
    embedx extract recordings/ -o indexes/field     embed all audio files of a folder
    embedx search indexes/field query.wav           find recordings that sound like query.wav
    embedx probe indexes/field --label species      measure how well the vectors separate the species
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    An error becomes one sentence on standard error, and with --json also an object on standard output.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        result = cli.main(arguments, prog_name="embedx", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        message = error.format_message()
        say(shown.getvalue().replace(message, display_path(message)), nl=False, err=True)
        print_error_as_json(words, message, error.exit_code)
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except Exception as error:  # no user sees a traceback without asking for it
        message, code = explain(error)
        if code == EXIT_INTERNAL and os.environ.get("EMBEDX_DEBUG"):
            raise
        say(f"Error: {display_path(message)}", err=True)
        print_error_as_json(words, message, code)
        return code


def explain(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    if isinstance(error, EmbedxError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return explain_os_error(error), EXIT_DISK
    return (
        f"Internal error ({type(error).__name__}: {error}). This is a bug in embedx. Please report it with the output "
        "of the same command run with EMBEDX_DEBUG=1. All committed data is safe.",
        EXIT_INTERNAL,
    )


def print_error_as_json(words: Sequence[str], message: str, code: int) -> None:
    """Print an error as JSON if the command line asks for it with --json."""
    if "--json" in words:
        say(dump_json({"exit_code": code, "error": hide_secrets(message)}))


def main() -> None:
    """Run the program `embedx`.

    A standard stream that is closed, full or broken does not end the work. The exit code is that of the work, except
    that 0 becomes 6 if results could not be written; see `RESULTS`. A reader that has seen enough, such as head, is no
    error.
    """
    atexit.register(gc.freeze)  # the last garbage collection of Python takes 0.6 s with the objects of torch
    output = protect_standard_streams()
    code = run()
    sys.stdout.flush()
    error = output.error
    if error is not None and not isinstance(error, BrokenPipeError):
        say(f"Error: Standard output cannot be written: {error.strerror}.", err=True)
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
        code = EXIT_DISK if code == 0 and command in RESULTS else code
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()  # a run was interrupted during a long batch, which Python would wait for
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
