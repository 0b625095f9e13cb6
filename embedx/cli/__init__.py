"""The command line: options in, results out, no logic. One file per group of commands; `app` is the program."""

from embedx.cli.app import main, run

__all__ = ["main", "run"]
