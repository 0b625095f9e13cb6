"""The demo of `make demo`: extract, search and probe, each command printed as a user would type it.

Run as `python -m embedx.cli.demo [--folder FOLDER] [CORPUS]`. Without a corpus it makes one.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import soundfile

from embedx.collection.collection import Collection
from embedx.datasets.synthetic import SOURCES, synthesise, synthesise_clip

COLLECTION = "indexes/demo"


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def embedx(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Print an embedx command, then run it; a failure ends the demo with its exit code."""
    typed = [f'"{word}"' if "'" in word else shlex.quote(word) for word in arguments]
    print(f"$ embedx {' '.join(typed)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "embedx", *arguments], check=False).returncode
    if code not in allowed:
        sys.exit(code)


def main() -> None:
    """Run the demo on a corpus of the user, or on a made one."""
    parser = argparse.ArgumentParser(description="Show embedx on a folder of audio, or on a corpus made of nothing.")
    parser.add_argument("corpus", nargs="?", help="your own folder of audio")
    parser.add_argument("--folder", default="build/demo", help="where the made corpus is written")
    options = parser.parse_args()
    if options.corpus:
        on_own_corpus(options.corpus)
    else:
        on_made_corpus(Path(options.folder))


def on_made_corpus(folder: Path) -> None:
    """Make a corpus, embed it, search with a clip that is not in it, and probe its labels."""
    manifest = synthesise(folder / "corpus")
    say(f"1. A corpus of 10 kinds of sound, 5 sources each, 4 takes of every source: {manifest.parent}")
    say("2. Embed it. (The same command again does only what is missing.)")
    embedx("extract", str(manifest), "-o", COLLECTION, "--group", "source")
    query = folder / "query.wav"
    samples, rate = synthesise_clip("birdsong", SOURCES // 2, take=99)
    soundfile.write(query, samples, rate)
    say("3. Search with a clip of birdsong that is not in the corpus.")
    embedx("search", COLLECTION, str(query), "-k", "5", "--columns", "source")
    say("4. The same, among the sounds that are no birdsong: the filter works inside the search.")
    embedx("search", COLLECTION, str(query), "-k", "5", "--where", "label <> 'birdsong'")
    say("5. How well do the vectors tell the kinds apart, when a source is never on both sides of a split?")
    embedx("probe", COLLECTION)
    say("6. Keep a classifier, and ask it about the clip.")
    embedx("train", COLLECTION, "--kind", "prototype", "--name", "kinds")
    embedx("predict", COLLECTION, str(query), "--head", "kinds", "-k", "3")


def on_own_corpus(source: str) -> None:
    """Embed a folder of the user, search with one of its files, and probe if it has labels."""
    name = os.path.basename(os.path.abspath(source)) or "corpus"
    collection = f"indexes/demo-{name}"
    say(f"1. Embed {source}. (The same command again does only what is missing.)")
    embedx("extract", source, "-o", collection, allowed=(0, 3))
    with Collection(collection) as opened:
        rows = opened.store.rows()
    if not rows:
        sys.exit(f"Nothing in {source} could be embedded: see `embedx status {collection} --failed`.")
    say("2. Search with one of its files, which is left out of the answer.")
    embedx("search", collection, rows[0].path, "-k", "5", "--exclude-self")
    if len({row.label for row in rows if row.label}) > 1:
        say("3. How well do the vectors tell the labels apart?")
        embedx("probe", collection, allowed=(0, 2))  # 2: the labels do not allow it, and the message says why
    else:
        say("3. No labels were found (folders per class, or a known data set), so there is nothing to probe.")


if __name__ == "__main__":
    main()
