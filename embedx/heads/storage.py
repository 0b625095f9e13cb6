"""Storage: the heads of a collection, each in a folder of its own under heads/."""

import contextlib
import shutil
from pathlib import Path

from embedx.errors import EmbedxError, UsageError
from embedx.filesystem.atomic import sync_folder
from embedx.heads.files import DESCRIPTION, OLD_ARRAYS, OWN_FILE, locked, read_files
from embedx.heads.head import Head

FOLDER = "heads"  # in the folder of a collection


def list_heads(folder: Path) -> list[str]:
    """Return the names of the heads of a collection, sorted. Folders of an interrupted version 1 are left out."""
    names = (file.parent.name for file in (folder / FOLDER).glob(f"*/{DESCRIPTION}"))
    return sorted(name for name in names if not name.endswith((".new", ".old")))


def load_head(folder: Path, name: str | None) -> Head:
    """Return a saved head of a collection; without a name the only one.

    Raises:
        UsageError: there is no head of that name; or no name is given and there is not exactly one head.
        StoreError: the head is damaged.
    """
    names = list_heads(folder)
    if name is None and len(names) == 1:
        name = names[0]
    if name is None and names:
        raise UsageError(f"There are several heads in {folder}; choose one with --head (head=): {', '.join(names)}.")
    if name not in names:
        missing = "no head" if name is None else f"no head {name!r}"
        advice = f"Heads: {', '.join(names)}." if names else "`embedx train` trains one."
        raise UsageError(f"There is {missing} in {folder}. {advice}")
    return Head.load(folder / FOLDER / name)


def load_heads(folder: Path) -> dict[str, Head]:
    """Return name -> head of a collection, sorted by name.

    Raises:
        StoreError: a head is damaged.
    """
    return {name: Head.load(folder / FOLDER / name) for name in list_heads(folder)}


def remove_head(folder: Path, name: str) -> None:
    """Delete a saved head. It is gone once its description is, whatever else an interruption leaves.

    Raises:
        UsageError: there is no head of that name.
    """
    if name not in list_heads(folder):
        raise UsageError(f"There is no head {name!r} in {folder}. `embedx heads list {folder}` lists them.")
    head_folder = folder / FOLDER / name
    with locked(folder / FOLDER):
        (head_folder / DESCRIPTION).unlink(missing_ok=True)
        sync_folder(head_folder)
        shutil.rmtree(head_folder)


def find_unused_files(folder: Path) -> list[Path]:
    """Return the files in the heads of a collection that an interrupted training left: the next one deletes them."""
    unused = []
    for path in sorted((folder / FOLDER).glob("*")):
        kept = {DESCRIPTION, OLD_ARRAYS}
        with contextlib.suppress(EmbedxError):  # a damaged head; `find_head_issues` names it
            kept = {DESCRIPTION, read_files(path)[1].name}
        files = [file for file in path.glob("*") if OWN_FILE.fullmatch(file.name)]
        unused += [file for file in sorted(files) if file.name not in kept]
    return unused


def find_head_issues(folder: Path) -> list[tuple[str, str, str]]:
    """Return what is wrong in the folder of the heads of a collection, as (kind, path, detail).

    The kind is "head" for a head that cannot be used, and "foreign" for a file that does not belong to a head. Files
    that an interrupted training left behind are not listed; see `find_unused_files`.
    """
    heads, issues = folder / FOLDER, []
    for path in sorted(heads.iterdir()) if heads.is_dir() else []:
        if not path.is_dir() or (path.name.startswith(".") and not (path / DESCRIPTION).exists()):
            issues.append(("foreign", str(path), "It does not belong to a head."))
            continue
        if path.name.endswith((".new", ".old")):
            name = path.stem
            if (path / DESCRIPTION).exists() and not (heads / name / DESCRIPTION).exists():
                issues.append(("head", str(path), f"An interrupted training left it. Rename it to {name} to use it."))
            continue
        issues += [
            ("foreign", str(file), "It does not belong to a head.")
            for file in sorted(path.iterdir())
            if not OWN_FILE.fullmatch(file.name) or file.is_symlink() or file.is_dir()
        ]
        if (path / DESCRIPTION).exists():
            try:
                Head.load(path)
            except EmbedxError as error:
                issues.append(("head", str(path), str(error)))
    return issues
