"""The demo of `make demo`: extract, search, probe, train and predict, each command printed as a user would type it.

Run it as `python -m embedx.cli.demo [--folder FOLDER] [CORPUS]`. Without a corpus it makes one.
"""

import argparse
import io
import os
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import soundfile

from embedx.cli.app import run
from embedx.collection.collection import Collection
from embedx.datasets.synthetic import SOURCES, synthesise, synthesise_clip

COLLECTION = "indexes/demo"
REPORT_LINES = 12  # of the reports of probe and train: the verdict, warnings and the first scores


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def embedx(*arguments: str, allowed: tuple[int, ...] = (0,), lines: int | None = None) -> None:
    """Print an embedx command, then run it in this process; an exit code that is not allowed ends the demo.

    Args:
        arguments: the words after `embedx`.
        allowed: the exit codes with which the demo continues.
        lines: print only this many lines of the output; None for all.
    """
    words = [f'"{word}"' if "'" in word else shlex.quote(word) for word in arguments]
    print(f"$ embedx {' '.join(words)}", flush=True)
    with io.BytesIO() as printed, io.TextIOWrapper(printed, encoding="utf-8", write_through=True) as stdout:
        with redirect_stdout(stdout):
            code = run(arguments)
        output = printed.getvalue().decode().splitlines()
    print("\n".join(output[:lines]), flush=True)
    if lines is not None and len(output) > lines:
        print(f"... ({len(output) - lines} more lines)", flush=True)
    if code not in allowed:
        sys.exit(code)


def main() -> None:
    """Run the demo on a folder of the user, or on a synthetic corpus."""
    parser = argparse.ArgumentParser(description="Show embedx on a folder of audio, or on synthetic sounds.")
    parser.add_argument("corpus", nargs="?", help="your own folder of audio")
    parser.add_argument("--folder", default="build/demo", help="where the synthetic corpus is written")
    options = parser.parse_args()
    if options.corpus:
        run_on_own_corpus(options.corpus)
    else:
        run_on_synthetic_corpus(Path(options.folder))


def run_on_synthetic_corpus(folder: Path) -> None:
    """Make a corpus, embed it, search with a clip that is not in it, probe its labels and train a classifier."""
    manifest = synthesise(folder / "corpus")
    say(
        f"1. A synthetic corpus: 10 kinds of sound, 5 sources of each kind, 4 clips of each source, in {folder}/corpus."
    )
    say("2. Embed it. (Run again, the command embeds only new and changed files.)")
    embedx("extract", str(manifest), "-o", COLLECTION, "--group", "source")
    query = folder / "query.wav"
    samples, rate = synthesise_clip("birdsong", SOURCES // 2, take=99)
    soundfile.write(query, samples, rate)
    say("3. Search with a clip of birdsong that is not in the corpus.")
    embedx("search", COLLECTION, str(query), "-k", "5", "--columns", "source")
    say("4. Search only among the sounds that are not birdsong.")
    embedx("search", COLLECTION, str(query), "-k", "3", "--where", "label <> 'birdsong'")
    say("5. How well do the vectors separate the kinds of sound? All clips of a source are on one side of each split.")
    embedx("probe", COLLECTION, lines=REPORT_LINES)
    say("6. Train a classifier, and ask it about the clip.")
    embedx("train", COLLECTION, "--kind", "prototype", "--name", "kinds", lines=1)
    embedx("predict", COLLECTION, str(query), "--head", "kinds", "-k", "2")
    say(f"To search from other programs: embedx serve {COLLECTION} (docs/service.md)")
    say(f"To look and listen in the browser: embedx open {COLLECTION}")


def run_on_own_corpus(source: str) -> None:
    """Embed a folder of the user, search with one of its files, and probe it if it has labels."""
    name = os.path.basename(os.path.abspath(source)) or "corpus"
    collection = f"indexes/demo-{name}"
    say(f"1. Embed {source}. (Run again, the command embeds only new and changed files.)")
    embedx("extract", source, "-o", collection, allowed=(0, 3))
    with Collection(collection) as opened:
        rows = opened.store.rows()
    if not rows:
        sys.exit(f"No file in {source} could be embedded. `embedx status {collection} --failed` says why.")
    say("2. Search with one of its files, and leave the file itself out.")
    embedx("search", collection, rows[0].path, "-k", "5", "--exclude-self")
    if len({row.label for row in rows if row.label}) > 1:
        say("3. How well do the vectors separate the labels?")
        embedx("probe", collection, allowed=(0, 2), lines=REPORT_LINES)  # 2: too few labels; the message says why
    else:
        say("3. There are no labels (from one folder per class, or a known data set), so there is nothing to probe.")
    say(f"To search from other programs: embedx serve {collection} (docs/service.md)")
    say(f"To look and listen in the browser: embedx open {collection}")


if __name__ == "__main__":
    main()
