"""The command line: options in, results out, no logic. One file per group of commands.

Results go to stdout, everything else to stderr. Modules of embedx are imported inside the commands, so that
`embedx --help` is quick.
"""

import os
import sys
from collections.abc import Sequence

import click

from embedx import __version__
from embedx.cli.bench import bench
from embedx.cli.duplicates import duplicates
from embedx.cli.extract import extract
from embedx.cli.index import index
from embedx.cli.interchange import export, import_
from embedx.cli.output import print_json
from embedx.cli.predict import predict
from embedx.cli.probe import probe
from embedx.cli.search import search
from embedx.cli.status import completion, models, status
from embedx.cli.suggest import suggest
from embedx.cli.train import heads, train
from embedx.cli.upkeep import compact, label, merge, rm, verify
from embedx.errors import EmbedxError

EXIT_INTERNAL = 1
EXIT_DISK = 6
EXIT_INTERRUPTED = 130


@click.group(
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


COMMANDS = (
    *(extract, search, probe, train, predict, suggest, heads, bench, duplicates, index, status),
    *(rm, label, compact, verify, merge),
    *(export, import_, models, completion),
)
for command in COMMANDS:
    cli.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what goes wrong becomes a sentence on stderr, and JSON with --json."""
    given = sys.argv[1:] if arguments is None else arguments

    def complain(message: str, code: int) -> int:
        click.echo(f"Error: {message}", err=True)
        if "--json" in given:
            print_json({"exit_code": code, "error": message})
        return code

    try:
        result = cli.main(arguments, prog_name="embedx", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        if "--json" in given:
            print_json({"exit_code": error.exit_code, "error": error.format_message()})
        return error.exit_code
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
    sys.exit(run())
